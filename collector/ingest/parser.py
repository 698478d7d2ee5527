"""The parser: a server that turns one client's deliveries into batches for the writer.

It reads of each message what everybody needs (the priority), counts where they came from in the client's
table, and hands them on: a batch is due when it is large enough or its first message has waited long
enough. One batch is with the writer at a time; what arrives meanwhile makes the next one larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collector.config import Fault, Spool
from collector.counters import ClientCounters
from collector.faults import FaultState, Leak, leak_of
from collector.ingest.inbox import MORE, Batch, Inbox
from collector.ingest.syslog import has_priority
from collector.ingest.table import ClientTable
from collector.spool.writer import STORED, Write, Writer
from collector.supervision import (
    Down,
    From,
    MonitorRef,
    Pid,
    Reason,
    Server,
    ServerDown,
    call,
    cast,
    demonitor,
    monitor,
    stop,
)
from collector.supervision.reasons import is_clean

__all__ = ["FAULTS_CHANGED", "Parser"]

FAULTS_CHANGED = "faults changed"
"""Call: look at the client's faults again. Answered when they are as they should be."""

WRITER_GONE_S = 0.2
_DUE = "due"


class Parser(Server):
    trap_exit = True

    async def init(
        self,
        inbox: Inbox,
        table: ClientTable,
        writer: str,
        spool: Spool,
        counters: ClientCounters,
        faults: Mapping[str, tuple[Fault, FaultState]],
    ) -> None:
        self._inbox = inbox
        self._table = table
        self._writer = writer
        self._spool = spool
        self._counters = counters
        self._faults = faults
        self._leaks: dict[str, Leak] = {}
        self._with_writer: MonitorRef | None = None
        self._waking = False
        inbox.closed = False
        self._follow_faults()
        self._step()

    async def handle_cast(self, message: Any) -> None:
        if message == STORED:
            if self._with_writer is not None:
                demonitor(self._with_writer)
                self._with_writer = None
        elif message != MORE:
            await super().handle_cast(message)
        self._step()

    async def handle_info(self, message: Any) -> None:
        if isinstance(message, Down) and message.ref is self._with_writer:
            self._with_writer = None
            self._wake(WRITER_GONE_S)
        elif message == _DUE:
            self._waking = False
            self._step()

    async def handle_call(self, request: Any, from_: From) -> Any:
        if request != FAULTS_CHANGED:
            return await super().handle_call(request, from_)
        self._follow_faults()
        return True

    async def terminate(self, reason: Reason) -> None:
        """Stopping for good: nothing more is accepted, and all that was is stored first. After a crash
        there will be another parser, and the inbox waits for it."""
        if not is_clean(reason):
            return
        self._inbox.closed = True
        try:
            await self._flush(self._writer)
        except ServerDown:  # it crashed, and whoever would restart it waits for our own end
            writer = await Server.start_link(
                Writer, self._inbox.client, self._spool, self._counters, self._inbox
            )
            assert writer is not None
            await self._flush(writer)
            await stop(writer, "shutdown")

    async def _flush(self, writer: str | Pid) -> None:
        while self._inbox.in_flight or self._take():
            await call(writer, Write(), timeout=None)

    def _step(self) -> None:
        """Hand the writer a batch if one is due and the writer is free. One that is in flight though no
        writer has it from us was left by a parser or a writer that crashed."""
        if self._with_writer is not None:
            return
        if self._inbox.in_flight is None:
            due_in_s = self._inbox.due_in_s
            if due_in_s is None:
                return
            if due_in_s > 0:
                self._wake(due_in_s)
                return
            self._take()
        self._with_writer = monitor(self._writer)
        cast(self._writer, Write(self.pid))

    def _wake(self, delay_s: float) -> None:
        if not self._waking:
            self._waking = True
            self.send_after(delay_s, _DUE)

    def _take(self) -> Batch | None:
        batch = self._inbox.take()
        if batch is None:
            return None
        self._counters.malformed += len(batch.messages) - sum(map(has_priority, batch.messages))
        self._table.count(batch.sources)
        for leak in self._leaks.values():
            leak.feed(batch.messages)
        return batch

    def _follow_faults(self) -> None:
        for key in [key for key in self._leaks if key not in self._faults]:
            self._leaks.pop(key).release()
        for key, (fault, state) in self._faults.items():
            if key not in self._leaks:
                self._leaks[key] = leak_of(fault, state, self._table)
