"""Why a process ended, in OTP's terms, kept small enough to keep.

A reason is ``"normal"``, ``"shutdown"``, ``("shutdown", term)``, ``"killed"``, ``"noproc"``, any other small
term a process chose to exit with, or a :class:`Crash`. Reasons travel to supervisors, reports and monitors
and outlive the process, so they never hold an exception, a traceback or a frame: through those a dead
server's whole state would stay alive.
"""

from __future__ import annotations

import os
import reprlib
import traceback
from dataclasses import dataclass, fields, is_dataclass
from types import TracebackType
from typing import Any

__all__ = ["KILL", "KILLED", "NOPROC", "NORMAL", "SHUTDOWN", "Crash", "Exit", "Reason", "brief", "is_clean"]

Reason = Any
"""``str``, a tuple of small terms, or :class:`Crash`."""

NORMAL = "normal"
SHUTDOWN = "shutdown"
KILL = "kill"
"""What is *sent* to kill a process; what others then see is :data:`KILLED`."""
KILLED = "killed"
NOPROC = "noproc"

MESSAGE_CHARS = 300
TRACEBACK_CHARS = 1500
TRACEBACK_FRAMES = 12
_HERE = os.path.dirname(__file__)


class Exit(Exception):
    """Raise it in a process to end it with ``reason`` (OTP's ``exit/1``)."""

    def __init__(self, reason: Reason = NORMAL) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Crash:
    """An exception nobody caught, as text: at most a few hundred characters each."""

    error: str
    """The exception's type."""
    message: str
    traceback: str = ""
    """``file:line function`` outermost first, joined by `` > ``, and what caused it."""

    def __str__(self) -> str:
        return f"{self.error}: {self.message}" if self.message else self.error


def is_clean(reason: Reason) -> bool:
    """True for ``normal``, ``shutdown`` and ``("shutdown", term)``: a transient child is not restarted."""
    return reason in (NORMAL, SHUTDOWN) if isinstance(reason, str) else _is_shutdown_tuple(reason)


def _is_shutdown_tuple(reason: Reason) -> bool:
    return isinstance(reason, tuple) and len(reason) == 2 and reason[0] == SHUTDOWN


def crash_of(error: BaseException) -> Crash:
    """``error`` as a :class:`Crash`. Clears the locals of the frames it passed through, so that nothing
    the dead code had in hand stays alive through the exception, whoever still keeps it."""
    parts = [_places(error.__traceback__)]
    link = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while link is not None and len(parts) < 4:
        parts.append(f"{type(link).__name__}: {_message(link)} at {_places(link.__traceback__)}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    crash = Crash(
        error=_type_name(error),
        message=_message(error),
        traceback=_cut(" <- ".join(parts), TRACEBACK_CHARS),
    )
    release(error)
    return crash


def release(error: BaseException) -> None:
    """Clear the locals of all finished frames ``error`` passed through, and those of its causes."""
    seen: dict[int, BaseException] = {}
    todo: list[BaseException | None] = [error]
    while todo and len(seen) < 100:
        link = todo.pop()
        if link is None or id(link) in seen:
            continue
        seen[id(link)] = link
        if link.__traceback__ is not None:
            traceback.clear_frames(link.__traceback__)
        todo += [link.__cause__, link.__context__]
        todo += [inner for inner in getattr(link, "exceptions", ()) if isinstance(inner, BaseException)]


def _places(tb: TracebackType | None) -> str:
    walked = [(frame.f_code, line) for frame, line in traceback.walk_tb(tb)]
    while len(walked) > 1 and os.path.dirname(walked[0][0].co_filename) == _HERE:
        del walked[0]  # our own frames above the callback say nothing
    places = []
    for code, line in walked:
        places.append(f"{'/'.join(code.co_filename.split('/')[-2:])}:{line} {code.co_name}")
    if len(places) > TRACEBACK_FRAMES:
        places[: len(places) - TRACEBACK_FRAMES] = ["..."]
    return " > ".join(places)


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return _cut(str(error), MESSAGE_CHARS)
    except Exception as broken:
        return f"<str() failed: {type(broken).__name__}>"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


_ATOMS = (str, int, float, bool, type(None), Crash)


def storable(reason: Reason) -> Reason:
    """``reason`` if it is small and plain, otherwise text that describes it. Process handles stay."""
    return _stored(reason, [100])


def _stored(reason: Reason, room: list[int]) -> Reason:
    room[0] -= 1
    if isinstance(reason, BaseException):
        return crash_of(reason)
    if isinstance(reason, str):
        return _cut(reason, MESSAGE_CHARS)
    if isinstance(reason, _ATOMS) or getattr(reason, "__process_handle__", False):
        return reason
    if isinstance(reason, tuple) and len(reason) < room[0]:
        return tuple(_stored(item, room) for item in reason)
    return brief(reason)


class _Brief(reprlib.Repr):
    """Bounded repr that shows sizes, never contents, of buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxdeque = 4
        self.maxstring = 80
        self.maxother = 120

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, (bytes, bytearray)):
            return f"<{type(x).__name__} {len(x)} B>"
        if isinstance(x, memoryview):
            return f"<memoryview {x.nbytes} B>"
        if isinstance(x, Crash):
            return str(x)
        if is_dataclass(x) and not isinstance(x, type):
            if level <= 0:
                return f"{type(x).__name__}(...)"
            shown = [f"{f.name}={self.repr1(getattr(x, f.name, None), level - 1)}" for f in fields(x)[:6]]
            return f"{type(x).__name__}({', '.join(shown)})"
        if getattr(type(x), "__repr__", None) is object.__repr__:
            return f"<{type(x).__qualname__}>"
        return super().repr1(x, level)


class _ReasonText(_Brief):
    """Reasons nest a level deeper with every supervisor they pass, and their texts matter."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 24
        self.maxtuple = 8
        self.maxstring = self.maxother = 300


_brief = _Brief()
_reason_text = _ReasonText()


def reason_text(reason: Reason, limit: int = 600) -> str:
    """A reason for people, at most ``limit`` characters."""
    if isinstance(reason, (str, Crash)):
        return _cut(str(reason), limit)
    try:
        return _cut(_reason_text.repr(reason), limit)
    except Exception as broken:
        return f"<{type(reason).__qualname__}, repr() failed: {type(broken).__name__}>"


def brief(value: Any, limit: int = 200) -> str:
    """``repr(value)`` for people, at most ``limit`` characters; buffers are shown by size only."""
    try:
        return _cut(_brief.repr(value), limit)
    except Exception as broken:
        return f"<{type(value).__qualname__}, repr() failed: {type(broken).__name__}>"
