"""Sending one client's messages at a steady pace, over connections that may be closed any time.

Every message carries the run's name and the client's own sequence number in structured data, so that what
arrived can be held against what was sent. Each client runs on its own: one that is stopped, slow or gone
never costs another its pace, and what could not be sent while it was away is not caught up in a burst.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from collector.load.plan import Flow
from collector.load.profiles import PROFILES

__all__ = ["Sender", "Tally"]

TICK_S = 0.02
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
CLOSE_S = 5.0
"""How long the last octets may take to be read by the peer."""


@dataclass
class Tally:
    """What became of one client's messages, as far as a sender can know."""

    client: str
    sent: int = 0
    """Handed to the kernel. Syslog has no acknowledgement: proof is in the spool."""
    sent_bytes: int = 0
    unsure: int = 0
    """Handed over in the moment the connection broke; may or may not have arrived."""
    unsent: int = 0
    """Were due while there was no connection, or while the peer did not read; never made."""
    reconnects: int = 0
    down_s: float = 0.0
    last_seq: int = 0
    read_to_the_end: bool = True
    """The peer closed only after it had read everything (TCP, at the end)."""
    per_s: list[int] = field(default_factory=list)
    """Sent in each second of the run: the client's pace."""


class Sender:
    """One client's connections. ``run`` ends by itself after ``seconds``, or soon after ``stop``."""

    def __init__(
        self,
        flow: Flow,
        *,
        rate_per_s: float,
        seconds: float,
        connections: int,
        run: str,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self.flow = flow
        self.tally = Tally(flow.client)
        self.connected = 0
        self._rate_per_s = rate_per_s / connections
        self._seconds = seconds
        self._connections = connections
        self._run = run
        self._rng = random.Random(f"{seed}:{flow.client}")
        self._say = say
        self._seq = 0
        self._began = 0.0
        self._stopped = asyncio.Event()
        self._host = f"{flow.client}-{self._rng.randrange(1, 40):02d}"

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> Tally:
        self._began = time.monotonic()
        sending = self._tcp if self.flow.transport == "tcp" else self._udp
        await asyncio.gather(*(sending(number) for number in range(self._connections)))
        self.tally.last_seq = self._seq
        return self.tally

    @property
    def _left_s(self) -> float:
        return 0.0 if self._stopped.is_set() else self._began + self._seconds - time.monotonic()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), max(0.0, min(seconds, self._left_s)))
        except asyncio.TimeoutError:
            pass

    def _messages(self, count: int) -> list[bytes]:
        """The next ``count`` messages."""
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        profile, rng, host = PROFILES[self.flow.profile], self._rng, self._host
        client, run, first = self.flow.client, self._run, self._seq + 1
        self._seq += count
        made = []
        for seq in range(first, first + count):
            priority, app, msgid, text = profile(rng)
            made.append(
                f"<{priority}>1 {stamp} {host} {app} {1000 + seq % 7000} {msgid} "
                f'[client@32473 name="{client}"][load@32473 run="{run}" seq="{seq}"] {text}'.encode()
            )
        return made

    def _count(self, count: int, octets: int) -> None:
        tally = self.tally
        tally.sent += count
        tally.sent_bytes += octets
        second = int(time.monotonic() - self._began)
        tally.per_s += [0] * (second + 1 - len(tally.per_s))
        tally.per_s[second] += count

    def _due(self, pace: _Pace) -> int:
        """How many messages are due now; at most a second's worth, what is older is given up."""
        due = pace.due()
        most = max(1, int(self._rate_per_s))
        if due > most:
            self.tally.unsent += due - most
            pace.skip(due - most)
            due = most
        return due

    async def _tcp(self, number: int) -> None:
        pace = _Pace(self._rate_per_s)
        failures = 0
        while self._left_s > 0:
            down = time.monotonic()
            try:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection(self.flow.host, self.flow.port), max(0.1, min(5.0, self._left_s))
                )
            except (OSError, asyncio.TimeoutError) as error:
                if failures == 0:
                    self._tell(f"cannot connect: {_why(error)}")
                await self._pause(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
                self._away(pace, down)
                continue
            if failures:
                self._tell("connected again")
            self.connected += 1
            failures = 0
            try:
                broken = await self._tcp_connected(reader, writer, pace)
            finally:
                self.connected -= 1
                writer.transport.abort()
            if broken and self._left_s > 0:
                self.tally.reconnects += 1
                self._tell("the peer closed the connection")
                failures = 1
                down = time.monotonic()
                await self._pause(RETRY_S[0])
                self._away(pace, down)

    def _tell(self, what: str) -> None:
        self._say(f"{self.flow.client}: {what} ({self.flow.host}:{self.flow.port})")

    def _away(self, pace: _Pace, since: float) -> None:
        self.tally.down_s += (time.monotonic() - since) / self._connections
        due = pace.due()
        self.tally.unsent += due
        pace.skip(due)

    async def _tcp_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: _Pace
    ) -> bool:
        """Send until the time is up (False) or the peer closed (True)."""
        closed = asyncio.ensure_future(reader.read())
        newline = self.flow.framing == "newline"
        try:
            while self._left_s > 0:
                await self._pause(TICK_S)
                if closed.done():
                    return True
                due = self._due(pace)
                if not due:
                    continue
                batch = self._messages(due)
                data = (
                    b"\n".join(batch) + b"\n"
                    if newline
                    else b"".join(b"%d %s" % (len(message), message) for message in batch)
                )
                writer.write(data)
                pace.skip(due)
                try:
                    await self._drained(writer, closed)
                except OSError:
                    self.tally.unsure += due
                    return True
                self._count(due, len(data))
            await self._finish(writer, closed)
            return False
        finally:
            closed.cancel()
            await asyncio.gather(closed, return_exceptions=True)

    async def _drained(self, writer: asyncio.StreamWriter, closed: asyncio.Future[bytes]) -> None:
        """Wait for room in the socket, but not for a peer that went away or will not read in time."""
        drain: asyncio.Future[None] = asyncio.ensure_future(writer.drain())
        waited: set[asyncio.Future[Any]] = {drain, closed}
        patience = self._left_s + CLOSE_S
        done, _ = await asyncio.wait(waited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if drain not in done:
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
            raise ConnectionError("the peer stopped reading or closed")
        drain.result()

    async def _finish(self, writer: asyncio.StreamWriter, closed: asyncio.Future[bytes]) -> None:
        """Half-close and wait until the peer, having read all, closes too."""
        try:
            writer.write_eof()
        except OSError:
            pass
        await asyncio.wait({closed}, timeout=CLOSE_S)
        ended_well = closed.done() and not closed.cancelled() and closed.exception() is None
        self.tally.read_to_the_end &= ended_well

    async def _udp(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        pace = _Pace(self._rate_per_s)
        refused = False
        try:
            (family, kind, proto, _, address), *_ = await loop.getaddrinfo(
                self.flow.host, self.flow.port, type=socket.SOCK_DGRAM
            )
        except OSError as error:
            self._tell(f"cannot send: {_why(error)}")
            return
        with socket.socket(family, kind, proto) as sock:
            sock.setblocking(False)
            try:
                sock.connect(address)
            except OSError as error:
                self._tell(f"cannot send: {_why(error)}")
                return
            self.connected += 1
            while self._left_s > 0:
                await self._pause(TICK_S)
                for message in self._messages(due := self._due(pace)):
                    try:
                        await loop.sock_sendall(sock, message)
                    except ConnectionRefusedError:  # the answer to an earlier datagram
                        self.tally.unsure += 1
                        if not refused:
                            self.tally.reconnects += 1
                            self._tell("nobody listens")
                        refused = True
                    except OSError as error:
                        self.connected -= 1
                        self._tell(f"cannot send: {_why(error)}")
                        return
                    else:
                        self._count(1, len(message))
                if due and refused and self._answers(sock):
                    refused = False
                pace.skip(due)
            self.connected -= 1

    @staticmethod
    def _answers(sock: socket.socket) -> bool:
        """No refusal is waiting on the socket."""
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number and number > 0:
        return os.strerror(number)  # asyncio words its own message
    return getattr(error, "strerror", None) or str(error) or "no answer"


class _Pace:
    """How many messages are due, by the clock."""

    def __init__(self, rate_per_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._began = time.monotonic()
        self._taken = 0

    def due(self) -> int:
        return max(0, int((time.monotonic() - self._began) * self._rate_per_s) - self._taken)

    def skip(self, count: int) -> None:
        """``count`` of them are sent, or given up."""
        self._taken += count
