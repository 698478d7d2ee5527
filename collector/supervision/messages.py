"""What processes say to each other, and hear of each other's end."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from collector.supervision.clock import ring
from collector.supervision.errors import ServerDown
from collector.supervision.mailbox import MessageTimer
from collector.supervision.pid import Down, MonitorRef, Pid, tie
from collector.supervision.process import current, own_mailbox, resolve
from collector.supervision.reasons import KILL, NOPROC, Reason, storable

__all__ = [
    "demonitor",
    "link",
    "monitor",
    "receive",
    "send",
    "send_after",
    "send_exit",
    "unlink",
    "wait_ended",
]


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
        tie(me, pid)
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
    mailbox = ref._watcher.mailbox()
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
    mailbox = None if pid is None else pid.mailbox()
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
        pid._signal(current(), storable(reason))


async def receive(timeout_s: float | None = None) -> Any:
    """The calling process's next message. Raises asyncio.TimeoutError after ``timeout_s`` without one."""
    me = _self("receive")
    mailbox = own_mailbox(me)
    return await mailbox.get(me.clock, timeout_s)


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
