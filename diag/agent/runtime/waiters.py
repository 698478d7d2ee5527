"""Who waits for a task, and whom asyncio tells when it is cancelled.

asyncio keeps no such book. But whoever waits has left a callback on the task, and behind those that
asyncio itself hangs there (a wake-up, ``gather``'s, ``wait``'s, ``shield``'s ...) stands the waiting task.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import functools
import types
from typing import Any

from diag.agent.runtime import peek
from diag.agent.runtime.peek import AnyTask

_TASKS_GLOBALS = vars(asyncio.tasks)
_TASK_GROUP: type | None = getattr(asyncio, "TaskGroup", None)
_ON_TASK_DONE = getattr(_TASK_GROUP, "_on_task_done", None)
_RELEASE_WAITER = getattr(asyncio.tasks, "_release_waiter", None)
_HOPS = 6
"""How many futures deep gather-in-shield-in-wait may be nested before its parent is given up."""
_MAX_DEPTH = 64


def parent(task: AnyTask) -> AnyTask | None:
    """The task that started it in a TaskGroup, else the one that awaits it: directly or through gather,
    wait, wait_for, shield or as_completed. None for a task nobody waits for. O(its callbacks)."""
    return _waiting(task, _HOPS, told=False)


def told(task: AnyTask) -> list[AnyTask]:
    """The tasks into which its cancellation is raised too, unless one of them catches it: who awaits it,
    who awaits that one, and so on. Not the host of its TaskGroup, nor who only ``wait``s."""
    found: list[AnyTask] = []
    current = _waiting(task, _HOPS, told=True)
    while current is not None and current is not task and len(found) < _MAX_DEPTH:
        if any(each is current for each in found):
            break
        found.append(current)
        current = _waiting(current, _HOPS, told=True)
    return found


def is_shielded(task: AnyTask) -> bool:
    """Whether ``asyncio.shield`` keeps cancellations of its awaiter away from it."""
    return any(
        type(callback) is types.FunctionType and callback.__qualname__.startswith("shield.")
        for callback in peek.callbacks(task)
    )


def is_main(task: AnyTask) -> bool:
    """Whether ``run_until_complete`` (so ``asyncio.run``) returns when this task ends."""
    return any(
        type(callback) is types.FunctionType and callback.__name__ == "_run_until_complete_cb"
        for callback in peek.callbacks(task)
    )


def _waiting(future: Any, hops: int, told: bool) -> AnyTask | None:
    for callback in peek.callbacks(future):
        found = None if told and _keeps_to_itself(callback) else _behind(callback, hops, told)
        if found is not None:
            return found
    return None


def _keeps_to_itself(callback: Any) -> bool:
    """Whether a cancellation ends here: TaskGroup, ``wait``, and ``gather(return_exceptions=True)``."""
    if type(callback) is types.MethodType:
        return callback.__func__ is _ON_TASK_DONE
    if type(callback) is not types.FunctionType:
        return False
    if callback.__qualname__.startswith("_wait."):
        return True
    names = callback.__code__.co_freevars
    return "return_exceptions" in names and bool(
        (callback.__closure__ or ())[names.index("return_exceptions")].cell_contents
    )


def _behind(callback: Any, hops: int, told: bool) -> AnyTask | None:
    """The task a done-callback belongs to, for the callbacks that asyncio itself hangs on futures."""
    kind = type(callback)
    if kind is types.MethodType:
        owner = callback.__self__
        if callback.__func__ is _ON_TASK_DONE:
            host = object.__getattribute__(owner, "__dict__").get("_parent_task")
            return host if peek.is_task(host) else None
        # Python tasks wake by a bound method; 3.13's as_completed collects by one of its own.
        if peek.is_task(owner) and callback.__func__.__name__ == "__wakeup":
            return owner  # type: ignore[no-any-return]
        if callback.__func__.__globals__ is _TASKS_GLOBALS and not peek.is_task(owner):
            queue = object.__getattribute__(owner, "__dict__").get("_done")
            return _getter(queue, hops, told)
    elif kind is types.BuiltinMethodType:
        if callback.__name__ == "task_wakeup" and peek.is_task(callback.__self__):
            return callback.__self__  # type: ignore[no-any-return]
    elif hops and kind is types.FunctionType and callback.__globals__ is _TASKS_GLOBALS:
        for cell in callback.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # an empty cell
                continue
            deeper = peek.is_plain_future(content)
            found = _waiting(content, hops - 1, told) if deeper else _getter(content, hops, told)
            if found is not None:
                return found
    elif hops and kind is functools.partial and callback.func is _RELEASE_WAITER:
        return _waiting(callback.args[0], hops - 1, told)
    return None


def _getter(queue: Any, hops: int, told: bool) -> AnyTask | None:
    """Who waits in ``as_completed``: the getter of its private queue."""
    if not hops or not issubclass(type(queue), asyncio.Queue):
        return None
    getters = object.__getattribute__(queue, "__dict__").get("_getters", ())
    for future in list(getters):
        found = _waiting(future, hops - 1, told)
        if found is not None:
            return found
    return None
