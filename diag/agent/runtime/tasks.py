"""Every task of every event loop, and the loops themselves, seen from any thread.

Nothing here keeps a task: what is returned is strong, and the caller drops it.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import weakref
from typing import Any

from diag.agent.runtime import peek
from diag.agent.runtime.peek import AnyTask

_TRIES = 1000


def all_tasks() -> list[AnyTask]:
    """All asyncio tasks of the process: running and finished ones that something still refers to.

    About 0.2 µs a task. Also lists tasks that are only waiting for the garbage collector."""
    found: dict[int, AnyTask] = {}
    for known in ("_scheduled_tasks", "_all_tasks"):
        registry = getattr(asyncio.tasks, known, None)
        if registry is not None:
            for task in _snapshot(registry):
                found[id(task)] = task
    for task in list(getattr(asyncio.tasks, "_eager_tasks", ())):
        found[id(task)] = task
    return [task for task in found.values() if peek.is_task(task)]


def _snapshot(registry: Any) -> list[Any]:
    """A weak set's members. Iterating the set itself would take part in its bookkeeping from our thread
    and fail when the loop's thread adds a task; copying the plain set of references does neither."""
    weak = type(registry) is weakref.WeakSet
    references = registry.data if weak else registry
    for _ in range(_TRIES):
        try:
            copied = list(references)
            break
        except RuntimeError:  # it changed under us; only possible where the copy is not one C call
            continue
    else:
        return []
    if not weak:
        return copied
    return [task for reference in copied if (task := reference()) is not None]


def loops_of(tasks: list[AnyTask]) -> list[asyncio.AbstractEventLoop]:
    """The loops these tasks belong to, in order of first appearance, and any that runs without tasks."""
    found: dict[int, asyncio.AbstractEventLoop] = {}
    for task in tasks:
        loop = peek.loop(task)
        if loop is not None:
            found[id(loop)] = loop
    for loop, _task in _current():
        found[id(loop)] = loop
    return list(found.values())


def running() -> dict[int, AnyTask]:
    """The tasks being stepped at this moment, by id."""
    return {id(task): task for _loop, task in _current()}


def _current() -> list[tuple[asyncio.AbstractEventLoop, AnyTask]]:
    current = getattr(asyncio.tasks, "_current_tasks", {})
    return list(current.items())


def thread_of(loop: asyncio.AbstractEventLoop | None) -> int | None:
    """Ident of the thread the loop runs in; None if it does not run or does not tell."""
    if loop is None:
        return None
    try:
        ident = object.__getattribute__(loop, "__dict__").get("_thread_id")
    except AttributeError:  # uvloop keeps it in C
        return None
    return ident if type(ident) is int else None
