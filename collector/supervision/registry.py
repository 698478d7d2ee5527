"""Registered names: one flat space of names per process, as in one Erlang node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.supervision.pid import Pid

__all__ = ["register", "registered", "unregister", "whereis"]

_names: dict[str, Pid] = {}


def whereis(name: str) -> Pid | None:
    """The live process registered under ``name``, or None. O(1)."""
    pid = _names.get(name)
    return pid if pid is not None and pid.alive else None


def register(name: str, pid: Pid) -> None:
    """Give ``pid`` a name. It is dropped when the process ends.

    Raises ValueError if the name is taken, the process has ended, or it already has a name.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"name is {name!r}; it must be a string that is not empty")
    holder = whereis(name)
    if holder is not None:
        raise ValueError(f"the name {name!r} is taken by {holder}")
    if not pid.alive:
        raise ValueError(f"{pid} has ended and cannot be named {name!r}")
    if pid.name is not None:
        raise ValueError(f"{pid} already has the name {pid.name!r}")
    pid.name = name
    _names[name] = pid


def unregister(name: str) -> None:
    """Drop a name. Raises ValueError if nobody has it."""
    pid = _names.pop(name, None)
    if pid is None:
        raise ValueError(f"nobody is registered as {name!r}")
    pid.name = None


def registered() -> list[str]:
    """All names in use."""
    return [name for name, pid in list(_names.items()) if pid.alive]


def forget(pid: Pid) -> None:
    """``pid`` has ended: its name is free. It keeps saying what it was called."""
    if pid.name is not None and _names.get(pid.name) is pid:
        del _names[pid.name]
