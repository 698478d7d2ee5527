"""What an action is aimed at, remembered without keeping any of it alive.

A plan is made from a fresh look at the process, while its tree holds everything strongly; from then on
there are only names and weak references, or nothing that is stopped could ever be freed.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from diag import hooks
from diag.agent import table
from diag.agent.onloop import Function
from diag.agent.runtime import peek, tasks, waiters
from diag.agent.runtime.identity import Identities
from diag.agent.runtime.tree import Label
from diag.agent.table import Look
from diag.wire.errors import LOOP_STALLED, OWNER_GONE, UNSUPPORTED, RpcError

_WORTH_SAYING = 0.05
_MESSAGE = "cancelled by an operator through diag"


@dataclass(frozen=True)
class Victim:
    """One owner that is expected to go: its name and weak references to what it is."""

    name: str
    task: weakref.ref[peek.AnyTask] | None
    subsystem: weakref.ref[object] | None
    above: Victim | None = None
    """Who waits for it, where it is a plain task below another victim; else None."""
    follows: bool = False
    """Whether it is to be cancelled too, should it outlive who waited for it."""

    def ended(self) -> bool:
        """Whether its task has finished (a subsystem without a task counts as ended)."""
        task = None if self.task is None else self.task()
        return task is None or peek.done(task)

    def freed(self) -> bool:
        """Whether nothing of it exists any more."""
        return (self.task is None or self.task() is None) and (
            self.subsystem is None or self.subsystem() is None
        )

    def left_behind(self) -> bool:
        """Whether it goes on though its waiter has ended: ``asyncio.wait``, ``as_completed`` and ``shield``
        pass no cancellation down. (Whatever does waits for it to end first.)"""
        return self.above is not None and self.above.ended() and not self.ended()

    def spared(self) -> bool:
        """Whether it is left behind for good, or below one that is."""
        if self.above is None or self.ended():
            return False
        return self.above.spared() or (self.left_behind() and not self.follows)

    def cancel(self) -> None:
        """On its loop only."""
        task = None if self.task is None else self.task()
        if task is not None:
            peek.cancel(task, _MESSAGE)


@dataclass(frozen=True)
class Plan:
    """An action ready to be carried out on ``loop``."""

    action: str
    name: str
    """The name of the owner acted on."""
    victims: tuple[Victim, ...]
    """It and everything below it, it first."""
    told: tuple[Victim, ...]
    """Tasks above a plain task, into which its cancellation is raised too."""
    predicted_bytes: int
    note: str
    loop: asyncio.AbstractEventLoop
    function: Function


def plan(look: Look, action: str, owner_id: str, expect: str | None, identities: Identities) -> Plan:
    """Find the owner, make sure it is still the one that was meant, and say how to act on it.

    Raises RpcError OWNER_GONE when nobody, or a successor, has the id; UNSUPPORTED when the action does
    not fit the owner."""
    index = look.find(owner_id, identities)
    if index is None:
        raise RpcError(OWNER_GONE, f"there is no owner {owner_id!r} (any more)", "refresh, and pick it again")
    label = look.runtime.labels[index]
    if expect is not None and expect != table.incarnation_of(label, identities):
        raise _successor(label.name)
    function, note = _function(label, action, expected=expect is not None)
    row = look.picture.rows[index]
    predicted = row.retained_bytes
    if action == "start":
        predicted = 0
    elif label.holder is None and label.subsystem is None and row.loop_bytes:
        # Cancelling closes no connection: the loop goes on holding these.
        predicted -= row.loop_bytes
        if row.loop_bytes > _WORTH_SAYING * row.retained_bytes:
            more = f"{row.loop_bytes} more bytes go when its connections close and its timers end"
            note = _joined(note, more)
    if predicted and not look.picture.cost.complete:
        note = _joined(note, "predicted is a lower bound: the walk was cut off")
    return Plan(
        action=action,
        name=label.name,
        victims=() if action == "start" else _victims(look, index, action),
        told=_told(label),
        predicted_bytes=predicted,
        note=note,
        loop=_loop_for(look, index),
        function=function,
    )


def _victims(look: Look, index: int, action: str) -> tuple[Victim, ...]:
    found: dict[int, Victim] = {}
    through_hooks = not _is_plain(look.runtime.labels[index])
    for each in look.runtime.subtree(index):
        label = look.runtime.labels[each]
        if label.task is None and label.subsystem is None:
            continue  # a child that is already stopped
        waited_for = each != index and _is_plain(label)
        found[each] = Victim(
            label.name,
            None if label.task is None else weakref.ref(label.task),
            # A registered root stays: it is what can be started again.
            None if label.holder is None else _weakly(label.subsystem),
            found.get(look.runtime.parent(each)) if waited_for else None,
            # What a supervised child leaves behind is its own affair, and what is shielded is so on purpose.
            follows=waited_for
            and action == "stop"
            and not through_hooks
            and label.task is not None
            and not waiters.is_shielded(label.task),
        )
    return tuple(found.values())


def _is_plain(label: Label) -> bool:
    return label.holder is None and label.subsystem is None


def _told(label: Label) -> tuple[Victim, ...]:
    if label.task is None or not _is_plain(label):
        return ()
    return tuple(Victim(peek.name(each), weakref.ref(each), None) for each in waiters.told(label.task))


def _weakly(value: object | None) -> weakref.ref[object] | None:
    try:
        return None if value is None else weakref.ref(value)
    except TypeError:
        return None


def _function(label: Label, action: str, expected: bool) -> tuple[Function, str]:
    """What to run on the loop. It may hold the victim's parent, never the victim itself; a registered
    root is the exception, it has to be there to be started again."""
    allowed = table.actions_for(label)
    if action == "start" and label.holder is not None and allowed == ("restart",):
        action = "restart"
    if action not in allowed:
        raise RpcError(
            UNSUPPORTED,
            f"{label.name!r} ({label.kind}) cannot be asked to {action}",
            _why_not(label, allowed),
        )
    if label.holder is not None and label.child is not None:
        return _on_child(label.holder, label, action, expected), ""
    if label.subsystem is not None:
        return _on_root(label.subsystem, action), ""
    assert label.task is not None
    main = waiters.is_main(label.task)
    note = "it was the task the program waits for: the program ends" if main else ""
    return Victim(label.name, weakref.ref(label.task), None).cancel, note


def _on_child(
    holder: hooks.Subsystem, label: Label, action: str, expected: bool
) -> Callable[[], Coroutine[Any, Any, None]]:
    assert label.child is not None
    child_id, name = label.child.id, label.name
    meant = _weakly(label.subsystem if label.subsystem is not None else label.task) if expected else None

    async def act() -> None:
        if meant is not None:
            # It may have crashed and been restarted while we measured it and waited for the loop.
            now = next((child for child in holder.diag_children() if child.id == child_id), None)
            live = None if now is None else now.node if now.node is not None else now.task
            if live is None or live is not meant():
                raise _successor(name)
        await (holder.diag_restart_child if action == "restart" else holder.diag_stop_child)(child_id)

    return act


def _successor(name: str) -> RpcError:
    return RpcError(
        OWNER_GONE,
        f"{name!r} is not the one that was shown: it ended, and another took its name",
        "refresh, and look again before acting",
    )


def _on_root(root: hooks.Subsystem, action: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def restart() -> None:
        await root.diag_stop()
        await root.diag_start()

    return {"stop": root.diag_stop, "start": root.diag_start, "restart": restart}[action]


def _why_not(label: Label, allowed: tuple[str, ...]) -> str:
    if allowed:
        return f"possible now: {', '.join(allowed)}"
    if label.kind == "done_task":
        return "it has finished already; what still refers to it keeps its memory: see 'diag why'"
    return "only tasks, supervisors and applications can be acted on"


def _loop_for(look: Look, index: int) -> asyncio.AbstractEventLoop:
    """The loop of the owner's own task, else of one below it, else of one above, else the only one."""
    runtime = look.runtime
    above = []
    parent = runtime.parent(index)
    while parent > 0:
        above.append(parent)
        parent = runtime.parent(parent)
    for each in [*runtime.subtree(index), *above]:
        task = runtime.labels[each].task
        loop = None if task is None else peek.loop(task)
        if loop is not None:
            return loop
    loop = main_loop(runtime.loops)
    if loop is None:
        raise RpcError(LOOP_STALLED, "no event loop is running to act on", "is the program shutting down?")
    return loop


def main_loop(loops: list[asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop | None:
    """The main thread's loop, else the first that runs; None if none does."""
    running = [loop for loop in loops if loop.is_running()]
    main = threading.main_thread().ident
    return next((loop for loop in running if tasks.thread_of(loop) == main), running[0] if running else None)


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
