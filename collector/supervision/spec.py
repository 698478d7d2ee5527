"""What a supervisor is told: its flags and its children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from collector.supervision.delay import DelayPolicy
from collector.supervision.errors import names

__all__ = ["AutoShutdown", "ChildSpec", "ChildType", "Restart", "Shutdown", "Strategy", "SupervisorFlags"]

Restart = Literal["permanent", "transient", "temporary"]
ChildType = Literal["worker", "supervisor"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Shutdown = Literal["brutal_kill", "infinity"]
"""... or a number of seconds."""

WORKER_SHUTDOWN_S = 5.0


def _one_of(what: str, value: object, allowed: Any) -> None:
    choices = get_args(allowed)
    if value not in choices:
        raise ValueError(f"{what} is {value!r}; it must be {names([repr(choice) for choice in choices])}")


@dataclass(frozen=True)
class ChildSpec:
    """How to start, restart and stop one child. Raises ValueError when it makes no sense.

    start: a ``Server`` class, a ``Supervisor`` class, or any async callable, whose return ends the child
    normally. Called as ``start(*args, **kwargs)`` (``init(*args, **kwargs)`` for the classes).
    restart: ``permanent`` always; ``transient`` unless it ended ``normal`` or ``shutdown``;
    ``temporary`` never.
    shutdown: seconds to end in before it is killed, ``"brutal_kill"`` or ``"infinity"``; by default 5 s for a
    worker and infinity for a supervisor. An async callable is cancelled, and cleans up in that time.
    significant: its end counts for the supervisor's ``auto_shutdown``.
    delay: wait instead of taking the supervisor down, see :mod:`collector.supervision.delay`.
    name: registered name; also the name of its task (otherwise the id is).
    """

    id: str
    start: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    restart: Restart = "permanent"
    shutdown: float | Shutdown | None = None
    type: ChildType | None = None
    significant: bool = False
    delay: DelayPolicy | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        def put(attribute: str, value: object) -> None:
            object.__setattr__(self, attribute, value)

        if not isinstance(self.id, str) or not self.id:
            raise ValueError(f"child id is {self.id!r}; it must be a string that is not empty")
        where = f"child {self.id!r}: "
        if not callable(self.start):
            allowed = "it must be a Server or Supervisor class or an async callable"
            raise ValueError(f"{where}start is {self.start!r}; {allowed}")
        _one_of(f"{where}restart", self.restart, Restart)
        if self.type is None:
            put("type", getattr(self.start, "__child_type__", "worker"))
        _one_of(f"{where}type", self.type, ChildType)
        if self.shutdown is None:
            put("shutdown", "infinity" if self.type == "supervisor" else WORKER_SHUTDOWN_S)
        if isinstance(self.shutdown, str):
            _one_of(f"{where}shutdown (unless it is seconds)", self.shutdown, Shutdown)
        elif not isinstance(self.shutdown, (int, float)) or not self.shutdown >= 0 or self.shutdown is True:
            raise ValueError(
                f"{where}shutdown is {self.shutdown!r}; it must be seconds >= 0, 'brutal_kill' or 'infinity'"
            )
        if self.significant and self.restart == "permanent":
            raise ValueError(f"{where}a permanent child cannot be significant; use transient or temporary")
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise ValueError(f"{where}name is {self.name!r}; it must be a string that is not empty")
        put("args", tuple(self.args))
        put("kwargs", dict(self.kwargs))

    @property
    def initial_call(self) -> str:
        """What is started, as a qualified name."""
        named = getattr(self.start, "__func__", self.start)
        named = named if hasattr(named, "__qualname__") else type(named)
        call = f"{named.__module__}.{named.__qualname__}"
        return f"{call}.init" if hasattr(self.start, "__child_type__") else call


@dataclass(frozen=True)
class SupervisorFlags:
    """A supervisor's rules. More than ``intensity`` restarts in ``period`` seconds and it gives up.

    Raises ValueError when a value is not allowed.
    """

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: int = 5
    auto_shutdown: AutoShutdown = "never"

    def __post_init__(self) -> None:
        _one_of("strategy", self.strategy, Strategy)
        _one_of("auto_shutdown", self.auto_shutdown, AutoShutdown)
        if not _whole(self.intensity) or self.intensity < 0:
            raise ValueError(f"intensity is {self.intensity!r}; it must be a whole number >= 0")
        if not _whole(self.period) or self.period < 1:
            raise ValueError(f"period is {self.period!r}; it must be a whole number of seconds >= 1")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
