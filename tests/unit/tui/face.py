"""Helpers to drive diagtop's face against the fake world: what is on the screen, and waiting for it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from tests.unit.tui.fake import World
from tui.app import Diagtop
from tui.widgets.grid import Grid

DEADLINE_S = 15.0


class Face:
    """A running diagtop and its pilot."""

    def __init__(self, app: Diagtop, pilot: Pilot[int], world: World) -> None:
        self.app, self.pilot, self.world = app, pilot, world

    @property
    def lines(self) -> list[str]:
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def grid(self) -> Grid:
        return self.app.screen.query_one(Grid)

    @property
    def names(self) -> list[str]:
        """The name column, without its marks."""
        return [re.sub(r"^[│├└ ]*. ", "", row.cells["name"].text) for row in self.grid.rows]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, test: Callable[[], bool], what: str = "") -> None:
        """Let the app run until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not test():
            assert time.monotonic() < deadline, f"never came: {what}\n{self.text}"
            await self.pilot.pause()
            await asyncio.sleep(0.01)

    async def sees(self, pattern: str) -> None:
        await self.until(lambda: re.search(pattern, self.text) is not None, pattern)

    async def next_sample(self) -> None:
        """Until a newer sample was drawn."""
        number = self.app.latest.number if self.app.latest else 0
        self.app.session.refresh()
        await self.until(lambda: self.app.latest is not None and self.app.latest.number > number, "a sample")


@asynccontextmanager
async def face(
    world: World | None = None,
    size: tuple[int, int] = (80, 24),
    interval_s: float = 60.0,
    **options: object,
) -> AsyncIterator[Face]:
    """diagtop with its first sample on the screen; the next ones come when a test asks for them."""
    world = world or World()
    app = Diagtop(world.connect, interval_s=interval_s, **options)  # type: ignore[arg-type]
    async with app.run_test(size=size) as pilot:
        found = Face(app, pilot, world)
        if world.alive and world.stalled.is_set():
            await found.until(lambda: bool(app.latest) and bool(found.grid.rows), "the first sample")
            await pilot.pause()
        yield found
