"""Receiving over TCP: one listening socket and its connections.

All connections of an endpoint share one receive buffer: asyncio fills it and tells us in the same call, so
it is never in use twice. What was received is copied out once and split as a whole; nothing refers to the
buffer afterwards. (Keeping views of it instead is the sub-binary leak of :mod:`collector.faults`.)

An endpoint belongs to the receiver that made it. The event loop knows the connections, and the connections
know the endpoint only weakly: when its owner is gone, however it went, the sockets are closed.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import os
import socket
import termios
import weakref
from collections.abc import Callable
from typing import cast

from collector.config import Listener
from collector.counters import ListenerCounters
from collector.ingest.framing import Framer, FramingError
from collector.ingest.inbox import Inbox
from collector.ingest.sinks import Session, Sink
from collector.logs import Throttle

__all__ = ["RECEIVE_BYTES", "TcpEndpoint"]

RECEIVE_BYTES = 256 * 1024
BACKLOG = 512

_log = logging.getLogger("collector.ingest")


class TcpEndpoint:
    """A listening socket and what was accepted on it.

    on_pause: called with the inbox that has no room when a connection stops being read; ``resume`` looks
    which may go on.
    """

    def __init__(
        self, listener: Listener, sink: Sink, counters: ListenerCounters, on_pause: Callable[[Inbox], None]
    ) -> None:
        self.listener = listener
        self.sink = sink
        self.counters = counters
        self.connections: set[_Connection] = set()
        self.paused: dict[_Connection, weakref.ref[Inbox]] = {}
        self.buffer = memoryview(bytearray(RECEIVE_BYTES))
        self.on_pause = on_pause
        self.throttle = Throttle(_log)
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. Raises OSError."""
        listener = self.listener
        endpoint = weakref.ref(self)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(endpoint),
            listener.host,
            listener.port or self.counters.last_port,
            backlog=BACKLOG,
            reuse_address=True,
        )
        self.counters.port = self.counters.last_port = self._server.sockets[0].getsockname()[1]

    def resume(self) -> None:
        """Go on reading where there is room again, or nobody left to wait for."""
        for connection, ref in list(self.paused.items()):
            inbox = ref()
            if inbox is None or inbox.closed or not inbox.over_budget:
                del self.paused[connection]
                connection.resume()

    async def finish(self) -> None:
        """Stop listening, take over what the senders' kernels were already told has arrived, and close.

        Bounded by what is in the sockets' receive buffers now, so a busy sender cannot keep it going; waits
        for room where the client is over its budget."""
        self._stop_listening()
        await asyncio.sleep(0)  # connections the loop has accepted already and not yet introduced
        while self.connections:
            for connection in list(self.connections):
                await connection.finish()

    def close(self) -> None:
        """Close everything at once; what is still in the sockets' buffers is lost. Harmless to repeat."""
        self._stop_listening()
        for connection in list(self.connections):
            connection.abort()
        self.connections.clear()
        self.paused.clear()

    def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.counters.port = 0

    def __del__(self) -> None:
        try:
            self.close()
        except RuntimeError:  # the event loop is closed, and the sockets with it
            pass


class _Connection(asyncio.BufferedProtocol):
    __slots__ = ("__weakref__", "_endpoint", "_framer", "_session", "_source", "_transport")

    def __init__(self, endpoint: weakref.ref[TcpEndpoint]) -> None:
        self._endpoint = endpoint
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._framer: Framer | None = None
        self._source = "?"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        endpoint = self._endpoint()
        if endpoint is None:
            self.abort()
            return
        # Senders that vanish without a word must not be kept for ever.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer = transport.get_extra_info("peername")
        self._source = str(peer[0]) if peer else "?"
        self._session = endpoint.sink.session()
        self._framer = Framer(endpoint.listener.framing, endpoint.listener.max_message_bytes)
        endpoint.connections.add(self)
        endpoint.counters.connections += 1
        endpoint.counters.connected += 1

    def get_buffer(self, sizehint: int) -> memoryview:
        endpoint = self._endpoint()
        return endpoint.buffer if endpoint is not None else memoryview(bytearray(1))

    def buffer_updated(self, nbytes: int) -> None:
        endpoint = self._endpoint()
        if endpoint is None:
            self.abort()
            return
        self._take(endpoint, bytes(endpoint.buffer[:nbytes]))

    def eof_received(self) -> bool:
        return False  # close; connection_lost takes the unfinished message

    def connection_lost(self, exc: Exception | None) -> None:
        endpoint = self._endpoint()
        framer, self._framer, self._transport = self._framer, None, None
        if endpoint is None:
            return
        if self in endpoint.connections:
            endpoint.connections.discard(self)
            endpoint.counters.connections -= 1
        endpoint.paused.pop(self, None)
        if framer is not None:
            self._deliver(endpoint, framer, framer.close())

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close without another look. The unfinished message goes the way of every connection's end."""
        if self._transport is not None:
            self._transport.abort()

    async def finish(self) -> None:
        """Read what the kernel has acknowledged, then close."""
        transport, endpoint = self._transport, self._endpoint()
        if transport is not None and endpoint is not None and not transport.is_closing():
            await self._take_unread(transport, endpoint)
            self.abort()
        while self._transport is not None:  # connection_lost takes the unfinished message
            await asyncio.sleep(0)

    async def _take_unread(self, transport: asyncio.Transport, endpoint: TcpEndpoint) -> None:
        paused = endpoint.paused.pop(self, None)
        transport.pause_reading()
        raw = transport.get_extra_info("socket")
        left = _unread(raw)
        # The transport's own socket object refuses recv; a duplicate reads the same queue.
        with socket.socket(fileno=os.dup(raw.fileno())) as sock:
            while left > 0 and self._framer is not None:
                inbox = paused() if paused is not None else None
                while inbox is not None and inbox.over_budget and not inbox.closed:
                    await asyncio.sleep(0.01)
                try:
                    data = sock.recv(min(left, RECEIVE_BYTES), socket.MSG_DONTWAIT)
                except OSError:
                    break
                if not data:
                    break
                left -= len(data)
                full = self._take(endpoint, data, pause=False)
                paused = weakref.ref(full) if full is not None else None

    def _take(self, endpoint: TcpEndpoint, data: bytes, *, pause: bool = True) -> Inbox | None:
        framer = self._framer
        if framer is None:
            return None
        endpoint.counters.received_bytes += len(data)
        try:
            messages = framer.feed(data)
        except FramingError as error:
            messages = error.messages
            self._framer = None
            self._count_truncated(endpoint, framer)
            endpoint.counters.oversized += error.oversized
            endpoint.counters.framing_errors += not error.oversized
            endpoint.throttle.warning(
                "framing_lost",
                listener=endpoint.listener.name,
                source=self._source,
                problem=str(error),
                action="connection closed",
            )
            self.abort()
        full = self._deliver(endpoint, framer, messages)
        if full is not None and pause and self._framer is not None and self not in endpoint.paused:
            endpoint.paused[self] = weakref.ref(full)
            if self._transport is not None:
                self._transport.pause_reading()
            endpoint.on_pause(full)
        return full

    def _deliver(self, endpoint: TcpEndpoint, framer: Framer, messages: list[bytes]) -> Inbox | None:
        self._count_truncated(endpoint, framer)
        session = self._session
        if not messages or session is None:
            return None
        full = session.deliver(messages, sum(map(len, messages)), self._source)
        if session.unwanted:
            self._framer = None  # what is unfinished is as unwanted
            self.abort()
        return full

    @staticmethod
    def _count_truncated(endpoint: TcpEndpoint, framer: Framer) -> None:
        endpoint.counters.truncated += framer.truncated
        framer.truncated = 0


def _unread(sock: socket.socket) -> int:
    size = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, size)
    except OSError:
        return 0
    return size[0]
