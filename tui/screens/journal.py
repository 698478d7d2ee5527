"""What was done, by anybody: predicted, measured, RSS before and after."""

from __future__ import annotations

from textual.widget import Widget

from tui import format as fmt
from tui.details import Spans
from tui.events import Line
from tui.keymap import EVERYWHERE
from tui.screens.live import LiveScreen
from tui.view import Cell, Row
from tui.widgets.grid import Column, Grid


class JournalScreen(LiveScreen):
    """Latest first."""

    VIEW = "journal"
    SCOPES = (EVERYWHERE,)
    COLUMNS = (
        Column("time", "TIME", 8, right=False),
        Column("action", "ACTION", 9, right=False),
        Column("victim", "VICTIM", right=False),
        Column("predicted", "PREDICT", 8),
        Column("freed", "FREED", 8),
        Column("rss", "RSS", 17),
        Column("outcome", "OUTCOME", 24, right=False, needs=120),
        Column("who", "BY", 16, right=False, needs=140),
    )

    def body(self) -> list[Widget]:
        return [Grid(self.COLUMNS, empty="Nothing was done yet.", id="grid")]

    def on_mount(self) -> None:
        self.query_one(Grid).focus()

    def draw(self) -> None:
        lines = self.diagtop.journal
        self.query_one(Grid).show([_row(line) for line in reversed(lines)])

    def summary(self) -> Spans:
        return [(fmt.count(len(self.diagtop.journal), "line"), "dim")]


def _row(line: Line) -> Row:
    good = line.outcome in ("done", "back")
    rss = ""
    if line.rss_before is not None and line.rss_after is not None:
        rss = f"{fmt.size(line.rss_before)}→{fmt.size(line.rss_after)}"
    victim = fmt.plain(line.victim)
    return Row(
        f"{line.time}/{line.action}/{line.victim}/{line.caller_pid}",
        {
            "time": Cell(fmt.clock(line.time), "dim"),
            "action": Cell(("✓ " if good else "! ") + line.action, "strong" if good else "bad"),
            "victim": Cell(victim if good else f"{victim}: {fmt.plain(line.outcome)}".lstrip(": ")),
            "predicted": Cell("" if line.predicted_bytes is None else fmt.size(line.predicted_bytes)),
            "freed": Cell("" if line.freed_bytes is None else fmt.size(line.freed_bytes), "good"),
            "rss": Cell(rss),
            "outcome": Cell(fmt.plain(line.outcome), "dim" if good else "bad"),
            "who": Cell("" if line.uid is None else f"uid {line.uid} pid {line.caller_pid}", "dim"),
        },
    )
