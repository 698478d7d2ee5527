"""What a collection released, by owner: recon's bin_leak, by bytes."""

from __future__ import annotations

from textual.widget import Widget
from textual.widgets import Static

from tui import format as fmt
from tui.details import Spans
from tui.events import Done
from tui.keymap import BACK, EVERYWHERE, bindings
from tui.screens.live import LiveScreen
from tui.view import released_rows
from tui.widgets.grid import Column, Grid
from tui.widgets.tones import content


class ReleasedScreen(LiveScreen):
    """The owners that let go of most, and how much of what was freed nobody owned."""

    SCOPES = (BACK, EVERYWHERE)
    BINDINGS = bindings(BACK)
    COLUMNS = (
        Column("name", "  NAME", right=False),
        Column("released", "RELEASED", 9),
        Column("before", "BEFORE", 9),
        Column("after", "AFTER", 9),
    )

    def __init__(self, done: Done) -> None:
        super().__init__()
        self._done = done

    def body(self) -> list[Widget]:
        grid = Grid(self.COLUMNS, empty="No owner holds less than before.", id="grid")
        return [Static(content(self._story()), id="released", markup=False), grid]

    def on_mount(self) -> None:
        grid = self.query_one(Grid)
        grid.show(released_rows(self._done.released, self._done.complete), "released")
        grid.focus()

    def _story(self) -> list[Spans]:
        result = self._done.collected
        freed = result.freed_bytes if result is not None else 0
        owned = sum(each.released_bytes for each in self._done.released)
        lines: list[Spans] = [
            [
                (f" GC freed {fmt.size(freed)}", "strong"),
                (f"; owners held {fmt.size(self._done.held_bytes)}", ""),
                (f" and let go of {fmt.size(owned)} of it.", ""),
            ],
            [(" Own shares, before minus after; owners at work change by themselves too.", "dim")],
        ]
        if not self._done.complete:
            lines[1] = [
                (" A picture was cut off: not everybody is compared, and the figures are rough.", "waste")
            ]
        return lines

    def summary(self) -> Spans:
        return [("released by GC", "dim")]

    def action_back(self) -> None:
        self.dismiss()
