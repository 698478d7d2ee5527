"""The writer: a server that puts one client's batches on disk, one at a time.

Compressing, writing and syncing happen in a thread of its own: a disk that hangs stalls this client and
nobody else. What cannot be written now (a full or read-only disk) is tried again, at growing intervals,
until it can; meanwhile nothing further is taken, and the client's senders are slowed down.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from collector.config import Spool
from collector.counters import ClientCounters
from collector.ingest.inbox import Batch
from collector.logs import event
from collector.spool.directory import explain
from collector.spool.segment import SegmentWriter
from collector.supervision import NOREPLY, From, Pid, Reason, Server, cast, reply
from collector.supervision.mailbox import MessageTimer

__all__ = ["STORED", "Settled", "Write", "Writer"]

RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)

STORED = "stored"
"""Cast to who asked for a write once it is on disk."""

_RETRY = "retry"
_log = logging.getLogger("collector.spool")


@dataclass(frozen=True)
class Write:
    """Store a batch. Cast: ``reply_to`` is cast STORED afterwards. Call: the answer comes when it is stored.

    A batch that still waits for its disk is replaced: who asked for it is gone; its inbox has it again."""

    batch: Batch
    reply_to: Pid | None = None


@dataclass(frozen=True)
class Settled:
    """Call: is that batch stored? Answered once nothing is left to store; False: never seen it."""

    number: int


class Writer(Server):
    trap_exit = True

    async def init(self, client: str, spool: Spool, counters: ClientCounters) -> None:
        self._client = client
        self._directory = spool.directory / client
        self._counters = counters
        self._segments = SegmentWriter(
            self._directory,
            client,
            segment_bytes=spool.segment_bytes,
            segment_age_s=spool.segment_age_s,
            compression_level=spool.compression_level,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"spool:{client}")
        self._pending: Write | None = None
        self._waiting: list[tuple[From, int]] = []
        self._last_stored = 0
        self._failures = 0
        self._retry: MessageTimer | None = None

    async def handle_cast(self, message: Any) -> Any:
        if not isinstance(message, Write):
            return await super().handle_cast(message)
        self._pending = message
        await self._attempt()
        return None

    async def handle_call(self, request: Any, from_: From) -> Any:
        if isinstance(request, Write):
            self._pending = request
            self._waiting.append((from_, request.batch.number))
            await self._attempt()
            return NOREPLY
        if isinstance(request, Settled):
            if self._pending is None:
                return request.number == self._last_stored
            self._waiting.append((from_, request.number))
            return NOREPLY
        return await super().handle_call(request, from_)

    async def handle_info(self, message: Any) -> None:
        if message == _RETRY:
            await self._attempt()

    async def terminate(self, reason: Reason) -> None:
        if self._pending is None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._segments.close)
        self._thread.shutdown(wait=False)

    async def _attempt(self) -> None:
        if self._pending is None:
            return
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        batch = self._pending.batch
        try:
            stored_bytes = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._segments.write, batch.messages, batch.received_ns
            )
        except OSError as error:
            self._failed(error)
            return
        self._counters.stored += len(batch.messages)
        self._counters.stored_bytes += stored_bytes
        self._counters.frames += 1
        if self._failures:
            event(_log, logging.WARNING, "spool_recovered", client=self._client, attempts=self._failures)
            self._failures = 0
        self._last_stored = batch.number
        reply_to = self._pending.reply_to
        self._pending = None
        if reply_to is not None:
            cast(reply_to, STORED)
        waiting, self._waiting = self._waiting, []
        for from_, number in waiting:
            reply(from_, number == self._last_stored)

    def _failed(self, error: OSError) -> None:
        self._counters.store_failures += 1
        if self._failures == 0:
            problem = explain(self._directory, error)
            event(
                _log, logging.ERROR, "spool_failed", client=self._client, problem=problem, action="retrying"
            )
        self._retry = self.send_after(RETRY_S[min(self._failures, len(RETRY_S) - 1)], _RETRY)
        self._failures += 1
