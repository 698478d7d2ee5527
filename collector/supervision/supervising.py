"""The engine of a supervisor: OTP's ``supervisor`` loop, one message at a time, in the supervisor's own task.

It reproduces what OTP 25 does, its surprises included; ``tests/functional/otp`` compares the two. Where it
does not, on purpose: a dynamic child that ignores its restart is forgotten (OTP keeps a child without a
process, and fails when it stops); ``count_children`` never counts below zero (OTP does once a dynamic child
was terminated during its restart); a name still held by the child of a killed supervisor is waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from collector.supervision import reports
from collector.supervision.children import ChildRecord, ChildTable, Restarting
from collector.supervision.errors import StartError
from collector.supervision.intensity import RestartWindow
from collector.supervision.mailbox import Mailbox
from collector.supervision.messages import wait_ended
from collector.supervision.pid import Exited, Pid
from collector.supervision.process import spawn
from collector.supervision.reasons import SHUTDOWN, Reason, brief, is_clean
from collector.supervision.registry import whereis
from collector.supervision.server import Call, StopRequest, reply
from collector.supervision.spec import ChildSpec, SupervisorFlags
from collector.supervision.strategies import affected
from collector.supervision.termination import shut_down, shut_down_all

__all__ = ["ChildInfo", "Counts", "Engine", "Refused", "Request"]

ORPHAN_S = 5.0


class ChildInfo(NamedTuple):
    """One entry of ``which_children``."""

    id: str | None
    """None for the children of a simple_one_for_one supervisor."""
    child: Pid | str | None
    """The process, ``"restarting"``, or None if there is none."""
    type: str


class Counts(NamedTuple):
    """What ``count_children`` says."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True)
class Request:
    """What the functions of :mod:`collector.supervision.supervisor` send."""

    operation: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None


@dataclass(frozen=True)
class Refused:
    """OTP's ``{error, Reason}`` on its way back to the caller."""

    reason: Reason


@dataclass(frozen=True)
class _TryAgain:
    """A failed restart, to be tried when the messages before this one are done; or a delayed one, now."""

    key: str
    delayed: bool = False


class _StartFailed(Exception):
    def __init__(self, record: ChildRecord, reason: Reason) -> None:
        super().__init__(record.key)
        self.record = record
        self.reason = reason


class Engine:
    """A supervisor's children and what happens to them. Only the supervisor's frames hold it."""

    def __init__(self, pid: Pid, mailbox: Mailbox, flags: SupervisorFlags) -> None:
        self.pid = pid
        self.mailbox = mailbox
        self.flags = flags
        self.table = ChildTable()
        self.window = RestartWindow(flags.intensity, flags.period)
        self.restarts = 0
        """Children started again, since the supervisor started."""

    # Starting

    async def start_all(self, specs: Sequence[ChildSpec]) -> Reason | None:
        """Start the initial children in order. None, or why that failed; then those already started have
        been stopped again, the last one first."""
        refusal = self._check_all(specs)
        if refusal is not None:
            return ("start_spec", refusal)
        if self.flags.strategy == "simple_one_for_one":
            if len(specs) != 1:
                return ("bad_start_spec", tuple(spec.id for spec in specs))
            self.table = ChildTable(dynamic=specs[0])
            return None
        for spec in specs:
            self.table.add(spec)
        try:
            await self._start(list(self.table))
        except _StartFailed as failed:
            key, reason = failed.record.key, failed.reason
        else:
            return None
        await self._stop(list(self.table))
        return (SHUTDOWN, ("failed_to_start_child", key, reason))

    def _check_all(self, specs: Sequence[ChildSpec]) -> Reason | None:
        seen: set[str] = set()
        for spec in specs:
            refusal = self._check(spec)
            if refusal is not None:
                return refusal
            if spec.id in seen:
                return ("duplicate_child_name", spec.id)
            seen.add(spec.id)
        return None

    def _check(self, spec: object) -> Reason | None:
        if not isinstance(spec, ChildSpec):
            return ("invalid_child_spec", brief(spec))
        if spec.significant and self.flags.auto_shutdown == "never":
            return ("bad_combination", (("auto_shutdown", "never"), ("significant", True)))
        return None

    async def _start_one(self, record: ChildRecord) -> None:
        """Start a child. Raises StartError; a child that said IGNORE has no process afterwards."""
        spec = record.spec
        args, kwargs = spec.args, dict(spec.kwargs)
        if record.extra is not None:
            args, kwargs = (*args, *record.extra[0]), {**kwargs, **record.extra[1]}
        if spec.name is not None:
            await _wait_for_orphan(spec.name)
        child_type = getattr(spec.start, "__child_type__", None)
        pid: Pid | None
        if child_type is not None:
            pid = await spec.start._start_process(args, kwargs, name=spec.name, id=record.key)
        else:
            call = spec.initial_call
            pid = spawn(
                _run, spec.start, args, kwargs, id=record.key, name=spec.name, initial_call=call, link=True
            )
        record.started_at = self.pid.clock.now()
        self.table.put(record, pid)
        if pid is not None:
            reports.progress(self.pid.label, record.key, pid)

    async def _start(self, records: Sequence[ChildRecord], *, again: bool = False) -> None:
        """Start in order; raises _StartFailed at the first that fails."""
        for record in records:
            try:
                await self._start_one(record)
            except StartError as error:
                reason = error.reason
                self._report("start_error", reason, record)
                raise _StartFailed(record, reason) from None
            if record.child is None and record.spec.restart == "temporary":
                self.table.remove(record)
            elif again and record.child is not None:
                record.restarts += 1
                self.restarts += 1

    # Stopping

    async def stop_all(self) -> None:
        """Stop everything: in reverse start order, dynamic children all at once."""
        if self.table.dynamic is None:
            await self._stop(list(self.table))
            return
        spec = self.table.dynamic
        running = [record.child for record in self.table if isinstance(record.child, Pid)]
        for reason, pids in (await shut_down_all(running, spec)).items():
            reports.supervisor(self.pid.label, "shutdown_error", reason, spec.id, children=len(pids))

    async def _stop(self, records: Sequence[ChildRecord]) -> None:
        """Stop from the last to the first; temporary ones are forgotten."""
        for record in reversed(records):
            await self._stop_one(record)
            self.table.ended(record)

    async def _stop_one(self, record: ChildRecord) -> None:
        if isinstance(record.child, Pid):
            reason = await shut_down(record.child, record.spec)
            if reason is not None:
                self._report("shutdown_error", reason, record)

    # The loop

    async def run(self) -> Reason:
        """Work until there is a reason to stop."""
        while True:
            reason = await self._handle(await self.mailbox.get(self.pid.clock))
            if reason is not None:
                return reason

    async def _handle(self, message: Any) -> Reason | None:
        """One message; the reason if the supervisor must stop now."""
        if isinstance(message, Exited):
            if message.pid is self.pid.parent:
                return message.reason
            record = self.table.of(message.pid)  # None for a child that was stopped meanwhile
            gives_up = record is not None and await self._child_ended(record, message.reason)
            return SHUTDOWN if gives_up else None
        if isinstance(message, _TryAgain):
            record = self.table.get(message.key)
            if record is None or not isinstance(record.child, Restarting):
                return None
            record.timer = None
            return SHUTDOWN if await self._restart(record, delayed=message.delayed) else None
        if isinstance(message, Call):
            reply(message.from_, await self._answer(message.request))
        elif isinstance(message, StopRequest):
            return message.reason
        else:
            reports.unexpected(self.pid.label, message)
        return None

    async def _child_ended(self, record: ChildRecord, reason: Reason) -> bool:
        """A child ended by itself. True if the supervisor must shut down."""
        restart = record.spec.restart
        if restart == "permanent" or not is_clean(reason):
            self._report("child_terminated", reason, record)
        if restart == "permanent" or (restart == "transient" and not is_clean(reason)):
            return await self._restart(record)
        self.table.ended(record)
        return record.spec.significant and self._significant_ended()

    def _significant_ended(self) -> bool:
        if self.flags.auto_shutdown == "any_significant":
            return True
        if self.flags.auto_shutdown == "never":
            return False
        return not any(record.spec.significant and record.child is not None for record in self.table)

    # Restarting

    async def _restart(self, record: ChildRecord, *, delayed: bool = False) -> bool:
        """Start a child again, with the siblings the strategy says. True if that is once too often."""
        now = self.pid.clock.now()
        delay_decides = delayed and self.flags.intensity == 0
        if not self.window.has_room(now) and not delay_decides:
            if record.spec.delay is not None:
                self._delay(record, now)
                return False
            self.window.add(now)
            self._report("shutdown", "reached_max_restart_intensity", record)
            self.table.ended(record)
            return True
        self.window.add(now)
        group = affected(self.flags.strategy, self.table, record) if self.table.dynamic is None else [record]
        old = record.child.pid if isinstance(record.child, Restarting) else record.child
        if len(group) > 1:
            self.table.put(record, None)
            await self._stop(group)
            group = [each for each in group if self.table.get(each.key) is each]
        try:
            await self._start(group, again=True)
        except _StartFailed as failed:
            ended = old if failed.record is record else None
            self.table.put(failed.record, Restarting(ended))
            self.mailbox.put(_TryAgain(failed.record.key))
        else:
            if self.table.dynamic is not None and record.child is None:
                self.table.remove(record)
        return False

    def _delay(self, record: ChildRecord, now: float) -> None:
        policy = record.spec.delay
        assert policy is not None
        if isinstance(record.child, Pid) and now - record.started_at > max(record.delay_s, self.flags.period):
            record.attempts = 0
        delay_s = policy.delay_s(record.attempts)
        old = record.child.pid if isinstance(record.child, Restarting) else record.child
        self.table.put(record, Restarting(old))
        record.attempts += 1
        record.delay_s = delay_s
        record.timer = self.mailbox.put_later(self.pid.clock, delay_s, _TryAgain(record.key, delayed=True))
        self._report("delayed_restart", f"again in {delay_s:g} s", record, level=logging.WARNING)

    # Requests

    async def _answer(self, request: Any) -> Any:
        operation = getattr(self, f"_on_{request.operation}", None) if isinstance(request, Request) else None
        if operation is None:
            reports.unexpected(self.pid.label, request)
            return Refused("unknown_request")
        try:
            return await operation(*request.args, **(request.kwargs or {}))
        except StartError as error:
            return Refused(error.reason)

    async def _on_start_child(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.table.dynamic is not None:
            record = self.table.add_dynamic(args, kwargs)
        else:
            spec: Any = args[0] if len(args) == 1 and not kwargs else (args, kwargs)
            refusal = self._check(spec)
            if refusal is not None:
                return Refused(refusal)
            known = self.table.get(spec.id)
            if known is not None:
                running = isinstance(known.child, Pid)
                return Refused(("already_started", known.child) if running else "already_present")
            record = self.table.add(spec)
        try:
            await self._start_one(record)
        except BaseException:
            self.table.remove(record)
            raise
        if record.child is None and (record.spec.restart == "temporary" or self.table.dynamic is not None):
            self.table.remove(record)
        self.table.forget_arguments(record)
        return record.child

    async def _on_terminate_child(self, child: str | Pid) -> Any:
        if self.table.dynamic is not None:
            if not isinstance(child, Pid):
                return Refused("simple_one_for_one")
            record = self.table.of(child)
            if record is None:
                return Refused("not_found") if child.alive else None
        else:
            record = self.table.get(child) if isinstance(child, str) else None
            if record is None:
                return Refused("not_found")
        await self._stop_one(record)
        self.table.ended(record)
        return None

    def _stopped(self, id: str) -> ChildRecord | Refused:
        if self.table.dynamic is not None:
            return Refused("simple_one_for_one")
        record = self.table.get(id)
        if record is None:
            return Refused("not_found")
        if isinstance(record.child, Restarting):
            return Refused("restarting")
        return record if record.child is None else Refused("running")

    async def _on_restart_child(self, id: str) -> Any:
        record = self._stopped(id)
        if isinstance(record, Refused):
            return record
        await self._start_one(record)
        return record.child

    async def _on_delete_child(self, id: str) -> Any:
        record = self._stopped(id)
        if isinstance(record, Refused):
            return record
        self.table.remove(record)
        return None

    async def _on_replace_child(self, key: str) -> Any:
        """Stop a child and start it again with the same arguments. Not OTP's: an operator's restart, which
        also works for dynamic children, as one step nobody can get between."""
        record = self.table.get(key)
        if record is None:
            return Refused("not_found")
        if record.spec.restart == "temporary":
            return Refused("temporary")
        await self._stop_one(record)
        self.table.put(record, None)
        try:
            await self._start_one(record)
        finally:
            if self.table.dynamic is not None and record.child is None:
                self.table.remove(record)
        return record.child

    async def _on_get_childspec(self, child: str | Pid) -> Any:
        if self.table.dynamic is not None and isinstance(child, Pid):
            return self.table.dynamic if self.table.of(child) is not None else Refused("not_found")
        record = self.table.get(child) if isinstance(child, str) else None
        return record.spec if record is not None else Refused("not_found")

    async def _on_which_children(self) -> list[ChildInfo]:
        dynamic = self.table.dynamic is not None
        found = [
            ChildInfo(
                None if dynamic else record.key,
                "restarting" if isinstance(record.child, Restarting) else record.child,
                record.spec.type or "worker",
            )
            for record in self.table
        ]
        return found if dynamic else found[::-1]

    async def _on_count_children(self) -> Counts:
        records = list(self.table)
        active = sum(isinstance(record.child, Pid) and record.child.alive for record in records)
        supervisors = sum(record.spec.type == "supervisor" for record in records)
        specs = 1 if self.table.dynamic is not None else len(records)
        return Counts(specs, active, supervisors, len(records) - supervisors)

    def _report(self, context: str, reason: Reason, record: ChildRecord, level: int = logging.ERROR) -> None:
        pid = record.child.number if isinstance(record.child, Pid) else 0
        reports.supervisor(
            self.pid.label,
            context,
            reason,
            record.key,
            level,
            pid=pid,
            start=record.spec.initial_call,
            restart=record.spec.restart,
            restarts=record.restarts,
        )


async def _wait_for_orphan(name: str) -> None:
    """When a supervisor is killed its children still take a moment to go, and one may have the name that is
    wanted now. (On the BEAM that is a race, which the orphan nearly always wins.)"""
    holder = whereis(name)
    if holder is not None and holder.parent is not None and not holder.parent.alive:
        try:
            await wait_ended(holder, ORPHAN_S)
        except asyncio.TimeoutError:
            pass


async def _run(start: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The body of a child that is a plain async callable."""
    awaitable = start(*args, **kwargs)
    del start, args, kwargs
    await awaitable
