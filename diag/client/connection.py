"""One open way to one target: typed, blocking calls that return the records of ``diag.wire.model``.

Errors are ``TargetError`` (also an OSError) when the way to the target fails, ``RpcError`` when the agent
says no; both carry a hint on what to try next.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from diag.wire import frames, model, rpc
from diag.wire.errors import FrameError, RpcError, TargetError

CONNECT_WITHIN_S = 5.0
WALK_WITHIN_S = 120.0
"""How long a picture may take. The agent bounds its walks itself; this is for a target that is stuck."""
ACTION_DEADLINE_S = 30.0
_ACTION_SLACK_S = 90.0
_CHUNK = 1 << 18
_RETRY_S = 0.02

_OTHER_VERSION = "the target runs another version of diag: use that one's command"

R = TypeVar("R")


class Connection:
    """Talks to the agent behind ``path``. One call at a time; ``close`` from another thread breaks it off.

    A connection that broke between two calls is opened again by the next call that only looks; an action is
    never sent twice."""

    def __init__(self, path: str, hello_within_s: float = CONNECT_WITHIN_S) -> None:
        """Connect and introduce ourselves. Raises TargetError or RpcError."""
        self.path = path
        self._hello_within_s = hello_within_s
        self._ids = 0
        self._calling = threading.Lock()
        self._closed = False
        self._socket: socket.socket | None = None
        self._reader = frames.FrameReader(frames.MAX_ANSWER_BYTES)
        with self._calling:
            self._hello = self._open()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, also from another thread in the middle of a call."""
        self._closed = True
        self._hang_up()

    # Looking

    def hello(self) -> model.Hello:
        """The agent's introduction, as of the last (re)connect. No cost."""
        return self._hello

    def top(
        self,
        by: str = "buffers",
        limit: int | None = None,
        *,
        kinds: Collection[str] = (),
        with_ancestors: bool = False,
    ) -> model.Table:
        """Who holds the memory, ranked. ``by``: buffers, retained or waste; growth takes two pictures, see
        ``diag.client.history``. ``limit``: how many rows, None for all. ``kinds``: only these kinds.
        ``with_ancestors``: also send, after the ranked rows, the ancestors that the limit cut off.

        Costs the target about 100 ns an object its tasks hold, in slices of a few milliseconds."""
        params: dict[str, Any] = {"by": by, "with_ancestors": with_ancestors}
        if limit is not None:
            params["limit"] = limit
        if kinds:
            params["kinds"] = list(kinds)
        return _record(model.Table, self._look("top", params))

    def memory(self) -> model.Memory:
        """The process as a whole. Costs the target about a millisecond."""
        return _record(model.Memory, self._look("memory", {}))

    def why(self, owner_id: str, limit: int = 3) -> model.Why:
        """Why an owner's memory is alive. Costs as much as ``top``, and once more the owner's own objects."""
        return _record(model.Why, self._look("why", {"owner": owner_id, "limit": limit}))

    def journal(self, limit: int | None = None) -> tuple[model.JournalEntry, ...]:
        """The last actions, oldest first."""
        entries = self._look("journal", {} if limit is None else {"limit": limit})
        if not isinstance(entries, list):
            raise TargetError("the agent's journal is not a list", _OTHER_VERSION)
        return tuple(_record(model.JournalEntry, entry) for entry in entries)

    # Acting

    def collect(self) -> model.Collected:
        """Force a garbage collection; the target stands still for it."""
        return _record(model.Collected, self._call("collect", {}, 900.0))

    def trim(self) -> model.Trimmed:
        """Make the C allocator give freed memory back to the system."""
        return _record(model.Trimmed, self._call("trim", {}, _ACTION_SLACK_S))

    def stop(
        self, owner_id: str, expect: str | None = None, deadline_s: float = ACTION_DEADLINE_S
    ) -> model.Stopped:
        """Stop a subtree for good: through its supervisor, or by cancelling a plain task. ``expect`` is the
        row's ``incarnation``: with it, a successor under the same id is never hit."""
        return self._act("stop", owner_id, expect, deadline_s)

    def restart(
        self, owner_id: str, expect: str | None = None, deadline_s: float = ACTION_DEADLINE_S
    ) -> model.Stopped:
        """Stop it if it runs, and start it again."""
        return self._act("restart", owner_id, expect, deadline_s)

    def start(
        self, owner_id: str, expect: str | None = None, deadline_s: float = ACTION_DEADLINE_S
    ) -> model.Stopped:
        """Start an application, or a child, that was stopped."""
        return self._act("start", owner_id, expect, deadline_s)

    def cancel(
        self, owner_id: str, expect: str | None = None, deadline_s: float = ACTION_DEADLINE_S
    ) -> model.Stopped:
        """Cancel a plain task, and with it the tasks it awaits."""
        return self._act("cancel", owner_id, expect, deadline_s)

    def _act(self, action: str, owner_id: str, expect: str | None, deadline_s: float) -> model.Stopped:
        params: dict[str, Any] = {"owner": owner_id, "deadline_s": deadline_s}
        if expect:
            params["expect"] = expect
        return _record(model.Stopped, self._call(action, params, deadline_s + _ACTION_SLACK_S))

    # The wire

    def _look(self, method: str, params: Mapping[str, Any]) -> Any:
        """A call that changes nothing, and so may be repeated on a fresh connection."""
        try:
            return self._call(method, params, WALK_WITHIN_S)
        except _Broken:
            return self._call(method, params, WALK_WITHIN_S)

    def _call(self, method: str, params: Mapping[str, Any], within_s: float) -> Any:
        with self._calling:
            if self._closed:
                raise TargetError("this connection was closed")
            if self._socket is None:
                self._hello = self._open()
            return self._exchange(method, params, within_s)

    def _open(self) -> model.Hello:
        self._reader = frames.FrameReader(frames.MAX_ANSWER_BYTES)
        self._socket = _connect(self.path)
        try:
            said = self._exchange("hello", {"protocol": model.PROTOCOL_VERSION}, self._hello_within_s)
            return _record(model.Hello, said)
        except BaseException:
            self._hang_up()
            raise

    def _exchange(self, method: str, params: Mapping[str, Any], within_s: float) -> Any:
        self._ids += 1
        deadline = time.monotonic() + within_s
        try:
            return self._answer_to(self._ids, rpc.request(method, dict(params), self._ids), deadline)
        except TimeoutError:
            self._hang_up()
            raise TargetError(
                f"the target did not answer {method!r} within {within_s:g} s",
                "its agent's thread gets no turn: a C call may be holding the interpreter lock",
            ) from None
        except FrameError:
            self._hang_up()
            raise
        except OSError as error:
            self._hang_up()
            if self._closed:
                raise TargetError("this connection was closed") from None
            raise _Broken(
                f"the target closed the connection ({error.strerror or error})",
                "it ended, or stopped its agent: see 'diag ls'",
            ) from None

    def _answer_to(self, number: int, message: dict[str, Any], deadline: float) -> Any:
        connection = self._socket
        if connection is None:
            raise ConnectionResetError("closed")
        _set_timeout(connection, deadline)
        try:
            connection.sendall(frames.encode(message))
        except BrokenPipeError:
            pass  # it said why before it closed; read that
        while True:
            body = self._reader.next()
            if body is None:
                _set_timeout(connection, deadline)
                data = connection.recv(_CHUNK)
                if not data:
                    raise ConnectionResetError("end of stream")
                self._reader.feed(data)
                continue
            answer = _decoded(body)
            if answer.get("id") == number or answer.get("id") is None:
                break
        if "error" in answer:
            if answer.get("id") is None:
                self._hang_up()  # said on parting: refused, too many clients, a bad frame
            raise RpcError.from_json(answer["error"])
        return answer.get("result")

    def _hang_up(self) -> None:
        connection, self._socket = self._socket, None
        if connection is None:
            return
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        connection.close()


class _Broken(TargetError):
    """The connection ended under a call."""


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONNECT_WITHIN_S)
    deadline = time.monotonic() + CONNECT_WITHIN_S
    try:
        while True:
            try:
                connection.connect(path)
                return connection
            except BlockingIOError:  # its queue of connections is full; unix sockets do not wait for that
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(_RETRY_S)
    except FileNotFoundError:
        error = TargetError(f"there is no socket {path}", "the process ended: see 'diag ls'")
    except ConnectionRefusedError:
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            error = TargetError(
                f"{path} is not a socket", "TARGET is a pid, a name or a socket: see 'diag ls'"
            )
        else:
            error = TargetError(f"nobody listens on {path}", "the process died: see 'diag ls'")
    except PermissionError:
        error = TargetError(f"{path} is not yours to connect to", "run diag as the target's user, or as root")
    except TimeoutError:
        error = TargetError(
            f"{path} does not take a connection", "its agent's thread gets no turn, or is overrun"
        )
    except OSError as failure:
        error = TargetError(f"cannot connect to {path}: {failure.strerror or failure}", "see 'diag ls'")
    connection.close()
    raise error


def _set_timeout(connection: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _record(kind: type[R], value: Any) -> R:
    try:
        return model.from_json(kind, value)
    except (TypeError, AttributeError) as error:
        said = f"the agent's answer is not a {kind.__name__}: {error}"
        raise TargetError(said, _OTHER_VERSION) from None


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        answer = frames.decode(body)
    except ValueError as error:
        raise FrameError(f"the answer is not JSON: {error}", "is this really diag's socket?") from None
    if not isinstance(answer, dict):
        raise FrameError("the answer is not a JSON-RPC object", "is this really diag's socket?")
    return answer
