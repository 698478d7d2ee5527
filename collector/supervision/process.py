"""Processes: an asyncio task each, with a mailbox, links, monitors and an exit reason.

A :class:`Pid` is what others keep of a process. It holds the task while the process runs and a few words
afterwards, and never the mailbox or anything the process works on: those hang on the task's own frames
alone. So memory is always the process's that uses it, and is free the moment the process has ended.

Functions that take a ``ref`` take a Pid or a registered name.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from collector.supervision import registry, reports
from collector.supervision.clock import Clock, default_clock, ring
from collector.supervision.errors import ServerDown, StartError
from collector.supervision.mailbox import Mailbox, MessageTimer
from collector.supervision.reasons import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    Exit,
    Reason,
    crash_of,
    is_clean,
    release,
)
from collector.supervision.reasons import storable as _storable

__all__ = [
    "Down",
    "Exited",
    "Pid",
    "current",
    "link",
    "monitor",
    "receive",
    "send",
    "send_after",
    "send_exit",
]
__all__ += ["MonitorRef", "demonitor", "resolve", "spawn", "spawn_link", "start", "unlink", "wait_ended"]

KILL_RETRY_S = 1.0
KILL_TRIES = 5


@dataclass(frozen=True)
class Exited:
    """A linked process ended (OTP's ``{'EXIT', Pid, Reason}``); only who traps exits receives it."""

    pid: Pid
    reason: Reason


@dataclass(frozen=True)
class Down:
    """A monitored process ended (OTP's ``{'DOWN', Ref, process, Pid, Reason}``)."""

    ref: MonitorRef
    pid: Pid | None
    reason: Reason


class MonitorRef:
    """Names one monitor."""

    __slots__ = ("_target", "_watcher")

    def __init__(self, watcher: Pid, target: Pid | None) -> None:
        self._watcher = watcher
        self._target = target


_numbers = itertools.count(1)
_running: dict[asyncio.Task[Any], Pid] = {}  # asyncio itself holds tasks only weakly


class Pid:
    """The handle of a process; compares by identity. Cheap to keep, also long after the process ended.

    name: registered name, if any. label: the name, the id its supervisor gave it, or what it runs.
    ancestors: labels of the processes above it, nearest first. trap_exit: links' exits arrive as messages.
    """

    __slots__ = (
        "__weakref__",
        "_doomed",
        "_kills",
        "_links",
        "_loop",
        "_mailbox",
        "_monitors",
        "_object",
        "_outcome",
        "_outcome_of_start",
        "_started",
        "_task",
        "_waiters",
        "ancestors",
        "clock",
        "exit_reason",
        "group",
        "id",
        "initial_call",
        "name",
        "number",
        "parent",
        "trap_exit",
    )
    __process_handle__ = True

    def __init__(self, clock: Clock, parent: Pid | None, id: str | None, initial_call: str) -> None:
        self.number = next(_numbers)
        self.name: str | None = None
        self.id = id
        self.initial_call = initial_call
        self.clock = clock
        self.parent = parent
        self.ancestors: tuple[str, ...] = () if parent is None else (parent.label, *parent.ancestors)
        self.group: Pid | None = None if parent is None else parent.group
        self.trap_exit = False
        self.exit_reason: Reason | None = None
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._mailbox: weakref.ref[Mailbox] | None = None
        self._object: weakref.ref[Any] | None = None
        self._links: dict[Pid, None] = {}
        self._monitors: dict[MonitorRef, None] = {}
        self._waiters: dict[asyncio.Future[Any], None] = {}
        self._started: asyncio.Future[tuple[str, Reason]] | None = None
        self._doomed: Reason | None = None
        self._outcome: Reason | None = None
        self._outcome_of_start = "error"
        self._kills = 0

    def __repr__(self) -> str:
        return f"<{self.number} {self.label}>"

    @property
    def label(self) -> str:
        return self.name or self.id or self.initial_call

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task it runs in; None once it has ended."""
        return self._task

    @property
    def alive(self) -> bool:
        return self.exit_reason is None and not self._loop.is_closed()

    @property
    def mailbox_length(self) -> int:
        """Messages waiting. Any thread."""
        mailbox = self._mailbox() if self._mailbox is not None else None
        return 0 if mailbox is None else len(mailbox)

    def instance(self) -> Any | None:
        """The Server or Supervisor object that runs in it, while it runs. Do not keep it."""
        return self._object() if self._object is not None else None

    @property
    def doomed(self) -> Reason | None:
        """Why it is about to end, once an exit signal has hit it."""
        return self._doomed

    def started(self) -> None:
        """The process itself: ``init`` is done, whoever waits for the start may go on."""
        self._ack("ok")

    def ignored(self) -> None:
        """The process itself: it will end at once, and that is all right."""
        self._outcome_of_start = "ignore"

    def cancelled_by_other(self) -> bool:
        """The process itself, handling a CancelledError: it came out of something awaited."""
        return _foreign_cancel(self)

    def add_waiter(self, future: asyncio.Future[Any]) -> None:
        """Have ``future`` resolved with None when the process ends."""
        self._waiters[future] = None

    def drop_waiter(self, future: asyncio.Future[Any]) -> None:
        self._waiters.pop(future, None)

    def put(self, message: Any) -> bool:
        """Append to its mailbox; False if it has ended."""
        mailbox = self._mailbox() if self._mailbox is not None else None
        if mailbox is None or self.exit_reason is not None:
            return False
        mailbox.put(message)
        return True

    def shows(self, instance: weakref.ref[Any]) -> None:
        """The process itself: what :meth:`instance` gives others."""
        self._object = instance

    def _signal(self, sender: Pid | None, reason: Reason) -> None:
        """An exit signal arrives: through a link, or from send_exit."""
        if self.exit_reason is not None:
            return
        if self.trap_exit:
            self.put(Exited(sender if sender is not None else self, reason))
        elif reason != NORMAL and self._doomed is None:
            self._doomed = reason
            self._cancel()

    def _kill(self) -> None:
        if self.exit_reason is not None or self._doomed == KILLED:
            return
        self._doomed = KILLED
        self._kill_again()

    def _kill_again(self) -> None:
        """Python cannot take a task off the loop by force; one that swallows its cancellation is cancelled
        again a few times and then given up: its supervisor must not wait for ever."""
        if self.exit_reason is not None:
            return
        self._kills += 1
        if self._kills > KILL_TRIES:
            reports.unkillable(self, KILL_TRIES)
            if self._task is not None:
                _running.pop(self._task, None)
            _ended(self)
            return
        self._cancel()
        self.clock.call_later(KILL_RETRY_S, _kill_again, weakref.ref(self))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _ack(self, outcome: str, reason: Reason = None) -> None:
        """Tell who started it how that went."""
        started, self._started = self._started, None
        if started is not None and not started.done():
            started.set_result((outcome, reason))


def _kill_again(ref: weakref.ref[Pid]) -> None:
    pid = ref()
    if pid is not None:
        pid._kill_again()


def current() -> Pid | None:
    """The process this code runs in, or None (helper tasks a process made are not processes)."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else _running.get(task)


def processes() -> list[Pid]:
    """All running processes, oldest first."""
    return list(_running.values())


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
    _running[task] = pid
    task.add_done_callback(_task_done, context=context)
    if link and parent is not None:
        _link(parent, pid)
    return pid


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
        by_signal = not _foreign_cancel(pid)
        reason = (pid._doomed or KILLED) if by_signal else crash_of(error)
        release(error)
    except Exit as error:
        reason = _storable(error.reason)
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


def _foreign_cancel(pid: Pid) -> bool:
    """Whether a CancelledError came out of something the process awaited, not from cancelling the process."""
    if pid._doomed is not None:
        return False
    cancelling = getattr(asyncio.current_task(), "cancelling", None)  # 3.11+; before, one cannot know
    return cancelling is not None and cancelling() == 0


def _task_done(task: asyncio.Task[None]) -> None:
    """The task is over and its frames are gone: only now others are told."""
    pid = _running.pop(task, None)
    if not task.cancelled():
        task.exception()  # marks it as seen
    if pid is not None:
        _ended(pid)


def _ended(pid: Pid) -> None:
    reason = pid._outcome if pid._outcome is not None else (pid._doomed or KILLED)
    pid.exit_reason = reason
    pid._task = None
    pid._object = None
    registry.forget(pid)
    links, pid._links = pid._links, {}
    monitors, pid._monitors = pid._monitors, {}
    waiters, pid._waiters = pid._waiters, {}
    # Its own children first: they are on their way out before its supervisor starts it again.
    for other in sorted(links, key=lambda other: other.parent is not pid):
        other._links.pop(pid, None)
        other._signal(pid, reason)
    for ref in monitors:
        ref._watcher.put(Down(ref, pid, reason))
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    pid._ack(pid._outcome_of_start, reason)


def _link(one: Pid, other: Pid) -> None:
    one._links[other] = None
    other._links[one] = None


def _self(what: str) -> Pid:
    pid = current()
    if pid is None:
        raise RuntimeError(
            f"{what} works inside a process only (a Server, a Supervisor or a spawned callable)"
        )
    return pid


def link(pid: Pid) -> None:
    """Tie the calling process to ``pid``: the end of one is signalled to the other."""
    me = _self("link")
    if pid is me:
        return
    if pid.alive:
        _link(me, pid)
    else:
        me._signal(pid, NOPROC)


def unlink(pid: Pid) -> None:
    """Undo :func:`link`."""
    me = _self("unlink")
    me._links.pop(pid, None)
    pid._links.pop(me, None)


def monitor(ref: Pid | str) -> MonitorRef:
    """Have a :class:`Down` sent to the calling process when ``ref`` ends; at once if it is not there."""
    me = _self("monitor")
    pid = resolve(ref)
    monitor_ref = MonitorRef(me, pid)
    if pid is None or not pid.alive:
        me.put(Down(monitor_ref, pid, NOPROC))
    else:
        pid._monitors[monitor_ref] = None
    return monitor_ref


def demonitor(ref: MonitorRef) -> None:
    """End a monitor, and drop its :class:`Down` if that is already waiting."""
    if ref._target is not None:
        ref._target._monitors.pop(ref, None)
    mailbox = ref._watcher._mailbox() if ref._watcher._mailbox is not None else None
    if mailbox is not None:
        mailbox.take(lambda message: isinstance(message, Down) and message.ref is ref)


def send(ref: Pid | str, message: Any) -> None:
    """Put ``message`` into a process's mailbox. To a process that has ended: dropped.

    Raises ServerDown("noproc") for a name nobody has.
    """
    pid = resolve(ref)
    if pid is None:
        raise ServerDown(str(ref), message, NOPROC)
    pid.put(message)


def send_after(delay_s: float, ref: Pid | str, message: Any) -> MessageTimer | None:
    """:func:`send` in ``delay_s`` seconds, by the receiver's clock. None if the receiver is not there."""
    pid = resolve(ref)
    mailbox = pid._mailbox() if pid is not None and pid._mailbox is not None else None
    return None if pid is None or mailbox is None else mailbox.put_later(pid.clock, delay_s, message)


def send_exit(ref: Pid | str, reason: Reason) -> None:
    """Send an exit signal (OTP's ``exit/2``). ``"kill"`` cannot be trapped; ``"normal"`` is ignored by who
    does not trap exits. Nothing happens if the process has ended."""
    pid = resolve(ref)
    if pid is None:
        return
    if reason == KILL:
        pid._kill()
    else:
        pid._signal(current(), _storable(reason))


async def receive(timeout_s: float | None = None) -> Any:
    """The calling process's next message. Raises asyncio.TimeoutError after ``timeout_s`` without one."""
    me = _self("receive")
    mailbox = own_mailbox(me)
    return await mailbox.get(me.clock, timeout_s)


def own_mailbox(me: Pid) -> Mailbox:
    mailbox = me._mailbox() if me._mailbox is not None else None
    assert mailbox is not None, f"{me} has ended"
    return mailbox


async def wait_ended(ref: Pid | str, timeout_s: float | None = None) -> Reason:
    """Wait until a process has ended and its memory is free; its exit reason (``"noproc"`` for a name
    nobody has). Raises asyncio.TimeoutError."""
    pid = resolve(ref)
    if pid is None:
        return NOPROC
    if pid.exit_reason is None:
        waiter = asyncio.get_running_loop().create_future()
        pid.add_waiter(waiter)
        alarm = None
        if timeout_s is not None:
            alarm = pid.clock.call_later(timeout_s, ring, weakref.ref(waiter))
        try:
            await waiter
        finally:
            pid.drop_waiter(waiter)
            if alarm is not None:
                alarm.cancel()
        if pid.exit_reason is None:
            raise asyncio.TimeoutError
    return pid.exit_reason
