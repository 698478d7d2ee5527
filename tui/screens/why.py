"""One owner in full: exact figures, and the paths that keep its memory alive."""

from __future__ import annotations

from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from diag.wire.model import Owner, Why
from tui import format as fmt
from tui.details import Spans, more_lines, owner_lines, why_lines
from tui.keymap import BACK, EVERYWHERE, bindings
from tui.screens.live import LiveScreen
from tui.widgets.tones import content


class WhyScreen(LiveScreen):
    """Asks the target once, on opening; the figures above follow the samples."""

    SCOPES = (BACK, EVERYWHERE)
    BINDINGS = bindings(BACK)

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.owner = owner
        self._why: Why | None = None
        self._problem = ""

    def body(self) -> list[Widget]:
        return [VerticalScroll(Static("", id="why-text", markup=False), id="why")]

    def on_mount(self) -> None:
        self.query_one("#why").focus()
        self.diagtop.ask_why(self.owner)

    @property
    def answered(self) -> bool:
        return self._why is not None or bool(self._problem)

    def answer(self, why: Why | None, problem: str = "") -> None:
        self._why, self._problem = why, problem
        self.live()

    def draw(self) -> None:
        sample = self.diagtop.sample
        now = sample.owner(self.owner.id) if sample is not None else None
        gone = now is None and sample is not None
        self.owner = now or self.owner
        width = max(40, self.size.width - 4)
        lines = owner_lines(sample, self.owner, width)
        if gone:
            lines.insert(
                1, [("It ended, or fell out of the rows that are shown: these are its last figures.", "bad")]
            )
        title: Spans = [("Why it is alive", "strong")]
        lines.append([])
        if self._problem:
            lines += [title, [(fmt.plain(self._problem), "bad")]]
        elif self._why is None:
            lines.append([*title, ("  looking …", "busy")])
        else:
            lines += [title, *why_lines(self._why)]
        lines += [[], [("More", "strong")], *more_lines(self.owner, width)]
        self.query_one("#why-text", Static).update(content(lines))

    def summary(self) -> Spans:
        return [(f"why {fmt.middle(fmt.plain(self.owner.name), 30)}", "dim")]

    def action_back(self) -> None:
        self.dismiss()
