"""Faults that can be switched on at run time, to see what they look like and to practise on. Off by default.

The one here is the talk's: the **sub-binary leak**. A receive block of 256 KiB is cut into messages by
view instead of by copy, and somebody keeps a view of 32 octets for each block: a little is shown, all of it
stays. It can hang in each of the talk's four places:

* ``locals``: in the parser's own state (process heap)
* ``registry``: in the client's table, which the client's supervisor owns (ets table)
* ``queue``: in the mailbox of an auditor that waits for an answer that never comes (message queue)
* ``transport``: in the write buffer of a forwarder whose peer has stopped reading (driver queue)

The leak is fed by the client's real messages, at most ``bytes_per_s``, up to ``max_bytes`` in all. What
leaked hangs on the client's own tasks and nowhere else: it goes when the client's supervisor is stopped,
and when the fault is switched off. A fault stays on when the client is restarted, as a bug would.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from collector.config import Fault
from collector.forward.writer import GatherWriter
from collector.ingest.table import ClientTable
from collector.supervision import ChildSpec, Reason, Server, cast

__all__ = [
    "BLOCK_BYTES",
    "VIEW_BYTES",
    "Auditor",
    "FaultState",
    "Forwarder",
    "Leak",
    "helper_spec",
    "leak_of",
]

BLOCK_BYTES = 256 * 1024
VIEW_BYTES = 32


@dataclass
class FaultState:
    """How far a fault has got; numbers only."""

    views: int = 0
    """Kept since it was switched on or the client was last started."""

    @property
    def shown_bytes(self) -> int:
        return self.views * VIEW_BYTES

    @property
    def pinned_bytes(self) -> int:
        return self.views * BLOCK_BYTES


class Leak:
    """The sub-binary leak at its source. ``keep`` puts a view where it will stay; ``forget`` lets all go."""

    def __init__(
        self,
        fault: Fault,
        state: FaultState,
        keep: Callable[[memoryview], object],
        forget: Callable[[], object],
    ) -> None:
        self._keep = keep
        self._forget = forget
        self._state = state
        self._bytes_per_s = fault.bytes_per_s
        self._max_bytes = fault.max_bytes
        self._credit_bytes = 0.0
        self._credited_at = time.monotonic()
        state.views = 0

    def feed(self, messages: Sequence[bytes]) -> None:
        """A batch has passed: keep what the rate allows of it, one view a block."""
        now = time.monotonic()
        earned = (now - self._credited_at) * self._bytes_per_s
        self._credited_at = now
        self._credit_bytes = min(self._credit_bytes + earned, float(max(self._bytes_per_s, BLOCK_BYTES)))
        received = b""
        while self._credit_bytes >= BLOCK_BYTES and self._state.pinned_bytes + BLOCK_BYTES <= self._max_bytes:
            received = received or b"\n".join(messages)[:BLOCK_BYTES]
            block = bytearray(BLOCK_BYTES)
            block[: len(received)] = received
            self._keep(memoryview(block).toreadonly()[:VIEW_BYTES])
            self._state.views += 1
            self._credit_bytes -= BLOCK_BYTES

    def release(self) -> None:
        self._forget()
        self._state.views = 0


def leak_of(fault: Fault, state: FaultState, table: ClientTable) -> Leak:
    """The leak that ``fault`` asks for; ``table`` is the client's."""
    if fault.holder == "locals":
        kept: list[memoryview] = []
        return Leak(fault, state, kept.append, kept.clear)
    if fault.holder == "registry":
        return Leak(fault, state, partial(table.keep, fault.key), partial(table.forget, fault.key))
    helper = helper_name(fault)
    return Leak(fault, state, partial(cast, helper), _nothing)


def _nothing() -> None:
    """What a helper held goes with the helper."""


def helper_name(fault: Fault) -> str:
    return f"{'auditor' if fault.holder == 'queue' else 'forwarder'}:{fault.client}"


def helper_spec(fault: Fault) -> ChildSpec | None:
    """The task that holds the leak, where it is not one that is there anyway. It starts before the parser."""
    start = {"queue": Auditor, "transport": Forwarder}.get(fault.holder)
    name = helper_name(fault)
    return None if start is None else ChildSpec(name, start, name=name)


class Auditor(Server):
    """Takes message headers and waits, at the first, for a confirmation that never comes."""

    async def init(self) -> None:
        self._confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handle_cast(self, message: Any) -> None:
        await self._confirmed


class Forwarder(Server):
    """Forwards message headers to a peer that has stopped reading."""

    trap_exit = True

    async def init(self) -> None:
        ours, self._peer = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        try:
            while True:  # what the peer has not read yet fills the kernel's buffers already
                ours.send(bytes(1024))
        except BlockingIOError:
            pass
        self._transport = GatherWriter(ours)

    async def handle_cast(self, message: Any) -> None:
        self._transport.write(message)

    async def terminate(self, reason: Reason) -> None:
        self._close()

    def _close(self) -> None:
        self._transport.abort()
        self._peer.close()

    def __del__(self) -> None:
        if hasattr(self, "_transport"):  # killed: the loop would keep the transport
            self._close()
