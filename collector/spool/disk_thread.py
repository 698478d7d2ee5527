"""A thread for one client's disk."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["DiskThread"]

T = TypeVar("T")
_Call = tuple["concurrent.futures.Future[Any]", Callable[..., Any], tuple[Any, ...]]
_Calls = queue.SimpleQueue["_Call | None"]


class DiskThread:
    """Makes blocking calls, one after another, in a thread of its own.

    Not an executor's thread: those are waited for when the interpreter ends, so that a disk that hangs would
    keep a collector alive that has given up on it."""

    def __init__(self, name: str) -> None:
        self._calls: _Calls = queue.SimpleQueue()
        threading.Thread(target=_work, args=(self._calls,), name=name, daemon=True).start()

    def call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """``function(*args)``. Cancelling it drops the answer; the call itself goes on if it has begun."""
        # No coroutine: its frame would hold the future, whose exception would hold the frame: a cycle.
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._calls.put((future, function, args))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread once it has done what it was asked so far. Harmless to repeat."""
        self._calls.put(None)

    def __del__(self) -> None:
        self.close()


def _work(calls: _Calls) -> None:
    while call := calls.get():
        future, function, args = call
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
        # While the thread waits for the next call it must not keep the last one's batch alive.
        del call, future, function, args
