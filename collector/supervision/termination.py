"""Stopping children the way their specs say, and judging how that went."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from collector.supervision.messages import send_exit, wait_ended
from collector.supervision.pid import Pid
from collector.supervision.reasons import KILL, KILLED, SHUTDOWN, Reason, is_clean
from collector.supervision.spec import ChildSpec

__all__ = ["shut_down", "shut_down_all"]


async def shut_down(pid: Pid, spec: ChildSpec) -> Reason | None:
    """Stop one child and wait until it is gone. None if it went as told, else the reason it gave."""
    await _end([pid], spec)
    return _complaint(pid, spec)


async def shut_down_all(pids: Sequence[Pid], spec: ChildSpec) -> dict[Reason, list[Pid]]:
    """Stop dynamic children all at once; they share one timeout. Those that did not go as told, by reason."""
    await _end(pids, spec)
    complaints: dict[Reason, list[Pid]] = {}
    for pid in pids:
        reason = _complaint(pid, spec)
        if reason is not None:
            complaints.setdefault(reason, []).append(pid)
    return complaints


async def _end(pids: Sequence[Pid], spec: ChildSpec) -> None:
    how, timeout_s = (KILL, None) if spec.shutdown == "brutal_kill" else (SHUTDOWN, spec.shutdown)
    for pid in pids:
        send_exit(pid, how)
    if isinstance(timeout_s, (int, float)) and pids:
        clock = pids[0].clock
        deadline = clock.now() + timeout_s
        try:
            for pid in pids:
                await wait_ended(pid, max(deadline - clock.now(), 0.0))
        except asyncio.TimeoutError:
            for pid in pids:
                send_exit(pid, KILL)
    for pid in pids:
        await wait_ended(pid)


def _complaint(pid: Pid, spec: ChildSpec) -> Reason | None:
    reason = pid.exit_reason
    if reason == (KILLED if spec.shutdown == "brutal_kill" else SHUTDOWN):
        return None
    if spec.restart != "permanent" and is_clean(reason):
        return None
    return reason
