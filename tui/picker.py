"""Which process? The list of those that can be attached, when none was named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import App, ComposeResult
from textual.message import Message

from diag.client.attach.discover import Prepared
from tui import format as fmt
from tui.details import Spans
from tui.keymap import PICK, bindings
from tui.messages import Chosen
from tui.theme import THEME
from tui.view import Cell, Row
from tui.widgets.bars import KeyBar, Strip
from tui.widgets.grid import Column, Grid
from tui.widgets.tones import content

HOW_TO_PREPARE = (
    "No process here can be attached. To make one so, let it call, early on:",
    "",
    "    import diag",
    '    diag.serve(name="billing")          # allow_actions=True lets you stop and restart, too',
    "",
    "then run diagtop again. diagtop --demo shows it on a live collector with a leak.",
)


class Looked(Message):
    """The list is here (posted from the looking thread)."""

    def __init__(self, found: Sequence[Prepared]) -> None:
        super().__init__()
        self.found = found


class Picker(App[str]):
    """Returns the path of the chosen process's socket; None if nothing was chosen.

    look: lists the processes; blocking, so it runs in a thread."""

    TITLE = "diagtop"
    CSS_PATH = "diagtop.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = bindings(PICK)
    COLUMNS = (
        Column("pid", "PID", 8),
        Column("name", "NAME", right=False),
        Column("rss", "RSS", 8),
        Column("age", "UP", 7),
        Column("python", "PYTHON", 8, right=False),
        Column("mode", "MODE", 4, right=False),
    )

    def __init__(self, look: Callable[[], Sequence[Prepared]]) -> None:
        super().__init__()
        self._look = look
        self._found: Sequence[Prepared] = ()

    def compose(self) -> ComposeResult:
        yield Strip("pick-title")
        yield Grid(self.COLUMNS, empty="Looking …", id="grid")
        yield KeyBar(PICK)

    def on_mount(self) -> None:
        self.register_theme(THEME)
        self.theme = THEME.name
        self.query_one(Grid).focus()
        self.action_look()
        self.set_interval(3.0, self.action_look)

    def action_look(self) -> None:
        self.run_worker(self._look_around, thread=True, exclusive=True)

    def _look_around(self) -> None:
        self.post_message(Looked(self._look()))

    def on_looked(self, message: Looked) -> None:
        self._found = message.found
        title: Spans = [("Which process?", "strong")]
        silent = sum(1 for each in message.found if each.problem)
        if silent:
            title.append((f"   {silent} of them do not answer now", "dim"))
        self.query_one("#pick-title", Strip).put(content([title]))
        grid = self.query_one(Grid)
        grid.empty = HOW_TO_PREPARE[0] + " import diag; diag.serve()"
        grid.show([_row(each) for each in message.found])

    def on_chosen(self, message: Chosen) -> None:
        self.action_attach()

    def action_attach(self) -> None:
        chosen = self.query_one(Grid).cursor_key
        if chosen is not None:
            self.exit(chosen)

    def action_leave(self) -> None:
        self.exit(None)


def _row(each: Prepared) -> Row:
    problem = fmt.plain(each.problem)
    return Row(
        each.path,
        {
            "pid": Cell(str(each.pid), "dim"),
            "name": Cell(problem or fmt.plain(each.name), "bad" if problem else "strong"),
            "rss": Cell(fmt.size(each.rss_bytes)),
            "age": Cell("" if each.age_s is None else fmt.duration(each.age_s), "dim"),
            "python": Cell(fmt.plain(each.python), "dim"),
            "mode": Cell("" if problem else "RW" if each.allow_actions else "RO", "dim"),
        },
    )
