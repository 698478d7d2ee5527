"""Time as supervision sees it: the event loop's, or a test's."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

__all__ = ["Clock", "LoopClock", "TimerHandle", "VirtualClock", "default_clock", "settle", "use_clock"]

T = TypeVar("T")


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Everything that waits here waits by a clock, so that tests need not."""

    def now(self) -> float:
        """Monotonic seconds."""

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> TimerHandle:
        """Call ``callback(*args)`` on the loop after ``delay_s`` seconds."""

    async def sleep(self, delay_s: float) -> None: ...


class LoopClock:
    """The running event loop's own time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback, *args)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class _VirtualTimer:
    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback, self.args = None, ()


class VirtualClock:
    """Time that stands still until :meth:`advance` moves it. For tests; one event loop."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _VirtualTimer]] = []

    def now(self) -> float:
        return self._now

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> TimerHandle:
        timer = _VirtualTimer(callback, args)
        heapq.heappush(self._timers, (self._now + max(delay_s, 0.0), next(self._order), timer))
        return timer

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        done = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay_s, ring, weakref.ref(done))
        try:
            await done
        finally:
            timer.cancel()

    @property
    def pending(self) -> int:
        """Timers still to fire."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    async def advance(self, seconds: float) -> None:
        """Move time on by ``seconds``: each timer due fires at its own moment, in order, and all work it
        causes is done before time moves further."""
        await settle()
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, due)
            callback, args = timer.callback, timer.args
            timer.cancel()
            if callback is not None:
                callback(*args)
                del callback, args
                await settle()
        self._now = end
        await settle()

    async def drive(self, awaitable: Awaitable[T]) -> T:
        """Wait for ``awaitable``, moving time on to the next timer whenever nothing else can happen.

        Raises RuntimeError when there is no timer either: it would wait for ever.
        """
        task = asyncio.ensure_future(awaitable)
        try:
            await settle()
            while not task.done():
                if not self.pending:
                    raise RuntimeError("waits for something that no timer will bring about")
                await self.advance(max(self._next_due() - self._now, 0.0))
            return task.result()
        finally:
            task.cancel()

    def _next_due(self) -> float:
        return min(due for due, _, timer in self._timers if timer.callback is not None)


def ring(ref: weakref.ref[asyncio.Future[None]]) -> None:
    """Wake who waits for a future, if it still waits. For timers: they need not hold the future."""
    future = ref()
    if future is not None and not future.done():
        future.set_result(None)


async def settle(limit: int = 10_000) -> None:
    """Let the loop run until nothing is ready: what waits now waits for time or for I/O.

    Raises RuntimeError after ``limit`` turns, for then something spins.
    """
    # asyncio (and no public API) knows what is ready; where a loop hides it, a fixed number of turns serves.
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    for turn in range(limit):
        await asyncio.sleep(0)
        if not ready and (ready is not None or turn >= 50):
            return
    raise RuntimeError(f"the loop is still busy after {limit} turns: something spins without waiting")


_LOOP_CLOCK = LoopClock()
_chosen: ContextVar[Clock | None] = ContextVar("collector.supervision.clock", default=None)


def default_clock() -> Clock:
    """The clock of processes started from outside any process."""
    return _chosen.get() or _LOOP_CLOCK


@contextlib.contextmanager
def use_clock(clock: Clock) -> Iterator[Clock]:
    """Processes started in this block from outside any process, and their descendants, live by ``clock``."""
    token = _chosen.set(clock)
    try:
        yield clock
    finally:
        _chosen.reset(token)
