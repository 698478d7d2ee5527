"""The pane with everything known about the owner under the cursor."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from diag.wire.model import Owner
from tui.details import more_lines, owner_lines
from tui.events import Sample
from tui.widgets.tones import content


class Detail(VerticalScroll, can_focus=False):
    """Scrolls with the mouse; the cursor of the grid decides what it shows."""

    def __init__(self, id: str = "detail") -> None:
        super().__init__(id=id)
        self._key: str | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="detail-text", markup=False)

    def show(self, sample: Sample | None, owner: Owner | None) -> None:
        if not self.is_mounted:
            return
        text = self.query_one("#detail-text", Static)
        if owner is None:
            text.update("")
            return
        if owner.id != self._key:
            self._key = owner.id
            self.scroll_home(animate=False)
        width = max(20, self.scrollable_content_region.width)
        lines = owner_lines(sample, owner, width)
        if self.size.height > 12:
            lines += more_lines(owner, width)
        text.update(content(lines))
