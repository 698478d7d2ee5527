"""What every screen over a live target shares: heading, status, keys, and how to redraw."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from tui.details import Spans
from tui.keymap import EVERYWHERE
from tui.widgets.bars import Heading, KeyBar, Status

if TYPE_CHECKING:
    from tui.app import Diagtop


class LiveScreen(Screen[None]):
    """Draws from the app's state whenever the app says that it changed, and when it comes to the front."""

    VIEW = ""
    """Which of the views it is, for the heading."""
    SCOPES: ClassVar[tuple[str, ...]] = (EVERYWHERE,)
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (144, "-wide")]  # noqa: RUF012 - Textual's own name and type
    VERTICAL_BREAKPOINTS = [(0, "-short"), (18, "-normal"), (34, "-tall")]  # noqa: RUF012

    @property
    def diagtop(self) -> Diagtop:
        return cast("Diagtop", self.app)

    def compose(self) -> ComposeResult:
        yield Heading()
        yield from self.body()
        yield Status()
        yield KeyBar(*self.SCOPES)

    @property
    def typing(self) -> bool:
        """Whether keys are text now."""
        return isinstance(self.focused, Input)

    def body(self) -> list[Widget]:
        raise NotImplementedError

    def draw(self) -> None:
        """Fill the body from the app's state."""

    def summary(self) -> Spans:
        """What stands at the right of the views; the last spans are dropped first."""
        return []

    def live(self) -> None:
        """Redraw everything. Cheap when nothing changed; nothing while the screen is built or torn down."""
        if self.query(KeyBar):
            with suppress(NoMatches):
                self.draw()
            self.beat()

    def beat(self) -> None:
        """Redraw what changes without a new sample: how long an answer is awaited, the last finding."""
        app = self.diagtop
        with suppress(NoMatches):
            self.query_one(Status).show(app.finding)
            self.query_one(Heading).show(
                app.sample,
                app.link,
                frozen=app.frozen,
                waiting_s=app.waiting_s(),
                view=self.VIEW,
                right=self.summary(),
            )

    def on_mount(self) -> None:
        self.call_after_refresh(self.live)

    def on_screen_resume(self) -> None:
        self.live()

    def on_resize(self) -> None:
        self.call_after_refresh(self.live)
