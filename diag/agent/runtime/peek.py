"""Reading asyncio's objects without running anybody's code.

A target may subclass Task or Future, and define ``__eq__``, ``__repr__``, ``__getattr__`` or properties
that have side effects or fail. So nothing here asks an object politely: C objects are read through the
descriptors of their C base type, Python ones (``asyncio.tasks._PyTask``) through their instance
dictionary, and every type test is ``issubclass(type(o), ...)``, which looks at the type alone.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import gc
import sys
import traceback
import types
from collections.abc import Sequence
from typing import Any

try:
    import _asyncio
except ImportError:  # a Python built without the C accelerator
    _asyncio = None  # type: ignore[assignment]

AnyTask = asyncio.Task[Any]

_C_TASK: type | None = getattr(_asyncio, "Task", None)
_C_FUTURE: type | None = getattr(_asyncio, "Future", None)
_PY_FUTURE: type = asyncio.futures._PyFuture  # type: ignore[attr-defined]
_PY_TASK: type = asyncio.tasks._PyTask  # type: ignore[attr-defined]


def is_task(value: object) -> bool:
    """Whether this is an asyncio task, C or Python, subclassed or not."""
    kind = type(value)
    return (_C_TASK is not None and issubclass(kind, _C_TASK)) or issubclass(kind, _PY_TASK)


def _field(future: Any, name: str) -> Any:
    """A private field of a task or future; None if this Python has no such field."""
    kind = type(future)
    for base in (_C_TASK, _C_FUTURE):
        if base is not None and issubclass(kind, base):
            descriptor = base.__dict__.get(name)
            return None if descriptor is None else descriptor.__get__(future)
    if issubclass(kind, _PY_FUTURE):
        return object.__getattribute__(future, "__dict__").get(name)
    return None


def _call(task: Any, name: str) -> Any:
    """A method of the base class, never an override; None if this Python has no such method."""
    base = _C_TASK if _C_TASK is not None and issubclass(type(task), _C_TASK) else _PY_TASK
    method = getattr(base, name, None)
    return None if method is None else method(task)


def coroutine(task: AnyTask) -> Any:
    """What the task runs."""
    return _field(task, "_coro")


def loop(task: AnyTask) -> asyncio.AbstractEventLoop | None:
    """The loop the task belongs to."""
    return _field(task, "_loop")  # type: ignore[no-any-return]


def name(task: AnyTask) -> str:
    """The task's name."""
    found = _call(task, "get_name")
    return found if type(found) is str else str.__str__(found) if isinstance(found, str) else "?"


def done(task: AnyTask) -> bool:
    """Whether it has finished."""
    return bool(_field(task, "_state") != "PENDING")


def state(task: AnyTask, running: bool) -> str:
    """``running ready waiting cancelling`` for a live task, ``done failed cancelled`` for a finished one."""
    phase = _field(task, "_state")
    if phase == "CANCELLED":
        return "cancelled"
    if phase == "FINISHED":
        return "done" if _field(task, "_exception") is None else "failed"
    if running:
        return "running"
    if _field(task, "_must_cancel") or _call(task, "cancelling"):
        return "cancelling"
    waiter = _field(task, "_fut_waiter")
    if waiter is None:
        return "ready"
    return "cancelling" if _field(waiter, "_state") == "CANCELLED" else "waiting"


def waits_for(task: AnyTask) -> Any:
    """The future the task is suspended on, if any."""
    return _field(task, "_fut_waiter")


def cancel(task: AnyTask, message: str) -> bool:
    """Ask it to end; on its loop only. The one place where an override counts: subclasses may forward it."""
    return bool(task.cancel(message))


def drop_cancellation(task: AnyTask) -> None:
    """Let go of what a cancelled task still holds through the traceback of its cancellation: every frame
    it was in, so everything it held. Whoever awaits it later still gets CancelledError, without the
    traceback. On its loop only, and only for a task that an operator cancelled."""
    if _field(task, "_state") != "CANCELLED":
        return
    if sys.version_info < (3, 11):
        # It keeps the traceback itself, where only the collector's eye reaches. All its frames are finished.
        for held in gc.get_referents(task):
            if type(held) is types.TracebackType:
                traceback.clear_frames(held)
    try:
        _call(task, "result")
    except asyncio.CancelledError as error:
        # From 3.11 on one exception goes from task to task, and a gather that lives on may have it too.
        link: BaseException | None = error
        while isinstance(link, asyncio.CancelledError):
            link.__traceback__ = None
            link = link.__context__


def callbacks(future: Any) -> Sequence[Any]:
    """What it calls when it is done, in order."""
    entries = _field(future, "_callbacks")
    return [entry[0] for entry in entries if type(entry) is tuple] if type(entries) is list else ()


def is_plain_future(value: Any) -> bool:
    """Whether this is an asyncio future that is not a task."""
    kind = type(value)
    return not is_task(value) and (
        (_C_FUTURE is not None and issubclass(kind, _C_FUTURE)) or issubclass(kind, _PY_FUTURE)
    )
