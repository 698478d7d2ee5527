"""A table that paints only what is on the screen, with its cursor on a key instead of a line.

Thousands of rows cost nothing but their list: a refresh compares the visible lines with what was
painted and repaints those that differ, so that nothing flickers and a quiet table costs no output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import format as fmt
from tui.keymap import GRID, bindings
from tui.messages import Chosen, Moved
from tui.view import Cell, Row

NOTHING = Cell("")
MARK = "▸"


@dataclass(frozen=True)
class Column:
    """``width`` 0: takes what the others leave. ``needs``: shown from this width of the grid on;
    ``until``: shown below this width only."""

    key: str
    title: str
    width: int = 0
    right: bool = True
    needs: int = 0
    until: int = 10_000


class Grid(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows under a fixed heading. Posts ``Moved`` and ``Chosen``."""

    TONES: ClassVar[tuple[str, ...]] = ("dim", "strong", "rise", "fall", "waste", "bad", "good")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "grid--head",
        "grid--cursor",
        "grid--empty",
        *(f"grid--{tone}" for tone in TONES),
    }
    BINDINGS = bindings(GRID)

    def __init__(self, columns: Sequence[Column], *, empty: str = "", id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._rows: Sequence[Row] = ()
        self._places: dict[str, int] = {}
        self._cursor: str | None = None
        self._follows_first = True
        self._sorted_by = ""
        self.empty = empty
        """What to say where there are no rows."""

    # -- what it shows ------------------------------------------------------------------------------

    @property
    def rows(self) -> Sequence[Row]:
        return self._rows

    @property
    def cursor_key(self) -> str | None:
        return self._cursor

    @property
    def cursor_line(self) -> int:
        """The line the cursor is on, from 0; 0 where there is none."""
        return self._places.get(self._cursor or "", 0)

    def show(self, rows: Sequence[Row], sorted_by: str = "") -> None:
        """Replace the rows. The cursor stays on its owner; if that is gone, on its line. Until somebody
        moves it, it follows whoever is first."""
        before, line, top = self._painted(), self.cursor_line, round(self.scroll_y)
        was_visible = top <= line < top + self._room
        self._rows = rows
        self._places = {row.key: place for place, row in enumerate(rows)}
        self._sorted_by = sorted_by
        old = self._cursor
        if not rows:
            self._cursor = None
        elif self._follows_first:
            self._cursor = rows[0].key
        elif self._cursor not in self._places:
            self._cursor = rows[min(line, len(rows) - 1)].key
        size = Size(self._width, len(rows) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        if was_visible:
            self._reveal()
        after = self._painted()
        if len(before) != len(after):
            self.refresh()
        else:
            for y, (was, now) in enumerate(zip(before, after, strict=True)):
                if was != now:
                    self.refresh(Region(0, y, self._width, 1))
        if self._cursor != old:
            self.post_message(Moved(self._cursor))

    def move_to(self, key: str) -> bool:
        """Put the cursor on ``key``; False if there is no such row."""
        if key not in self._places:
            return False
        self._set_cursor(self._places[key])
        return True

    # -- keys and mouse -----------------------------------------------------------------------------

    def action_cursor(self, step: int) -> None:
        self._set_cursor(self.cursor_line + step)

    def action_page(self, step: int) -> None:
        self._set_cursor(self.cursor_line + step * max(1, self._room - 1))

    def action_edge(self, side: int) -> None:
        self._set_cursor(0 if side < 0 else len(self._rows) - 1)
        self._follows_first = side < 0

    def on_click(self, event: events.Click) -> None:
        line = round(self.scroll_y) + event.y - 1
        if event.y >= 1 and line < len(self._rows):
            self._set_cursor(line)
            if event.chain >= 2:
                self.post_message(Chosen(self._rows[line].key))

    def on_resize(self) -> None:
        self.virtual_size = Size(self._width, len(self._rows) + 1)
        self._reveal()
        self.refresh()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    # -- painting -----------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width = self._width
        if y == 0:
            return self._head(width)
        if not self._rows:
            style = self.get_component_rich_style("grid--empty")
            text = f"  {self.empty}" if y == 2 else ""
            return Strip([Segment(text[:width].ljust(width), style)], width)
        line = round(self.scroll_y) + y - 1
        if line >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        return self._line(self._rows[line], width)

    def plan(self, width: int) -> list[tuple[Column, int]]:
        """The columns shown at this width, with their widths."""
        shown = [column for column in self._columns if column.needs <= width < column.until]
        fixed = sum(column.width for column in shown)
        rest = max(8, width - fixed - len(shown))
        return [(column, column.width or rest) for column in shown]

    def _head(self, width: int) -> Strip:
        style = self.get_component_rich_style("grid--head")
        mark = style + Style(bold=True)
        segments = [Segment(" ", style)]
        for column, wide in self.plan(width):
            here = column.key == self._sorted_by
            title = column.title + ("↓" if here else "")
            text = title[:wide].rjust(wide) if column.right else title[:wide].ljust(wide)
            segments.append(Segment(text + " ", mark if here else style))
        return Strip(segments).adjust_cell_length(width, style)

    def _line(self, row: Row, width: int) -> Strip:
        here = row.key == self._cursor
        base = self.get_component_rich_style("grid--cursor") if here else self.rich_style
        segments = [Segment(MARK if here else " ", base)]
        for column, wide in self.plan(width):
            cell = row.cells.get(column.key, NOTHING)
            style = base
            if cell.tone:
                tone = self.get_component_rich_style(f"grid--{cell.tone}", partial=True)
                style = base + tone
            text = fmt.middle(cell.text, wide)
            segments.append(Segment(text.rjust(wide) if column.right else text.ljust(wide), style))
            segments.append(Segment(" ", base))
        return Strip(segments).adjust_cell_length(width, base)

    def _painted(self) -> list[object]:
        """What each visible line shows, to be compared."""
        top = round(self.scroll_y)
        lines: list[object] = [self._sorted_by]
        for row in self._rows[top : top + self._room]:
            lines.append((row, row.key == self._cursor))
        return lines

    # -- the cursor ---------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        """Cells beside the scrollbar."""
        return self.scrollable_content_region.width

    @property
    def _room(self) -> int:
        """Lines for rows."""
        return max(1, self.size.height - 1)

    def _set_cursor(self, line: int) -> None:
        if not self._rows:
            return
        line = max(0, min(line, len(self._rows) - 1))
        self._follows_first = False
        old_line, old = self.cursor_line, self._cursor
        self._cursor = self._rows[line].key
        self._reveal()
        top = round(self.scroll_y)
        for changed in (old_line, line):
            self.refresh(Region(0, changed - top + 1, self._width, 1))
        if self._cursor != old:
            self.post_message(Moved(self._cursor))

    def _reveal(self) -> None:
        top, line = round(self.scroll_y), self.cursor_line
        if line < top:
            self.scroll_to(y=line, animate=False)
        elif line >= top + self._room:
            self.scroll_to(y=line - self._room + 1, animate=False)
