"""The writer: a server that puts one client's batches on disk, one at a time.

Compressing, writing and syncing happen in a thread of its own: a disk that hangs stalls this client and
nobody else. What cannot be written now (a full or read-only disk) is tried again, at growing intervals,
until it can; meanwhile nothing further is taken, and the client's senders are slowed down.

What is to be stored is the batch in flight of the client's inbox, and it is in flight until it is stored: so
who asks twice, or asks another writer, has it stored once. (Only a writer that is killed while its disk works
may leave a batch there that the next one stores again.)
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from collector.config import Spool
from collector.counters import ClientCounters
from collector.ingest.inbox import Inbox
from collector.logs import event
from collector.spool.directory import explain
from collector.spool.disk_thread import DiskThread
from collector.spool.segment import SegmentWriter
from collector.supervision import NOREPLY, From, Pid, Reason, Server, cast, reply
from collector.supervision.mailbox import MessageTimer
from collector.supervision.reasons import is_clean

__all__ = ["STORED", "Write", "Writer"]

RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)

STORED = "stored"
"""Cast to who asked for a write once it is on disk."""

_RETRY = "retry"
_log = logging.getLogger("collector.spool")


@dataclass(frozen=True)
class Write:
    """Store the inbox's batch in flight. Cast: ``reply_to`` is cast STORED afterwards. Call: the answer comes
    when it is stored."""

    reply_to: Pid | None = None


class Writer(Server):
    trap_exit = True

    async def init(self, client: str, spool: Spool, counters: ClientCounters, inbox: Inbox) -> None:
        self._client = client
        self._directory = spool.directory / client
        self._counters = counters
        self._inbox = inbox
        self._segments = SegmentWriter(
            self._directory,
            client,
            segment_bytes=spool.segment_bytes,
            segment_age_s=spool.segment_age_s,
            compression_level=spool.compression_level,
        )
        self._disk = DiskThread(f"spool:{client}")
        self._reply_to: Pid | None = None
        self._waiting: list[From] = []
        self._failures = 0
        self._retry: MessageTimer | None = None

    async def handle_cast(self, message: Any) -> Any:
        if not isinstance(message, Write):
            return await super().handle_cast(message)
        self._reply_to = message.reply_to
        await self._attempt()
        return None

    async def handle_call(self, request: Any, from_: From) -> Any:
        if not isinstance(request, Write):
            return await super().handle_call(request, from_)
        self._waiting.append(from_)
        await self._attempt()
        return NOREPLY

    async def handle_info(self, message: Any) -> None:
        if message == _RETRY:
            await self._attempt()

    async def terminate(self, reason: Reason) -> None:
        """We are the last to stop. The parser has closed the inbox and had all of it stored, unless it was
        down: then that is left to us."""
        if is_clean(reason) and not self._inbox.closed:
            while self._inbox.in_flight or self._inbox.take():
                await self._attempt()
                if self._failures:
                    await asyncio.sleep(self._retry_s)
        if self._inbox.in_flight is None:
            await self._disk.call(self._segments.close)
        self._disk.close()

    @property
    def _retry_s(self) -> float:
        return RETRY_S[min(self._failures, len(RETRY_S)) - 1]

    async def _attempt(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        batch = self._inbox.in_flight
        if batch is not None:
            try:
                stored_bytes = await self._disk.call(self._segments.write, batch.messages, batch.received_ns)
            except OSError as error:
                self._failed(error)
                return
            self._inbox.stored()
            self._counters.stored += len(batch.messages)
            self._counters.stored_bytes += stored_bytes
            self._counters.frames += 1
            if self._failures:
                event(_log, logging.WARNING, "spool_recovered", client=self._client, attempts=self._failures)
                self._failures = 0
        reply_to, self._reply_to = self._reply_to, None
        if reply_to is not None:
            cast(reply_to, STORED)
        waiting, self._waiting = self._waiting, []
        for from_ in waiting:
            reply(from_, True)

    def _failed(self, error: OSError) -> None:
        self._counters.store_failures += 1
        if self._failures == 0:
            problem = explain(self._directory, error)
            event(
                _log, logging.ERROR, "spool_failed", client=self._client, problem=problem, action="retrying"
            )
        self._failures += 1
        self._retry = self.send_after(self._retry_s, _RETRY)
