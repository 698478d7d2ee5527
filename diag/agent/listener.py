"""The thread that answers the socket, whatever state the event loop is in.

One thread accepts, reads, writes and answers what is quick. A walk of the heap or an action runs in
a thread of its own, one at a time for each client, so that a slow one holds up nobody else. Whatever
arrives is bounded: clients, frame size, the time a frame may take to arrive or an answer to be read.
Nothing that a client sends, or fails to send, reaches the application.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from diag.agent import native, onloop, sockets
from diag.agent.journal import Caller
from diag.agent.poller import Poller
from diag.agent.sockets import Socket
from diag.wire import frames, rpc
from diag.wire.errors import (
    BUSY,
    FRAME_ERROR,
    INTERNAL_ERROR,
    NOT_ALLOWED,
    FrameError,
    RpcError,
)

MAX_CLIENTS = 16
FRAME_WITHIN_S = 10.0
"""How long a connection may take over its first request, and over any frame it has begun."""
READ_WITHIN_S = 30.0
"""How long a client may leave an answer unread."""

_CHUNK = 64 << 10
_ACCEPT_PAUSE_S = 1.0
_STARVED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Out of descriptors, or of memory."""

log = logging.getLogger("diag")

Handle = Callable[[rpc.Request, Caller, Callable[[], bool]], Any]
"""(request, who asks, whether they have hung up meanwhile) → result, ready for JSON."""


class _Client:
    """One connection. It is read, or worked for, or written to: never two of these at once."""

    def __init__(self, connection: Socket, caller: Caller) -> None:
        self.socket = connection
        self.caller = caller
        self.reader = frames.FrameReader(frames.MAX_REQUEST_BYTES)
        self.out = memoryview(b"")
        self.working = False
        self.last_words = False
        """Close it once ``out`` is sent."""
        self.deadline: float | None = time.monotonic() + FRAME_WITHIN_S


class Listener:
    """Serves ``listener`` until ``close``. ``handle`` answers a request (any thread; raises RpcError);
    ``quick`` names the methods that may be answered in the listening thread itself."""

    def __init__(self, listener: Socket, handle: Handle, quick: frozenset[str]) -> None:
        self._listener = listener
        self._handle = handle
        self._quick = quick
        self._poller: Poller[_Client | None] = Poller()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._clients: set[_Client] = set()
        self._answers: deque[tuple[_Client, bytes]] = deque()
        self._accept_again_at: float | None = None
        self._close_by: float | None = None
        self._wake_lock = native.allocate_lock()
        self._ended = native.allocate_lock()
        self._ended.acquire()

    def start(self) -> None:
        """Begin to serve, in a thread of its own. Raises RuntimeError if none can be started."""
        self._poller.add(self._listener.fileno(), None)
        self._poller.add(self._wake_read, None)
        native.start_thread(self._run)

    def close(self, grace_s: float) -> None:
        """Take no more clients, let answers under way be sent for ``grace_s`` at most, then end."""
        self._close_by = time.monotonic() + grace_s
        self._wake()
        if self._ended.acquire(timeout=grace_s + 1.0):
            self._ended.release()

    def abandon(self) -> None:
        """In a forked child: close the inherited descriptors, and nothing else. The thread did not come
        along, and the epoll set is still the parent's: unregistering from it would deafen the parent."""
        for client in list(self._clients):
            client.socket.close()
        self._listener.close()
        self._poller.close()
        if self._wake_write >= 0:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1

    def _wake(self) -> None:
        # Under a lock: a worker that outlives the listener must not write to a descriptor number that
        # the application has been given since.
        with self._wake_lock:
            if self._wake_write >= 0:
                try:
                    os.write(self._wake_write, b"!")
                except BlockingIOError:  # full: it will wake anyway
                    pass

    def _run(self) -> None:
        try:
            while not self._finished():
                for client in self._poller.wait(self._timeout()):
                    if client is not None:
                        self._guarded(client)
                self._drain_wake()
                self._accept()
                self._deliver()
                self._check_deadlines()
        except Exception as error:
            log.error("diag stops listening: %s", onloop.said(error))
        finally:
            self._shut()
            self._ended.release()

    def _finished(self) -> bool:
        if self._close_by is None:
            return False
        if self._accept_again_at is None:
            self._stop_accepting(float("inf"))
        busy = self._answers or any(client.working or client.out for client in self._clients)
        return not busy or time.monotonic() >= self._close_by

    def _timeout(self) -> float | None:
        moments = [client.deadline for client in self._clients if client.deadline is not None]
        if self._accept_again_at is not None and self._accept_again_at != float("inf"):
            moments.append(self._accept_again_at)
        if self._close_by is not None:
            moments.append(self._close_by)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _shut(self) -> None:
        for client in list(self._clients):
            self._drop(client)
        self._listener.close()
        self._poller.close()
        with self._wake_lock:
            os.close(self._wake_write)
            self._wake_write = -1
        os.close(self._wake_read)

    def _drain_wake(self) -> None:
        try:
            while os.read(self._wake_read, 512):
                pass
        except BlockingIOError:
            pass

    # Accepting

    def _accept(self) -> None:
        if self._accept_again_at is not None:
            return
        try:
            connection = sockets.accept(self._listener)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _STARVED:
                # The target is out of descriptors: leave it what it has, and do not spin.
                self._stop_accepting(time.monotonic() + _ACCEPT_PAUSE_S)
            return
        try:
            client = _Client(connection, sockets.caller(connection))
        except OSError:
            connection.close()
            return
        self._clients.add(client)
        self._poller.add(connection.fileno(), client)
        if client.caller.uid not in (0, os.geteuid()):
            log.warning("refused a caller: uid=%d pid=%d", client.caller.uid, client.caller.pid)
            self._say_goodbye(
                client,
                RpcError(
                    NOT_ALLOWED,
                    f"uid {client.caller.uid} may not look into a process of uid {os.geteuid()}",
                    "run it as that user, or as root",
                ),
            )
        elif len(self._clients) > MAX_CLIENTS:
            self._say_goodbye(
                client,
                RpcError(BUSY, f"{MAX_CLIENTS} clients are connected already", "close one of them first"),
            )

    def _stop_accepting(self, until: float) -> None:
        if self._accept_again_at is None:
            self._poller.remove(self._listener.fileno())
        self._accept_again_at = until

    # Reading

    def _guarded(self, client: _Client) -> None:
        try:
            if client.out:
                self._write(client)
                self._next_request(client)
            else:
                self._read(client)
        except OSError:
            self._drop(client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.socket.recv(_CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._drop(client)
            return
        try:
            client.reader.feed(data)
        except FrameError as error:
            self._say_goodbye(client, RpcError(FRAME_ERROR, error.message, error.hint))
            return
        self._next_request(client)

    def _next_request(self, client: _Client) -> None:
        """Take up whole frames while there are any; one that has only begun gets a deadline."""
        while client in self._clients and not client.out and not client.working:
            try:
                body = client.reader.next()
            except FrameError as error:
                self._say_goodbye(client, RpcError(FRAME_ERROR, error.message, error.hint))
                return
            if body is None:
                if not client.reader.unfinished:
                    client.deadline = None
                elif client.deadline is None:
                    client.deadline = time.monotonic() + FRAME_WITHIN_S
                return
            client.deadline = None
            self._take_up(client, body)

    def _take_up(self, client: _Client, body: bytes) -> None:
        try:
            request = rpc.parse_request(body)
        except rpc.BadRequest as error:
            self._send(client, frames.encode(rpc.failure(error, error.id)))
            return
        if request.method in self._quick:
            self._send(client, self._answer(request, client))
            return
        client.working = True
        self._poller.remove(client.socket.fileno())
        try:
            native.start_thread(self._work, client, request)
        except RuntimeError:
            client.working = False
            self._poller.add(client.socket.fileno(), client)
            full = RpcError(BUSY, "the target cannot start another thread", "try again later")
            self._send(client, frames.encode(rpc.failure(full, request.id)))

    # Answering

    def _work(self, client: _Client, request: rpc.Request) -> None:
        self._answers.append((client, self._answer(request, client)))
        self._wake()

    def _answer(self, request: rpc.Request, client: _Client) -> bytes:
        """The answer as a frame; empty for a notification. Never raises."""
        try:
            gone = functools.partial(sockets.vanished, client.socket)
            message = rpc.result(self._handle(request, client.caller, gone), request.id)
            if not request.notification:
                return frames.encode(message)
        except RpcError as error:
            message = rpc.failure(error, request.id)
        except BaseException as error:  # also SystemExit: nothing may come out of the agent's threads
            said = onloop.said(error)
            starved = isinstance(error, MemoryError) or getattr(error, "errno", None) in _STARVED
            hint = "the target has run out of it: close or stop something first"
            log.debug("%s failed: %s", request.method, said)
            message = rpc.failure(
                RpcError(INTERNAL_ERROR, said, hint if starved else "a defect in diag: please report it"),
                request.id,
            )
        return b"" if request.notification else frames.encode(message)

    def _deliver(self) -> None:
        while self._answers:
            client, frame = self._answers.popleft()
            if client not in self._clients:
                continue
            client.working = False
            self._poller.add(client.socket.fileno(), client)
            try:
                self._send(client, frame)
                self._next_request(client)
            except OSError:
                self._drop(client)

    def _send(self, client: _Client, frame: bytes) -> None:
        client.out = memoryview(frame)
        if frame:
            self._write(client)

    def _write(self, client: _Client) -> None:
        """Send what the socket takes. Raises OSError if the client is gone."""
        try:
            while client.out:
                client.out = client.out[sockets.send(client.socket, client.out) :]
        except BlockingIOError:
            client.deadline = time.monotonic() + READ_WITHIN_S
            self._poller.watch(client.socket.fileno(), writable=True)
            return
        client.deadline = None
        client.out = memoryview(b"")
        if client.last_words:
            self._drop(client)
            return
        self._poller.watch(client.socket.fileno(), writable=False)

    def _say_goodbye(self, client: _Client, error: RpcError) -> None:
        client.last_words = True
        try:
            self._send(client, frames.encode(rpc.failure(error, None)))
        except OSError:
            self._drop(client)

    # Deadlines

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        if self._accept_again_at is not None and now >= self._accept_again_at:
            self._accept_again_at = None
            self._poller.add(self._listener.fileno(), None)
        for client in list(self._clients):
            if client.deadline is None or now < client.deadline:
                continue
            if client.out or client.last_words:
                self._drop(client)
                continue
            what = "the frame was not finished" if client.reader.unfinished else "no request came"
            self._say_goodbye(
                client,
                RpcError(FRAME_ERROR, f"{what} within {FRAME_WITHIN_S:g} s; closing", "connect again"),
            )

    def _drop(self, client: _Client) -> None:
        if client not in self._clients:
            return
        self._clients.discard(client)
        self._poller.remove(client.socket.fileno())
        client.socket.close()
