"""Processes: an asyncio task each, with a mailbox, links, monitors and an exit reason.

This file starts them and sees them through to their end. Functions that take a ``ref``, here and in
:mod:`collector.supervision.messages`, take a Pid or a registered name.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from collector.supervision import registry, reports
from collector.supervision.clock import Clock, default_clock
from collector.supervision.errors import StartError
from collector.supervision.mailbox import Mailbox
from collector.supervision.pid import Pid, ended, running, tie
from collector.supervision.reasons import KILLED, NORMAL, Exit, Reason, crash_of, is_clean, release, storable

__all__ = ["current", "own_mailbox", "processes", "resolve", "spawn", "spawn_link", "start"]


def current() -> Pid | None:
    """The process this code runs in, or None (helper tasks a process made are not processes)."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else running.get(task)


def processes() -> list[Pid]:
    """All running processes, oldest first."""
    return [pid for pid in list(running.values()) if pid.alive]


def resolve(ref: Pid | str) -> Pid | None:
    """The process meant, or None if there is none of that name."""
    return registry.whereis(ref) if isinstance(ref, str) else ref


def spawn(
    body: Callable[..., Any],
    *args: Any,
    id: str | None = None,
    name: str | None = None,
    initial_call: str | None = None,
    clock: Clock | None = None,
    link: bool = False,
    detached: bool = False,
    _await_start: bool = False,
    **kwargs: Any,
) -> Pid:
    """Run the async callable ``body(*args, **kwargs)`` as a process of its own. Returns at once.

    detached: it has no parent and no ancestors; it belongs to the whole program.

    Raises StartError(("already_started", pid)) if ``name`` is taken.
    """
    _forget_closed_loops()
    caller = current()
    parent = None if detached else caller
    call = initial_call or f"{body.__module__}.{getattr(body, '__qualname__', type(body).__qualname__)}"
    pid = Pid(clock or (caller.clock if caller is not None else default_clock()), parent, id, call)
    if name is not None:
        holder = registry.whereis(name)
        if holder is not None:
            raise StartError(name, ("already_started", holder))
        registry.register(name, pid)
    mailbox = Mailbox()
    pid._mailbox = weakref.ref(mailbox)
    if _await_start:
        pid._started = pid._loop.create_future()
    # An empty context: what the caller's context refers to is no business of the new process, and would
    # live as long as it. The class, not loop.create_task: an eager task would run before it is known here.
    context = contextvars.Context()
    task = context.run(
        partial(asyncio.Task, _main(pid, mailbox, body, args, kwargs), loop=pid._loop, name=pid.label)
    )
    pid._task = task
    running[task] = pid
    task.add_done_callback(_task_done, context=context)
    if link and parent is not None:
        tie(parent, pid)
    return pid


def _forget_closed_loops() -> None:
    """A loop that was closed without ending its tasks left them here."""
    if running and next(iter(running.values())).loop_closed:
        for task, pid in list(running.items()):
            if pid.loop_closed:
                del running[task]


def spawn_link(body: Callable[..., Any], *args: Any, **options: Any) -> Pid:
    """:func:`spawn`, linked to the calling process: if one ends abnormally, so does the other."""
    return spawn(body, *args, link=True, **options)


async def start(body: Callable[..., Any], what: str, *args: Any, **options: Any) -> Pid | None:
    """:func:`spawn_link` a body that reports how its start went (Server, Supervisor) and wait for that.

    Returns None for ``ignore``. Raises StartError with the reason.
    """
    pid = spawn(body, *args, link=True, _await_start=True, **options)
    started = pid._started
    assert started is not None
    try:
        outcome, reason = await started
    except asyncio.CancelledError:
        if current() is None:  # nobody is linked to it who could take it along
            pid._kill()
        raise
    if outcome == "ok":
        return pid
    if outcome == "ignore":
        return None
    raise StartError(what, reason)


async def _main(
    pid: Pid, mailbox: Mailbox, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """The outermost frame of every process. Sees to it that the task ends well, whatever happens, so that
    no exception with its traceback stays in the task; says why it ended."""
    by_signal = False
    try:
        awaitable = body(*args, **kwargs)
        del body, args, kwargs
        await awaitable
        reason: Reason = NORMAL if pid._doomed is None else pid._doomed
    except asyncio.CancelledError as error:
        by_signal = not pid.cancelled_by_other()
        reason = (pid._doomed or KILLED) if by_signal else crash_of(error)
        release(error)
    except Exit as error:
        reason = storable(error.reason)
        release(error)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        reason = crash_of(error)
    finally:
        waiting = len(mailbox)
        mailbox.close()
    pid._outcome = reason
    if not by_signal and not is_clean(reason) and reason != pid._doomed:
        reports.crash(pid, reason, waiting)


def _task_done(task: asyncio.Task[None]) -> None:
    """The task is over and its frames are gone: only now others are told."""
    pid = running.pop(task, None)
    if not task.cancelled():
        task.exception()  # marks it as seen
    if pid is not None:
        ended(pid)


def own_mailbox(me: Pid) -> Mailbox:
    """The mailbox of the process this runs in."""
    mailbox = me.mailbox()
    assert mailbox is not None, f"{me} has ended"
    return mailbox
