"""The collector's own control socket: one JSON object a line, one answer a line.

A unix socket that only its owner may open (0600). Requests are ``{"do": "status"}`` and the like; answers
are ``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``. It is no part of the application: it answers
while the application is stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from collector.logs import event
from collector.supervision.reasons import crash_of

__all__ = ["ControlError", "ControlServer", "Unreachable", "ask", "ask_and_wait_for_end"]

LINE_BYTES = 64 * 1024
PATH_BYTES = 107

_log = logging.getLogger("collector.control")

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ControlError(Exception):
    """The control socket cannot be opened, or the collector refused; says what to try next."""


class Unreachable(ControlError):
    """No collector answers there."""


class ControlServer:
    """Answers on ``path`` with what ``handler`` returns. A ControlError it raises is the answer, too."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self._handler = handler
        self._server: asyncio.AbstractServer | None = None

    async def open(self) -> None:
        """Raises ControlError: another collector answers there, or the path cannot be used."""
        sock = _bind(self.path)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=LINE_BYTES)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            try:
                self.path.unlink(missing_ok=True)
            except OSError:
                pass

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # No time limit: who waits for our end keeps the connection open until then.
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):  # ValueError: a line over the limit
            pass
        except asyncio.CancelledError:
            pass  # the loop ends; asyncio would report a cancelled connection as an error
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError as error:
            return {"ok": False, "error": f"a request is one line of JSON: {error}"}
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            return {"ok": False, "error": 'a request is an object such as {"do": "status"}'}
        try:
            return {"ok": True, **await self._handler(request)}
        except ControlError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:
            crash = crash_of(error)
            event(
                _log,
                logging.ERROR,
                "request_failed",
                request=request["do"],
                problem=str(crash),
                at=crash.traceback,
            )
            return {
                "ok": False,
                "error": f"{request['do']} failed inside the collector ({crash}); its log says where",
            }


def _bind(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > PATH_BYTES:
        raise ControlError(
            f"control socket {path}: a socket's path may have at most {PATH_BYTES} octets; "
            "set [collector] control_socket to a shorter one"
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.parent.stat().st_uid
    except OSError as error:
        raise ControlError(_advice(path, error)) from None
    if owner not in (os.getuid(), 0):
        raise ControlError(
            f"control socket {path}: the folder belongs to another user (uid {owner}); "
            "set [collector] control_socket to a place of your own"
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)
    try:
        if _is_stale(path):
            path.unlink(missing_ok=True)
        sock.bind(os.fspath(path))
    except OSError as error:
        sock.close()
        raise ControlError(_advice(path, error)) from None
    except ControlError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def _is_stale(path: Path) -> bool:
    """Whether a socket lies there that nobody listens on. Raises ControlError where somebody does."""
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    raise ControlError(
        f"control socket {path}: another collector answers there; stop it (collector stop --socket {path}), "
        "or give this one another [collector] name or control_socket"
    )


def _advice(path: Path, error: OSError) -> str:
    return (
        f"control socket {path} cannot be opened: {error.strerror or error}; "
        "set [collector] control_socket to a path that can be written"
    )


def ask(path: Path, request: dict[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:
    """Ask a running collector. Raises Unreachable, or ControlError with its refusal."""
    with _connected(path, timeout_s) as sock:
        return _exchange(sock, path, request)


def ask_and_wait_for_end(path: Path, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask, then wait until the collector has closed the connection, which it does when it ends."""
    with _connected(path, timeout_s) as sock:
        answer = _exchange(sock, path, request)
        try:
            while sock.recv(4096):
                pass
        except TimeoutError:
            raise ControlError(
                f"the collector is still stopping after {timeout_s:g} s (pid {answer['pid']})"
            ) from None
        except OSError:
            pass
        return answer


def _connected(path: Path, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect(os.fspath(path))
    except OSError as error:
        sock.close()
        raise Unreachable(
            f"no collector answers at {path}: {error.strerror or error}; "
            "is it running? (--socket PATH or -c FILE says which one is meant)"
        ) from None
    return sock


def _exchange(sock: socket.socket, path: Path, request: dict[str, Any]) -> dict[str, Any]:
    try:
        sock.sendall(json.dumps(request).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            chunk = sock.recv(1 << 20)
            if not chunk:
                raise Unreachable(f"the collector at {path} closed the connection before it answered")
            line += chunk
    except OSError as error:
        raise Unreachable(f"the collector at {path} does not answer: {error}") from None
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise ControlError(str(answer.get("error", "the collector refused without a reason")))
    return answer
