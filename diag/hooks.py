"""How an application shows diag its supervisors and subsystems, and lets an operator act on them.

An application that has a tree of its own (supervisors, applications, anything that can be stopped as a
whole) implements :class:`Subsystem` on its own classes and registers the roots::

    hooks.register(app)       # held weakly: registering keeps nothing alive

diag then ranks memory by that tree and stops or restarts through it, never behind its back. Without
any hook diag still shows tasks, grouped by TaskGroup and by who awaits whom.

Two rules make the figures right:

* The methods below are called from diag's own thread while the loop runs. They must take a snapshot
  (``list(self._children.values())``) and must not block, await or change anything.
* A subsystem object belongs to its own row, and tasks belong to theirs: references between them say
  who knows whom, not who owns the memory. So a supervisor may keep its children's tasks; whatever
  *else* it keeps of a child (buffers, state) is, rightly, charged to the supervisor.

A class may also say what kind of place it is, so that bytes found through its instances are put under
the right holder: ``__diag_holder__ = "registry"`` (or ``"queue"``, ``"transport"``).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = ["Child", "Subsystem", "register", "roots", "unregister"]

SubsystemKind = Literal["application", "supervisor"]


@dataclass(frozen=True)
class Child:
    """One child as its parent sees it at this moment."""

    id: str
    """What the parent calls it; unique among its siblings; what stop and restart take."""
    name: str
    """The registered name people know it by (the id, if it has none)."""
    state: str
    """``running``, ``restarting``, ``delayed`` or ``terminated``."""
    initial_call: str = ""
    """What was started: a qualified name."""
    restarts: int = 0
    node: Subsystem | None = None
    """The child, where it is itself a subsystem; then ``task`` is ignored."""
    task: asyncio.Task[Any] | None = None
    """The task that runs the child, where it is a worker."""
    kind: Literal["worker", "supervisor"] = "worker"
    """What it is, for a child that is not there at the moment (no ``node``, no ``task``)."""


@runtime_checkable
class Subsystem(Protocol):
    """An application or a supervisor, as the owner tree needs it."""

    @property
    def diag_kind(self) -> SubsystemKind: ...

    @property
    def diag_name(self) -> str:
        """The registered name."""

    def diag_task(self) -> asyncio.Task[Any] | None:
        """The task the subsystem itself runs in, if it has one."""

    def diag_info(self) -> Mapping[str, str | int | float | bool]:
        """Facts for people: strategy, intensity, period, restarts, state, initial_call ..."""

    def diag_children(self) -> Sequence[Child]: ...

    async def diag_stop_child(self, child_id: str) -> None:
        """Stop one child and its subtree for good (it can be restarted). Runs on the loop.

        Raises KeyError for an unknown child."""

    async def diag_restart_child(self, child_id: str) -> None:
        """Stop the child if it runs, then start it again. Runs on the loop."""

    async def diag_stop(self) -> None:
        """Stop this whole subsystem. Asked of registered roots only."""

    async def diag_start(self) -> None:
        """Start a stopped root again. Asked of registered roots only."""


_roots: dict[int, weakref.ref[Subsystem]] = {}


def register(root: Subsystem) -> None:
    """Show ``root`` and everything below it. Idempotent; O(1); keeps only a weak reference."""
    key = id(root)
    _roots[key] = weakref.ref(root, lambda _ref, key=key: _roots.pop(key, None))  # type: ignore[misc]


def unregister(root: Subsystem) -> None:
    """Stop showing ``root``. Harmless if it was not shown."""
    _roots.pop(id(root), None)


def roots() -> list[Subsystem]:
    """The live registered roots, oldest first. Safe from any thread."""
    return [root for ref in list(_roots.values()) if (root := ref()) is not None]
