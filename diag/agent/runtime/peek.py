"""Reading asyncio's objects without running anybody's code.

A target may subclass Task or Future, and define ``__eq__``, ``__repr__``, ``__getattr__`` or properties
that have side effects or fail. So nothing here asks an object politely: C objects are read through the
descriptors of their C base type, Python ones (``asyncio.tasks._PyTask``) through their instance
dictionary, and every type test is ``issubclass(type(o), ...)``, which looks at the type alone.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import functools
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
_TASKS_GLOBALS = vars(asyncio.tasks)
_TASK_GROUP: type | None = getattr(asyncio, "TaskGroup", None)
_ON_TASK_DONE = getattr(_TASK_GROUP, "_on_task_done", None)
_RELEASE_WAITER = getattr(asyncio.tasks, "_release_waiter", None)
_HOPS = 6
"""How many futures deep gather-in-shield-in-wait may be nested before its parent is given up."""


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
    try:
        _call(task, "result")
    except asyncio.CancelledError as error:
        # From 3.11 on asking was enough: the task gave away its only reference. 3.10 keeps one.
        original = error.__context__
        if sys.version_info < (3, 11) and isinstance(original, asyncio.CancelledError):
            traceback.clear_frames(original.__traceback__)


def parent(task: AnyTask) -> AnyTask | None:
    """The task that started it in a TaskGroup, else the one that awaits it: directly or through gather,
    wait, wait_for, shield or as_completed. None for a task nobody waits for. O(its callbacks)."""
    return _waiting_task(task, _HOPS)


def is_main(task: AnyTask) -> bool:
    """Whether ``run_until_complete`` (so ``asyncio.run``) returns when this task ends."""
    return any(
        type(callback) is types.FunctionType and callback.__name__ == "_run_until_complete_cb"
        for callback in _callbacks(task)
    )


def _callbacks(future: Any) -> Sequence[Any]:
    entries = _field(future, "_callbacks")
    return [entry[0] for entry in entries if type(entry) is tuple] if type(entries) is list else ()


def _waiting_task(future: Any, hops: int) -> AnyTask | None:
    for callback in _callbacks(future):
        found = _behind(callback, hops)
        if found is not None:
            return found
    return None


def _behind(callback: Any, hops: int) -> AnyTask | None:
    """The task a done-callback belongs to, for the callbacks that asyncio itself hangs on futures."""
    kind = type(callback)
    if kind is types.MethodType:
        owner = callback.__self__
        if callback.__func__ is _ON_TASK_DONE:
            host = object.__getattribute__(owner, "__dict__").get("_parent_task")
            return host if is_task(host) else None
        # Python tasks wake by a bound method; 3.13's as_completed collects by one of its own.
        if is_task(owner) and callback.__func__.__name__ == "__wakeup":
            return owner  # type: ignore[no-any-return]
        if callback.__func__.__globals__ is _TASKS_GLOBALS and not is_task(owner):
            queue = object.__getattribute__(owner, "__dict__").get("_done")
            return _getter(queue, hops)
    elif kind is types.BuiltinMethodType:
        if callback.__name__ == "task_wakeup" and is_task(callback.__self__):
            return callback.__self__  # type: ignore[no-any-return]
    elif hops and kind is types.FunctionType and callback.__globals__ is _TASKS_GLOBALS:
        for cell in callback.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # an empty cell
                continue
            deeper = _is_plain_future(content)
            found = _waiting_task(content, hops - 1) if deeper else _getter(content, hops)
            if found is not None:
                return found
    elif hops and kind is functools.partial and callback.func is _RELEASE_WAITER:
        return _waiting_task(callback.args[0], hops - 1)
    return None


def _is_plain_future(value: Any) -> bool:
    kind = type(value)
    return not is_task(value) and (
        (_C_FUTURE is not None and issubclass(kind, _C_FUTURE)) or issubclass(kind, _PY_FUTURE)
    )


def _getter(queue: Any, hops: int) -> AnyTask | None:
    """Who waits in ``as_completed``: the getter of its private queue."""
    if not hops or not issubclass(type(queue), asyncio.Queue):
        return None
    getters = object.__getattribute__(queue, "__dict__").get("_getters", ())
    for future in list(getters):
        found = _waiting_task(future, hops - 1)
        if found is not None:
            return found
    return None
