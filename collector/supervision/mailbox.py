"""A process's mailbox: what was sent to it and not yet read, and its own timers.

Only the process's own frames hold its mailbox; everybody else reaches it through a weak reference in the
:class:`~collector.supervision.process.Pid`. So what waits here belongs to the process and goes with it.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from collector.supervision.clock import Clock, TimerHandle, ring

__all__ = ["Mailbox", "MessageTimer"]

SLICE_S = 0.002


class MessageTimer:
    """A message on its way: see ``send_after``. Forgotten, with its message, when the receiver ends."""

    __slots__ = ("__weakref__", "_handle", "_mailbox")

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = weakref.ref(mailbox)
        self._handle: TimerHandle | None = None

    def cancel(self) -> bool:
        """Take the message back; False if it was already delivered, or the receiver has ended."""
        mailbox = self._mailbox()
        if mailbox is None or mailbox._timed.pop(self, None) is None:
            return False
        if self._handle is not None:
            self._handle.cancel()
        return True


def _deliver(box: weakref.ref[Mailbox], timer: weakref.ref[MessageTimer]) -> None:
    mailbox, key = box(), timer()
    if mailbox is not None and key is not None and key in mailbox._timed:
        (message,) = mailbox._timed.pop(key)
        mailbox.put(message)


class Mailbox:
    """Messages in order of arrival; one reader. Not thread-safe: use it on the loop."""

    __slots__ = ("__weakref__", "_items", "_slice_ends", "_timed", "_waiter")
    __diag_holder__ = "queue"

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._slice_ends = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._timed: dict[MessageTimer, tuple[Any]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def put(self, message: Any) -> None:
        """Append a message; never blocks. O(1)."""
        self._items.append(message)
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def get(self, clock: Clock, timeout_s: float | None = None) -> Any:
        """The next message, oldest first. Raises asyncio.TimeoutError after ``timeout_s`` without one.

        While there are messages the reader goes on at once, but gives way to other tasks every 2 ms."""
        if not self._items:
            await self._wait(clock, timeout_s)
            self._slice_ends = time.perf_counter() + SLICE_S
        elif time.perf_counter() > self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = time.perf_counter() + SLICE_S
        return self._items.popleft()

    async def _wait(self, clock: Clock, timeout_s: float | None) -> None:
        if self._waiter is not None:
            raise RuntimeError("two readers on one mailbox: only the process itself may receive")
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        alarm = None if timeout_s is None else clock.call_later(timeout_s, ring, weakref.ref(waiter))
        try:
            await waiter
        finally:
            self._waiter = None
            if alarm is not None:
                alarm.cancel()
        if not self._items:
            raise asyncio.TimeoutError

    def take(self, wanted: Callable[[Any], bool]) -> Any | None:
        """The first message that is wanted, out of turn; None if there is none. O(messages)."""
        for position, message in enumerate(self._items):
            if wanted(message):
                del self._items[position]
                return message
        return None

    def put_later(self, clock: Clock, delay_s: float, message: Any) -> MessageTimer:
        """Put ``message`` here after ``delay_s`` seconds."""
        timer = MessageTimer(self)
        self._timed[timer] = (message,)
        # The loop must not hold the message: it is this process's, and goes when the process goes.
        timer._handle = clock.call_later(delay_s, _deliver, weakref.ref(self), weakref.ref(timer))
        return timer

    def close(self) -> None:
        """Forget everything; the process has ended."""
        for timer in list(self._timed):
            timer.cancel()
        self._items.clear()
