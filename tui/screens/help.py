"""Keys and words, made from the keymap."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.details import Spans
from tui.keymap import EVERYWHERE, GRID, KEYMAP, OWNERS, TREE, shown
from tui.view import GLYPHS
from tui.widgets.tones import content

TITLES = {EVERYWHERE: "Everywhere", OWNERS: "On an owner", TREE: "In the tree", GRID: "Moving"}

WORDS = (
    ("BUFS", "bytes of buffers (bytes, bytearray, memoryview, arrays) held here and below"),
    ("RETAINED", "what would be freed if this owner alone went away, with all below it"),
    ("WASTE", "bytes kept alive only by views that show less of them"),
    ("Δ/s", "growth of RETAINED over the last ten seconds"),
    ("STRAT", "1:1 one_for_one, 1:all one_for_all, 1:rest rest_for_one, simple simple_one_for_one"),
    ("≥", "the walk was cut off to spare the target: a lower bound"),
    ("free", "freed by the program but kept by the C allocator: t asks for it back"),
    ("pause", "the longest time the target's interpreter was held for this picture"),
)

FLOW = (
    "Memory climbs? g forces a garbage collection and says what came back.",
    "What stays is held: the first row is who, ⏎ is why, x stops it (asks first).",
)


def help_lines() -> list[Spans]:
    lines: list[Spans] = [[(sentence, "good")] for sentence in FLOW]
    lines.append([])
    for scope, title in TITLES.items():
        lines.append([(title, "strong")])
        for key in KEYMAP:
            if key.scope == scope:
                lines.append([(f"  {shown(key.keys, first_only=False):<10}", "key"), (key.help, "")])
        lines.append([])
    lines.append([("Words", "strong")])
    lines += [[(f"  {word:<10}", "key"), (meaning, "")] for word, meaning in WORDS]
    lines.append([])
    lines.append([("Marks", "strong")])
    marks = "   ".join(f"{glyph} {kind.replace('_', ' ')}" for kind, glyph in GLYPHS.items())
    lines.append([(f"  {marks}", "")])
    return lines


class Help(ModalScreen[None]):
    BINDINGS = [  # noqa: RUF012 - Textual's own name and type
        Binding("escape,question_mark,q,enter", "close", "close", show=False),
    ]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(content(help_lines()), markup=False)

    def action_close(self) -> None:
        self.dismiss()
