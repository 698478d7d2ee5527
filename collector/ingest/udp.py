"""Receiving over UDP: a reader on the event loop and a loop of recv calls.

asyncio's own datagram transport allocates 256 KiB for each datagram; this reads into one buffer and copies
out what came. The kernel drops what does not fit its buffer; ``kernel_drops`` says how much that was.
"""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from collections.abc import Callable

from collector.config import Listener
from collector.counters import ListenerCounters
from collector.ingest.inbox import Inbox
from collector.ingest.sinks import Sink

__all__ = ["UdpEndpoint", "kernel_drops"]

WANTED_RCVBUF_BYTES = 8 * 1024 * 1024
DATAGRAMS_A_TURN = 512
"""Then the other tasks have their turn."""


class UdpEndpoint:
    """One bound datagram socket; used as :class:`~collector.ingest.tcp.TcpEndpoint` is."""

    def __init__(
        self, listener: Listener, sink: Sink, counters: ListenerCounters, on_pause: Callable[[Inbox], None]
    ) -> None:
        self.listener = listener
        self.counters = counters
        self.on_pause = on_pause
        self.paused: weakref.ref[Inbox] | None = None
        self._session = sink.session()
        # One octet more than allowed tells a datagram that is just as long from one that was cut.
        self._buffer = memoryview(bytearray(listener.max_message_bytes + 1))
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Bind and read. Raises OSError."""
        listener = self.listener
        (family, kind, proto, _, address), *_ = await self._loop.getaddrinfo(
            listener.host,
            listener.port or self.counters.last_port,
            type=socket.SOCK_DGRAM,
            flags=socket.AI_PASSIVE,
        )
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WANTED_RCVBUF_BYTES)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
        self._socket = sock
        self.counters.port = self.counters.last_port = sock.getsockname()[1]
        self._read()

    def resume(self) -> None:
        inbox = self.paused() if self.paused is not None else None
        if self.paused is not None and (inbox is None or inbox.closed or not inbox.over_budget):
            self.paused = None
            self._read()

    async def finish(self) -> None:
        """Take over what the kernel holds, at most one full buffer, and close."""
        sock, inbox = self._socket, self.paused() if self.paused is not None else None
        if sock is None:
            return
        self._loop.remove_reader(sock)
        left = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        while left > 0:
            while inbox is not None and inbox.over_budget and not inbox.closed:
                await asyncio.sleep(0.01)
            octets, inbox = self._receive(sock)
            if not octets:
                break
            left -= octets
        self.close()

    def close(self) -> None:
        sock, self._socket = self._socket, None
        self.counters.port = 0
        self.paused = None
        if sock is not None:
            self._loop.remove_reader(sock)
            sock.close()

    def __del__(self) -> None:
        try:
            self.close()
        except RuntimeError:  # the event loop is closed
            pass

    def _read(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket, _readable, weakref.ref(self))

    def on_readable(self) -> None:
        sock = self._socket
        if sock is None:
            return
        _, full = self._receive(sock)
        if full is not None:
            self._loop.remove_reader(sock)
            self.paused = weakref.ref(full)
            self.on_pause(full)

    def _receive(self, sock: socket.socket) -> tuple[int, Inbox | None]:
        """Deliver what is there. The octets received, and the inbox that is over its budget."""
        by_source: dict[str, list[bytes]] = {}
        buffer, limit, octets = self._buffer, self.listener.max_message_bytes, 0
        for _ in range(DATAGRAMS_A_TURN):
            try:
                size, address = sock.recvfrom_into(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an ICMP error for an earlier datagram of ours; there are none, but be calm
                continue
            octets += max(size, 1)
            if size > limit:
                self.counters.truncated += 1
                size = limit
            message = bytes(buffer[:size]).rstrip(b"\r\n\0")
            if message:
                by_source.setdefault(address[0], []).append(message)
        self.counters.received_bytes += octets
        full = None
        for source, messages in by_source.items():
            full = self._session.deliver(messages, sum(map(len, messages)), source) or full
        return octets, full


def _readable(ref: weakref.ref[UdpEndpoint]) -> None:
    endpoint = ref()
    if endpoint is not None:
        endpoint.on_readable()


def kernel_drops(port: int) -> int | None:
    """Datagrams the kernel dropped because the sockets on this port did not read in time; None where
    /proc/net does not say."""
    drops = None
    for table in ("udp", "udp6"):
        try:
            with open(os.path.join("/proc/net", table)) as lines:
                for line in lines:
                    fields = line.split()
                    if fields[0].endswith(":") and int(fields[1].rpartition(":")[2], 16) == port:
                        drops = (drops or 0) + int(fields[-1])
        except (OSError, ValueError, IndexError):
            continue
    return drops
