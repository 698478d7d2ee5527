"""diagtop: the Textual application. State lives here and in the session; screens only draw it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from textual.app import App
from textual.binding import Binding

from diag.wire.model import Owner
from tui import evidence
from tui.events import Done, Journal, Line, Link, Sample, Started
from tui.evidence import Finding
from tui.keymap import EVERYWHERE, bindings, keys_of
from tui.messages import Heard
from tui.screens.help import FLOW, Help
from tui.screens.journal import JournalScreen
from tui.screens.live import LiveScreen
from tui.screens.owners import SupervisorsScreen, TasksScreen
from tui.screens.released import ReleasedScreen
from tui.screens.why import WhyScreen
from tui.session import Session
from tui.source import Connect
from tui.theme import THEME

BEAT_S = 1.0
_VIEW_ACTIONS = {key.action.removeprefix("app.").partition("(")[0] for key in keys_of(EVERYWHERE)}


class Diagtop(App[int]):
    """The screens over one target.

    connect: opens a way to it. interval_s: seconds between samples. until_s: leave by itself after so
    many seconds (for tests). watch: asked every beat; what it returns (an empty text: all is well) is
    said on the status line.
    """

    TITLE = "diagtop"
    CSS_PATH = "diagtop.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES = {  # noqa: RUF012 - Textual's own name and type
        "tasks": TasksScreen,
        "supervisors": SupervisorsScreen,
        "journal": JournalScreen,
    }
    DEFAULT_MODE = "tasks"
    BINDINGS = [  # noqa: RUF012
        *bindings(EVERYWHERE),
        Binding("ctrl+c", "leave_now", "quit", show=False, priority=True),
    ]

    def __init__(
        self,
        connect: Connect,
        *,
        interval_s: float = 2.0,
        until_s: float | None = None,
        watch: Callable[[], str] | None = None,
    ) -> None:
        super().__init__()
        self.session = Session(connect, self._hear, interval_s=interval_s)
        self.latest: Sample | None = None
        self._held: Sample | None = None
        self.link = Link("connecting")
        self.journal: tuple[Line, ...] = ()
        self.finding = Finding(FLOW[0], "note", FLOW[1])
        self.wanted: str | None = None
        """The owner that the next drawn list shall put its cursor on."""
        self._until_s = until_s
        self._watch = watch
        self._warned = ""

    # -- what the screens read ----------------------------------------------------------------------

    @property
    def sample(self) -> Sample | None:
        """The picture to draw: the newest, or the one that is frozen."""
        return self._held or self.latest

    @property
    def frozen(self) -> bool:
        return self._held is not None

    @property
    def order(self) -> str:
        return self.session.order

    def waiting_s(self) -> float:
        return self.session.waiting_s()

    # -- life ---------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.register_theme(THEME)
        self.theme = THEME.name
        self._leave_on_sigterm()
        self.set_interval(BEAT_S, self._beat)
        if self._until_s is not None:
            self.set_timer(self._until_s, self.action_leave)
        self.session.start()

    def _leave_on_sigterm(self) -> None:
        """Leave in order, so that the terminal is put back."""
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.action_leave)
        except (RuntimeError, ValueError, NotImplementedError):
            pass  # not in the main thread: whoever runs us there looks after signals

    def on_unmount(self) -> None:
        self.session.close()

    def _hear(self, event: object) -> None:
        self.post_message(Heard(event))  # type: ignore[arg-type]

    def _beat(self) -> None:
        if self._watch is not None and (warning := self._watch()) != self._warned:
            self._warned = warning
            if warning:
                self.finding = Finding(warning, "bad")
        for screen in self._live_screens():
            screen.beat()

    def _live_screens(self) -> list[LiveScreen]:
        return [
            screen for screen in self.screen_stack if isinstance(screen, LiveScreen) and screen.is_mounted
        ]

    def redraw(self) -> None:
        for screen in self.screen_stack:
            live = getattr(screen, "live", None)
            if live is not None:
                live()

    # -- what the session found ---------------------------------------------------------------------

    def on_heard(self, message: Heard) -> None:
        event = message.event
        if isinstance(event, Sample):
            self.latest = event
            if self.frozen:
                return
        elif isinstance(event, Link):
            self.link = event
        elif isinstance(event, Journal):
            self.journal = event.lines
        elif isinstance(event, Started):
            if event.action != "why":
                self.finding = evidence.doing(event.action, event.victim)
        elif isinstance(event, Done):
            self._done(event)
        self.redraw()

    def _done(self, done: Done) -> None:
        if done.action == "why":
            for screen in self.screen_stack:
                if isinstance(screen, WhyScreen) and screen.owner.id == done.owner_id:
                    screen.answer(done.why, " ".join(filter(None, (done.error, done.hint))))
            return
        self.finding = evidence.finding(done)
        if done.action == "collect and rank" and not done.error:
            self.push_screen(ReleasedScreen(done))

    # -- what the screens ask for -------------------------------------------------------------------

    def say(self, text: str, tone: str = "note", next: str = "") -> None:
        self.finding = Finding(text, tone, next)
        self.redraw()

    def may_act(self) -> bool:
        """Whether the target allows actions; says how to allow them if not."""
        hello = self.latest.hello if self.latest is not None else self.link.hello
        if hello is None or self.link.state not in ("live", "refused"):
            self.say("Not connected: nothing can be done now.", "bad")
            return False
        if not hello.allow_actions:
            self.say(*evidence.READ_ONLY)
            return False
        return True

    def act(self, action: str, owner: Owner) -> None:
        self.session.act(action, owner)

    def ask_why(self, owner: Owner) -> None:
        self.session.ask_why(owner)

    def set_order(self, order: str) -> None:
        self.session.set_order(order)
        self.say(f"Ranked by {order}." if order != "growth" else "Ranked by growth, among the largest rows.")

    def go_to(self, owner_id: str | None) -> None:
        """Show an owner in the tree."""
        self.wanted = owner_id
        self.action_view("supervisors")
        self.redraw()

    # -- keys ---------------------------------------------------------------------------------------

    def action_view(self, name: str) -> None:
        if self.current_mode != name:
            self.switch_mode(name)

    def action_collect(self) -> None:
        if self.may_act():
            self.session.collect()

    def action_collect_and_rank(self) -> None:
        if self.may_act():
            self.session.collect_and_rank()

    def action_trim(self) -> None:
        if self.may_act():
            self.session.trim()

    def action_freeze(self) -> None:
        self._held = None if self.frozen else self.latest
        self.redraw()

    def action_refresh(self) -> None:
        self.session.refresh()

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_leave(self) -> None:
        self.exit(0)

    def action_leave_now(self) -> None:
        """Also out of a question and while text is typed."""
        self.exit(0)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of the views are not meant while a question is open or text is typed."""
        if action in _VIEW_ACTIONS:
            return isinstance(self.screen, LiveScreen) and not self.screen.typing
        return super().check_action(action, parameters)
