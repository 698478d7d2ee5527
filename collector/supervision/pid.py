"""The handle of a process: what others keep of it, and how its end travels.

A :class:`Pid` holds the task while the process runs and a few words afterwards, and never the mailbox or
anything the process works on: those hang on the task's own frames alone. So memory is always the process's
that uses it, and is free the moment the process has ended.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from dataclasses import dataclass
from typing import Any

from collector.supervision import registry, reports
from collector.supervision.clock import Clock, TimerHandle
from collector.supervision.mailbox import Mailbox
from collector.supervision.reasons import KILLED, NORMAL, Reason

__all__ = ["Down", "Exited", "MonitorRef", "Pid", "ended", "running", "tie"]

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
running: dict[asyncio.Task[Any], Pid] = {}  # asyncio itself holds tasks only weakly


class Pid:
    """The handle of a process; compares by identity. Cheap to keep, also long after the process ended.

    name: registered name, if any. label: the name, the id its supervisor gave it, or what it runs.
    ancestors: labels of the processes above it, nearest first. trap_exit: links' exits arrive as messages.
    """

    __slots__ = (
        "__weakref__",
        "_doomed",
        "_kill_timer",
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
        self._kill_timer: TimerHandle | None = None

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
        return self.exit_reason is None and not self.loop_closed

    @property
    def loop_closed(self) -> bool:
        """Its event loop is gone, and with it the process, without a word."""
        return self._loop.is_closed()

    def mailbox(self) -> Mailbox | None:
        """Its mailbox, while it runs. Do not keep it."""
        return self._mailbox() if self._mailbox is not None else None

    @property
    def mailbox_length(self) -> int:
        """Messages waiting. Any thread."""
        mailbox = self.mailbox()
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
        if self._doomed is not None:
            return False
        cancelling = getattr(self._task, "cancelling", None)  # 3.11+; before, one cannot know
        return cancelling is not None and cancelling() == 0

    def add_waiter(self, future: asyncio.Future[Any]) -> None:
        """Have ``future`` resolved with None when the process ends."""
        self._waiters[future] = None

    def drop_waiter(self, future: asyncio.Future[Any]) -> None:
        self._waiters.pop(future, None)

    def put(self, message: Any) -> bool:
        """Append to its mailbox; False if it has ended."""
        mailbox = self.mailbox()
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
                running.pop(self._task, None)
            ended(self)
            return
        self._cancel()
        self._kill_timer = self.clock.call_later(KILL_RETRY_S, _kill_again, weakref.ref(self))

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


def ended(pid: Pid) -> None:
    reason = pid._outcome if pid._outcome is not None else (pid._doomed or KILLED)
    pid.exit_reason = reason
    pid._task = None
    pid._object = None
    if pid._kill_timer is not None:
        pid._kill_timer.cancel()
        pid._kill_timer = None
    registry.forget(pid)
    links, pid._links = pid._links, {}
    monitors, pid._monitors = pid._monitors, {}
    waiters, pid._waiters = pid._waiters, {}
    for other in links:
        other._links.pop(pid, None)
        other._signal(pid, reason)
    for ref in monitors:
        ref._watcher.put(Down(ref, pid, reason))
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    pid._ack(pid._outcome_of_start, reason)


def tie(one: Pid, other: Pid) -> None:
    one._links[other] = None
    other._links[one] = None
