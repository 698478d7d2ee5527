"""A transport's write side that never copies: what is written waits as views and leaves by sendmsg.

asyncio's own socket transport copies what is pending into one bytearray up to Python 3.11 and keeps views
of it from 3.12 on. This one behaves the same on every version: gathering hundreds of small pieces in one
system call, it is what a forwarder wants. Its price is the talk's driver queue: a pending view of 32
octets keeps the whole block alive that it was cut from.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import deque

__all__ = ["GatherWriter"]

PIECES_A_CALL = 256


class GatherWriter(asyncio.WriteTransport):
    """Takes over a connected, non-blocking stream socket; the loop holds it until it is closed."""

    __slots__ = ("_loop", "_pending", "_pending_bytes", "_socket")
    __diag_holder__ = "transport"

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = sock
        self._pending: deque[memoryview] = deque()
        self._pending_bytes = 0

    def get_write_buffer_size(self) -> int:
        """Octets not sent yet: what the views show, not what they keep alive."""
        return self._pending_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue ``data`` without copying it. Dropped once the transport is closed."""
        if self._socket is None or not len(data):
            return
        if not self._pending:
            self._loop.add_writer(self._socket, self._send)
        piece = memoryview(data)
        self._pending.append(piece)
        self._pending_bytes += piece.nbytes

    def is_closing(self) -> bool:
        return self._socket is None

    def close(self) -> None:
        """Close at once; what is pending is dropped."""
        self.abort()

    def abort(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_writer(sock)
            sock.close()
        self._pending.clear()
        self._pending_bytes = 0

    def _send(self) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            sent = sock.sendmsg(list(itertools.islice(self._pending, PIECES_A_CALL)))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        self._pending_bytes -= sent
        while sent:
            piece = self._pending.popleft()
            if piece.nbytes > sent:
                self._pending.appendleft(piece[sent:])
                break
            sent -= piece.nbytes
        if not self._pending:
            self._loop.remove_writer(sock)
