"""Frames on the socket: a big-endian u32 length, then that many bytes of JSON.

Both sides refuse a length over their limit before they read or keep a byte of the body, so that a
stray HTTP request or a hostile 1 GB length costs nothing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from diag.wire.errors import FrameError

HEADER = struct.Struct(">I")
MAX_REQUEST_BYTES = 1 << 20
"""Largest frame an agent accepts: requests are small."""
MAX_ANSWER_BYTES = 256 << 20
"""Largest frame a client accepts: about 200,000 rows."""

_SPLIT_DEPTH = 3


class FrameReader:
    """Turns a byte stream, in whatever pieces it comes, into frame bodies.

    Keeps at most one unfinished frame. After a FrameError it is spent: the stream has no next
    frame boundary to find again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._need = -1

    @property
    def unfinished(self) -> bool:
        """True while part of a frame has arrived and the rest has not."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take more of the stream. Raises FrameError as soon as a length is not acceptable."""
        self._buffer += data
        self._read_header()

    def next(self) -> bytes | None:
        """The next whole body, or None until more is fed. Raises FrameError for a bad next length."""
        if self._need < 0 or len(self._buffer) < HEADER.size + self._need:
            return None
        end = HEADER.size + self._need
        body = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        self._need = -1
        self._read_header()
        return body

    def _read_header(self) -> None:
        if self._need >= 0 or len(self._buffer) < HEADER.size:
            return
        (need,) = HEADER.unpack_from(self._buffer)
        if not 0 < need <= self._max_bytes:
            shown = bytes(self._buffer[: HEADER.size])
            self._buffer.clear()
            raise FrameError(
                f"frame length {need} is not between 1 and {self._max_bytes} bytes (header {shown!r})",
                "this socket speaks JSON-RPC in u32-length frames; use the diag command",
            )
        self._need = need


def encode(message: dict[str, Any]) -> bytes:
    """One message as a frame. The JSON is made piece by piece: one ``json.dumps`` of a 10,000-row table
    would hold the target's interpreter lock for its whole length."""
    body = "".join(_pieces(message, _SPLIT_DEPTH)).encode()
    return HEADER.pack(len(body)) + body


def decode(body: bytes) -> Any:
    """The JSON value in a frame's body. Raises ValueError for anything that is not strict JSON in UTF-8."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _pieces(value: Any, depth: int) -> Iterator[str]:
    if depth and isinstance(value, dict):
        yield "{"
        for count, (key, item) in enumerate(value.items()):
            yield f"{', ' if count else ''}{json.dumps(key)}: "
            yield from _pieces(item, depth - 1)
        yield "}"
    elif depth and isinstance(value, (list, tuple)):
        yield "["
        for count, item in enumerate(value):
            if count:
                yield ", "
            yield from _pieces(item, depth - 1)
        yield "]"
    else:
        yield json.dumps(value)
