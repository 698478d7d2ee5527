"""What a client's senders have delivered and the disk does not hold yet.

There is one :class:`Inbox` a client, and the client's supervisor owns it: receivers come and go, the
parser and the writer may crash and be restarted, and what was accepted is still there. A batch that was
taken out stays *in flight* until the writer says that it is stored; whoever is there next goes on with it.
An inbox that goes with messages in it counts them as lost and says so, whoever's fault it was.

It is also where the client's memory budget is watched. Receivers look at ``over_budget`` after each
delivery, pause the sender that filled it and are sent :class:`Room` when there is room again. So a client
that is slow to store slows down its own senders, and nobody else's.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from collector.counters import ClientCounters
from collector.logs import event
from collector.supervision import Pid, cast, send

__all__ = ["MORE", "Batch", "Inbox", "Room"]

OVERHEAD_BYTES = 64
"""What a message costs beside its octets: the object's header and its place in lists."""
DELIVERY_BYTES = 640
"""What a delivery costs beside its messages: small ones from many senders are mostly this."""

MORE = "more"
"""Cast to the parser when there is something to do."""

_log = logging.getLogger("collector.ingest")


@dataclass(frozen=True)
class Room:
    """Sent to receivers that paused: the client takes messages again."""

    client: str


@dataclass(frozen=True)
class Batch:
    """What is stored as one frame."""

    messages: list[bytes]
    cost_bytes: int
    received_ns: int
    """When the first of them was accepted, since the epoch."""
    received_s: float
    """The same on the monotonic clock."""
    sources: Mapping[str, int]
    """How many came from which address."""


class Inbox:
    """Accepted messages of one client. Use it on the loop.

    parser: registered name of who empties it.
    """

    __slots__ = (
        "__weakref__",
        "_batch_age_s",
        "_batch_bytes",
        "_blocks",
        "_budget_bytes",
        "_cost_bytes",
        "_counters",
        "_in_flight",
        "_parser",
        "_told",
        "_waiting",
        "client",
        "closed",
    )
    __diag_holder__ = "queue"

    def __init__(
        self,
        client: str,
        parser: str,
        counters: ClientCounters,
        *,
        budget_bytes: int,
        batch_bytes: int,
        batch_age_s: float,
    ) -> None:
        self.client = client
        self.closed = False
        """True once the parser stores what is left, for the client is being stopped: nothing more is
        accepted."""
        self._parser = parser
        self._counters = counters
        self._budget_bytes = budget_bytes
        self._batch_bytes = batch_bytes
        self._batch_age_s = batch_age_s
        self._blocks: deque[Batch] = deque()
        self._in_flight: Batch | None = None
        self._cost_bytes = 0
        self._waiting: set[Pid] = set()
        self._told = 0

    @property
    def queued_bytes(self) -> int:
        """Cost of all that is not stored yet."""
        return self._cost_bytes

    @property
    def queued(self) -> int:
        """Messages not stored yet. O(blocks)."""
        flying = len(self._in_flight.messages) if self._in_flight else 0
        return flying + sum(len(block.messages) for block in self._blocks)

    @property
    def waiting_bytes(self) -> int:
        """Cost of what is not handed out yet."""
        return self._cost_bytes - (self._in_flight.cost_bytes if self._in_flight else 0)

    @property
    def in_flight(self) -> Batch | None:
        """The batch that is handed out and not stored yet."""
        return self._in_flight

    @property
    def due_in_s(self) -> float | None:
        """How long the oldest message may still wait for others to fill its batch; 0 if it must go now
        (as it must when there is no room for others), None if there is none to hand out."""
        if not self._blocks:
            return None
        if self._is_due:
            return 0.0
        return max(0.0, self._blocks[0].received_s + self._batch_age_s - time.monotonic())

    @property
    def over_budget(self) -> bool:
        return self._cost_bytes > self._budget_bytes

    @property
    def _is_due(self) -> bool:
        return self.waiting_bytes >= self._batch_bytes or self.over_budget

    def put(self, messages: list[bytes], octets: int, source: str) -> None:
        """Accept messages that came from ``source``; from here on they are ours to store. O(1), never
        blocks, never refuses: the budget is kept by not reading further."""
        cost = octets + OVERHEAD_BYTES * len(messages) + DELIVERY_BYTES
        block = Batch(messages, cost, time.time_ns(), time.monotonic(), {source: len(messages)})
        self._blocks.append(block)
        self._cost_bytes += cost
        self._counters.accepted += len(messages)
        self._counters.accepted_bytes += octets
        # One call when there is something at all, one more when there is enough for a batch.
        due = 2 if self._is_due else 1
        if due > self._told:
            self._told = due
            cast(self._parser, MORE)

    def take(self) -> Batch | None:
        """Hand out the next batch; None if there is nothing, or one is in flight. It holds whole
        deliveries: as many as make ``batch_bytes``, and a little over."""
        self._told = 0
        if self._in_flight is not None or not self._blocks:
            return None
        first = self._blocks.popleft()
        messages, cost, sources = first.messages, first.cost_bytes, first.sources
        if self._blocks and cost < self._batch_bytes:
            messages, merged = list(messages), dict(sources)
            while self._blocks and cost < self._batch_bytes:
                block = self._blocks.popleft()
                messages += block.messages
                cost += block.cost_bytes
                for source, count in block.sources.items():
                    merged[source] = merged.get(source, 0) + count
            sources = merged
        self._in_flight = Batch(messages, cost, first.received_ns, first.received_s, sources)
        return self._in_flight

    def stored(self) -> None:
        """The batch in flight is on disk: forget it, and call back those who wait for room."""
        if self._in_flight is None:
            return
        self._cost_bytes -= self._in_flight.cost_bytes
        self._in_flight = None
        if self._waiting and self._cost_bytes <= self._budget_bytes // 2:
            waiting, self._waiting = self._waiting, set()
            for pid in waiting:
                send(pid, Room(self.client))

    def call_when_room(self, pid: Pid) -> None:
        """Send ``pid`` a :class:`Room` once the queue has fallen to half the budget."""
        self._waiting.add(pid)

    def __del__(self) -> None:
        left = self.queued
        if left:
            self._counters.lost += left
            event(_log, logging.ERROR, "messages_lost", client=self.client, count=left)
