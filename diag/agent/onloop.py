"""Run something on the event loop from the agent's thread, with a deadline that withdraws it.

An operator who was told "the loop did not answer" must not have his stop carried out ten minutes later,
when the loop comes back. So what has not begun by its deadline never begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from diag.agent import native
from diag.wire.errors import ACTION_FAILED, LOOP_STALLED, RpcError

START_WITHIN_S = 5.0

_working: set[asyncio.Task[Any]] = set()
"""Tasks under way: asyncio itself keeps only weak references, and one nobody waits for any more (its
deadline passed) must still not be collected half-way."""

Failure = tuple[int, str, str]
"""An RpcError to be."""
Function = Callable[[], Coroutine[Any, Any, Any] | None]


def run(
    loop: asyncio.AbstractEventLoop,
    function: Function,
    *,
    name: str,
    finish_within_s: float,
    start_within_s: float = START_WITHIN_S,
) -> bool:
    """Call ``function`` on the loop; if it returns a coroutine, run that as a task called ``name``.

    Returns True when it finished, False when it was begun but not finished in time (it goes on). Raises
    RpcError LOOP_STALLED when the loop did not begin in time (it is withdrawn), ACTION_FAILED when the
    function or coroutine raised, or the RpcError that it raised. Keeps no reference to either afterwards."""
    call = _Call(function, name)
    try:
        loop.call_soon_threadsafe(call.begin)
    except RuntimeError as error:
        raise RpcError(
            LOOP_STALLED, f"the event loop takes no calls: {error}", "it has been closed"
        ) from None
    if not call.begun.acquire(timeout=min(start_within_s, finish_within_s)) and call.withdraw():
        why = "is busy or blocked: current_function of the running task in 'diag top' says where"
        raise RpcError(
            LOOP_STALLED,
            "the event loop did not take the request in time; it was withdrawn and will not happen later",
            f"the loop {why if loop.is_running() else 'is not running at the moment: try again later'}",
        )
    if not call.ended.acquire(timeout=finish_within_s):
        return False
    if call.failure is not None:
        raise RpcError(*call.failure)
    return True


class _Call:
    """One function on its way to the loop, whose thread releases the locks ``begun`` and ``ended``."""

    def __init__(self, function: Function, name: str) -> None:
        self.function: Function | None = function
        self.name = name
        self.failure: Failure | None = None
        self.begun = native.allocate_lock()
        self.ended = native.allocate_lock()
        self.begun.acquire()
        self.ended.acquire()
        self._turn = native.allocate_lock()

    def withdraw(self) -> bool:
        """Take it back. False if it began in the meantime."""
        with self._turn:
            if self.function is None:
                return False
            self.function = None
            return True

    def begin(self) -> None:
        with self._turn:
            function, self.function = self.function, None
        if function is None:
            return
        self.begun.release()
        try:
            work = function()
            if work is not None:
                task = asyncio.get_running_loop().create_task(work)
                task.set_name(self.name)
                _working.add(task)
                task.add_done_callback(self._finish)
                return
        except Exception as error:
            self.failure = _failure(error)
        self.ended.release()

    def _finish(self, task: asyncio.Task[Any]) -> None:
        _working.discard(task)
        if task.cancelled():
            self.failure = _failed("it was cancelled")
        else:
            error = task.exception()
            if error is not None:
                self.failure = _failure(error)
        self.ended.release()


def _failure(error: BaseException) -> Failure:
    """What it says, without the exception itself: its traceback would keep frames alive."""
    if isinstance(error, RpcError):
        return error.code, error.message, error.hint
    return _failed(said(error))


def _failed(text: str) -> Failure:
    return ACTION_FAILED, text, "the application's own log may say more"


def said(error: BaseException) -> str:
    """An exception as one bounded line. Only text is kept: its traceback would keep frames alive."""
    try:
        text = str(error)
    except Exception:
        text = "(its own __str__ failed)"
    text = " ".join(text.split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
