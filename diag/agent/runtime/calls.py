"""What a task was started with and where it stands: qualified names, by following its awaits.

Follows ``cr_await`` and its kin from C object to C object, never through user types. Asking a suspended
coroutine for its frame makes CPython build the frame object (about 70 bytes, freed with the coroutine),
so this is done for the rows that are shown, not for every task.
"""

from __future__ import annotations

import gc
import sys
import types

from diag.agent.runtime import peek, tasks
from diag.agent.runtime.peek import AnyTask

_DEPTH = 1000


_HIDDEN = frozenset(
    {"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"}
)
"""Builtin types that stand between a coroutine and what it awaits and do not say so. By name: making
one to learn its type would call the running loop's asyncgen hooks."""
_HEAP_TYPE = 1 << 9
_LINKS = {
    types.CoroutineType: ("cr_await", "cr_frame", "cr_code"),
    types.GeneratorType: ("gi_yieldfrom", "gi_frame", "gi_code"),
    types.AsyncGeneratorType: ("ag_await", "ag_frame", "ag_code"),
}


def initial_call(task: AnyTask) -> str:
    """``module.qualname`` of the task's coroutine; without the module once it has finished."""
    coroutine = peek.coroutine(task)
    if coroutine is None:
        return ""
    links = _LINKS.get(type(coroutine))
    if links is None:
        return _type_name(type(coroutine))
    return _dotted(_module(getattr(coroutine, links[1])), coroutine.__qualname__)


def current_function(task: AnyTask, running: bool) -> str:
    """``module.qualname:line`` of the innermost frame the task is suspended in, or, while it runs, of the
    frame its thread executes. Empty for a finished task."""
    if running:
        ident = tasks.thread_of(peek.loop(task))
        frame = None if ident is None else sys._current_frames().get(ident)
        if frame is not None:
            return _place(frame, _code_name(frame.f_code))
    innermost = ""
    current = peek.coroutine(task)
    for _ in range(_DEPTH):
        if current is None:
            break
        links = _LINKS.get(type(current))
        if links is None:
            if not _hides(type(current)):
                break
            current = next((o for o in gc.get_referents(current) if _follows(o)), None)
            continue
        frame = getattr(current, links[1])
        if frame is not None:
            innermost = _place(frame, current.__qualname__)
        current = getattr(current, links[0])
    return innermost


def waits_for(task: AnyTask) -> str:
    """Which task it waits for, where it waits for a task itself; else empty."""
    waiter = peek.waits_for(task)
    return f"task {peek.name(waiter)}" if waiter is not None and peek.is_task(waiter) else ""


def _follows(value: object) -> bool:
    return type(value) in _LINKS or _hides(type(value))


def _hides(kind: type) -> bool:
    return type(kind) is type and kind.__name__ in _HIDDEN and not kind.__flags__ & _HEAP_TYPE


def _place(frame: types.FrameType, qualname: str) -> str:
    line = frame.f_lineno
    return f"{_dotted(_module(frame), qualname)}:{line if line is not None else 0}"


def _code_name(code: types.CodeType) -> str:
    return getattr(code, "co_qualname", code.co_name)


def _module(frame: types.FrameType | None) -> str:
    if frame is None:
        return ""
    found = frame.f_globals.get("__name__") if type(frame.f_globals) is dict else None
    return found if type(found) is str else ""


def _dotted(module: str, qualname: object) -> str:
    shown = qualname if type(qualname) is str else "?"
    return f"{module}.{shown}" if module else shown


def _type_name(kind: type) -> str:
    """A type's own name, past any metaclass."""
    module = type.__dict__["__dict__"].__get__(kind).get("__module__", "")
    qualname = type.__dict__["__qualname__"].__get__(kind)
    return _dotted(module if type(module) is str else "", qualname)
