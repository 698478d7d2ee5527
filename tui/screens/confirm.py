"""The question before anything is stopped: who, what goes with it, what comes back. No way round it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from diag.wire.model import Owner
from tui import format as fmt
from tui.details import NOTABLE, Spans, later, wrapped
from tui.events import Sample
from tui.view import GLYPHS, SUBSYSTEMS, ancestors_of, subtree_of
from tui.widgets.tones import content

if TYPE_CHECKING:
    from tui.app import Diagtop

VERBS = {"stop": "Stop", "restart": "Restart", "cancel": "Cancel", "start": "Start"}
INDENT = len("  takes along ")
NAMED_CELLS = 90
"""Names of what goes along take two lines at most; the rest is counted."""


def action_for(wanted: str, owner: Owner) -> str | None:
    """The action to take on this owner for ``stop`` or ``restart``; None if it has none. A plain task
    can only be cancelled."""
    if wanted in owner.actions:
        return wanted
    return "cancel" if wanted == "stop" and "cancel" in owner.actions else None


class Confirm(ModalScreen[None]):
    """Focus rests on "Keep it". Supervisors and applications go only after their name was typed.

    ↑ and ↓ choose between the owner and those above it, so that a whole application can go. The figures
    follow the samples while the question stands.
    """

    BINDINGS: ClassVar[list[Binding]] = [  # type: ignore[assignment]
        Binding("escape", "keep", "keep", show=False),
        Binding("up", "choose(1)", "wider", show=False, priority=True),
        Binding("down", "choose(-1)", "narrower", show=False, priority=True),
        Binding("right", "app.focus_next", show=False),
        Binding("left", "app.focus_previous", show=False),
    ]

    def __init__(self, wanted: str, choices: list[tuple[str, Owner]]) -> None:
        super().__init__()
        self._wanted = wanted
        self._choices = choices
        self._at = 0
        self._problem = ""

    @classmethod
    def for_owner(cls, wanted: str, owner: Owner, sample: Sample) -> Confirm | None:
        """The question about this owner, or about those above it; None where nothing can be done."""
        chain = [owner, *ancestors_of(sample, owner)]
        choices = [(action, each) for each in chain if (action := action_for(wanted, each)) is not None]
        return cls(wanted, choices) if choices and choices[0][1] is owner else None

    def compose(self) -> ComposeResult:
        with Vertical(id="question"):
            yield Static("", id="about", markup=False)
            yield Input(id="name", compact=True, select_on_focus=False)
            yield Static("", id="problem", markup=False)
            with Horizontal(id="answers"):
                yield Button("Keep it", id="keep", compact=True)
                yield Button("", id="go", variant="error", compact=True)

    def on_mount(self) -> None:
        self._choose(0)

    # -- what it says -------------------------------------------------------------------------------

    @property
    def action(self) -> str:
        return self._choices[self._at][0]

    @property
    def owner(self) -> Owner:
        return self._choices[self._at][1]

    @property
    def needs_name(self) -> bool:
        return self.owner.kind in SUBSYSTEMS

    def live(self) -> None:
        """New figures for the same owner. Its identity never changes under the question."""
        sample = self._sample
        if sample is None or not self.query("#about"):
            return
        action, owner = self._choices[self._at]
        now = sample.owner(owner.id)
        if now is not None:
            self._choices[self._at] = (action, now)
        cut = sample.table.total_owners > len(sample.table.owners)
        gone = now is None and not cut
        self.query_one("#go", Button).disabled = gone
        about = self.query_one("#about", Static)
        lines = wrapped(self._about(sample, gone), max(30, about.size.width or 66), INDENT)
        about.update(content(lines))
        self.query_one("#problem", Static).update(content([[(self._problem, "bad")]]))

    @property
    def _sample(self) -> Sample | None:
        # The newest, even under a frozen picture: what is predicted must be what is now.
        return cast("Diagtop", self.app).latest

    def _about(self, sample: Sample, gone: bool) -> list[Spans]:
        owner, verb = self.owner, VERBS[self.action]
        more = "" if sample.table.cost.complete else "≥"
        lines: list[Spans] = [
            [(f"{verb} this {owner.kind.replace('_', ' ')}?", "bad")],
            [],
            [(f"{GLYPHS.get(owner.kind, '·')} {fmt.plain(owner.name)}", "strong")],
        ]
        if gone:
            return [*lines, [("It ended meanwhile: there is nothing left to do.", "bad")]]
        if owner.ancestors:
            lines.append(
                [("  under       ", "dim"), (" ← ".join(fmt.plain(name) for name in owner.ancestors), "")]
            )
        lines.append(self._subtree(sample, owner))
        lines.append(
            [
                ("  comes back  ", "dim"),
                (f"{more}{fmt.size(owner.retained_bytes)}", "strong"),
                (f"  {more}{fmt.exact(owner.retained_bytes)} predicted", "dim"),
            ]
        )
        if owner.loop_bytes > NOTABLE * owner.retained_bytes:
            lines.append([("  " + later(owner), "waste")])
        if self._at + 1 < len(self._choices):
            wider = self._choices[self._at + 1][1]
            lines.append([("  ↑ ", "key"), (f"rather {fmt.plain(wider.name)}, the {wider.kind}", "dim")])
        if self._at:
            narrower = self._choices[self._at - 1][1]
            lines.append([("  ↓ ", "key"), (f"back to {fmt.plain(narrower.name)}", "dim")])
        lines.append([])
        if self.needs_name:
            lines.append([("Type its name to go ahead:", "")])
        return lines

    def _subtree(self, sample: Sample, owner: Owner) -> Spans:
        below = subtree_of(sample, owner)
        if not below:
            return [("  takes along ", "dim"), ("nothing else", "")]
        at_least = "≥" if sample.table.total_owners > len(sample.table.owners) else ""
        every = [fmt.middle(fmt.plain(each.name), 30) for each in below]
        names = [name for at, name in enumerate(every) if len(", ".join(every[: at + 1])) <= NAMED_CELLS]
        names = names or every[:1]
        rest = f" and {len(below) - len(names):,} more" if len(below) > len(names) else ""
        return [
            ("  takes along ", "dim"),
            (f"{at_least}{len(below):,}", "strong"),
            (f": {', '.join(names)}{rest}", ""),
        ]

    # -- what can be done ---------------------------------------------------------------------------

    def action_choose(self, step: int) -> None:
        at = self._at + step
        if 0 <= at < len(self._choices):
            self._choose(at)

    def _choose(self, at: int) -> None:
        self._at = at
        self._problem = ""
        name = self.query_one("#name", Input)
        name.value = ""
        name.display = self.needs_name
        self.query_one("#go", Button).label = f"{VERBS[self.action]} it"
        self.query_one("#keep", Button).focus()
        self.live()

    def on_key(self, event: events.Key) -> None:
        # Typing anywhere goes to the name: one key less to know. Enter stays with what has the focus.
        name = self.query_one("#name", Input)
        if name.display and not name.has_focus and event.is_printable and event.character not in (None, " "):
            event.stop()
            event.prevent_default()
            name.focus()
            name.insert_text_at_cursor(event.character or "")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._go()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "go":
            self._go()
        else:
            self.action_keep()

    def action_keep(self) -> None:
        self.dismiss()

    def _go(self) -> None:
        if self.query_one("#go", Button).disabled:
            return
        if self.needs_name and self.query_one("#name", Input).value.strip() != self.owner.name:
            self._problem = "That is not its name; nothing was done."
            self.query_one("#name", Input).focus()
            self.live()
            return
        action, owner = self._choices[self._at]
        self.dismiss()
        cast("Diagtop", self.app).act(action, owner)
