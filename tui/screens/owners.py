"""Screens that list owners: a grid, the pane for the one under the cursor, and what can be done to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Input

from diag.wire.model import Owner
from tui import format as fmt
from tui.details import Spans
from tui.events import Sample
from tui.keymap import EVERYWHERE, OWNERS, TREE, bindings, keys_of
from tui.messages import Chosen, Moved
from tui.screens.confirm import Confirm
from tui.screens.live import LiveScreen
from tui.screens.why import WhyScreen
from tui.session import ORDERS
from tui.view import Row, rank_rows, tree_rows
from tui.widgets.detail import Detail
from tui.widgets.grid import Column, Grid

_OWNER_ACTIONS = {key.action for key in keys_of(OWNERS, TREE)}


class OwnersScreen(LiveScreen):
    """Common to the ranked list and the tree."""

    SCOPES: ClassVar[tuple[str, ...]] = (EVERYWHERE, OWNERS)
    BINDINGS = bindings(OWNERS)
    COLUMNS: ClassVar[tuple[Column, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.pattern = ""

    def body(self) -> list[Widget]:
        grid = Grid(self.COLUMNS, empty="Nothing to show yet.", id="grid")
        filter_line = Input(
            placeholder="text to look for; !text: rows without it",
            id="filter",
            compact=True,
            select_on_focus=False,
        )
        filter_line.display = False
        return [Container(grid, Detail(), id="split"), filter_line]

    def rows(self, sample: Sample) -> Sequence[Row]:
        raise NotImplementedError

    def on_mount(self) -> None:
        self.grid.focus()

    @property
    def grid(self) -> Grid:
        return self.query_one(Grid)

    @property
    def owner(self) -> Owner | None:
        """Who is under the cursor."""
        sample = self.diagtop.sample
        return sample.owner(self.grid.cursor_key) if sample is not None else None

    def draw(self) -> None:
        sample = self.diagtop.sample
        if sample is None:
            return
        self.grid.empty = f"No owner matches {self.pattern!r}." if self.pattern else "No owners."
        self.grid.show(self.rows(sample), self._sorted_column(sample))
        wanted = self.diagtop.wanted
        if wanted is not None and self.grid.move_to(wanted):
            self.diagtop.wanted = None
        self.query_one(Detail).show(sample, self.owner)

    def _sorted_column(self, sample: Sample) -> str:
        return sample.order

    def summary(self) -> Spans:
        sample = self.diagtop.sample
        if sample is None:
            return []
        shown, total = len(self.grid.rows), sample.table.total_owners
        counted = f"{shown:,} of {total:,}" if shown < total else fmt.count(total, "owner")
        spans: Spans = [(counted, "dim"), (f" by {sample.order}", "dim")]
        if self.pattern:
            spans.insert(0, (f"/{self.pattern}  ", "waste"))
        return spans

    def on_moved(self, message: Moved) -> None:
        message.stop()
        self.query_one(Detail).show(self.diagtop.sample, self.owner)

    def on_chosen(self, message: Chosen) -> None:
        message.stop()
        self.action_why()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action == "unfilter" or not (self.typing and action in _OWNER_ACTIONS)

    # -- keys ---------------------------------------------------------------------------------------

    def action_why(self) -> None:
        if self.owner is not None:
            self.app.push_screen(WhyScreen(self.owner))

    def action_stop(self) -> None:
        self._confirm("stop")

    def action_restart(self) -> None:
        owner = self.owner
        if owner is None or "stop" in owner.actions or not owner.actions:
            self._confirm("restart")
        elif self.diagtop.may_act():
            # Nothing of it runs: there is nothing to lose by starting it.
            self.diagtop.act("start" if "start" in owner.actions else "restart", owner)

    def _confirm(self, action: str) -> None:
        owner, sample = self.owner, self.diagtop.sample
        if owner is None or sample is None or not self.diagtop.may_act():
            return
        modal = Confirm.for_owner(action, owner, sample)
        if modal is None:
            self.diagtop.say(
                f"{fmt.plain(owner.name)} ({owner.kind}) offers no way to {action} it.",
                "bad",
                "u goes to the supervisor or application that owns it",
            )
        else:
            self.app.push_screen(modal)

    def action_owner(self) -> None:
        owner, sample = self.owner, self.diagtop.sample
        if owner is None or sample is None:
            return
        if sample.owner(owner.parent) is None:
            self.diagtop.say(f"{fmt.plain(owner.name)} is at the top: nothing owns it.")
        else:
            self.diagtop.go_to(owner.parent)

    def action_sort(self) -> None:
        order = self.diagtop.order
        self.diagtop.set_order(ORDERS[(ORDERS.index(order) + 1) % len(ORDERS)])

    def action_filter(self) -> None:
        line = self.query_one("#filter", Input)
        line.display = True
        line.value = self.pattern
        self.set_focus(line)  # at once: the next key may be here already

    def action_unfilter(self) -> None:
        self._filter("")
        self._close_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.display:
            self._filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._filter(event.value)
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.set_focus(self.grid)

    def _filter(self, pattern: str) -> None:
        if pattern != self.pattern:
            self.pattern = pattern
            self.live()


class TasksScreen(OwnersScreen):
    """Who holds most, in the target's own ranking."""

    VIEW = "tasks"
    COLUMNS = (
        Column("name", "  NAME", right=False),
        Column("state", "STATE", 7, right=False, until=88),
        Column("state", "STATE", 10, right=False, needs=88),
        Column("buffers", "BUFS", 9),
        Column("retained", "RETAINED", 9),
        Column("waste", "WASTE", 9),
        Column("growth", "Δ/s", 10),
    )

    def rows(self, sample: Sample) -> Sequence[Row]:
        return rank_rows(sample, self.pattern)


class SupervisorsScreen(OwnersScreen):
    """Who owns whom, with the sums of each branch."""

    VIEW = "supervisors"
    SCOPES = (EVERYWHERE, OWNERS, TREE)
    BINDINGS = bindings(TREE)
    COLUMNS = (
        Column("name", "  NAME", right=False),
        Column("kind", "STRAT", 7, right=False, until=112),
        Column("strategy", "STRATEGY", 18, right=False, needs=112),
        Column("state", "STATE", 10, right=False, needs=112),
        Column("restarts", "RST", 3),
        Column("buffers", "BUFS", 9),
        Column("retained", "RETAINED", 9),
        Column("waste", "WASTE", 9, needs=112),
        Column("growth", "Δ/s", 10),
    )

    def __init__(self) -> None:
        super().__init__()
        self._folded: set[str] = set()

    def rows(self, sample: Sample) -> Sequence[Row]:
        self._folded &= set(sample.index)
        return tree_rows(sample, self.pattern, self._folded)

    def action_fold(self) -> None:
        owner, sample = self.owner, self.diagtop.sample
        if owner is None or sample is None:
            return
        branch = any(each.parent == owner.id for each in sample.table.owners)
        if branch and owner.id not in self._folded:
            self._folded.add(owner.id)
            self.live()
        elif owner.parent is not None:
            self.grid.move_to(owner.parent)

    def action_unfold(self) -> None:
        if self.owner is not None and self.owner.id in self._folded:
            self._folded.discard(self.owner.id)
            self.live()
