"""Errors that cross the socket, and those of the way to it. Each says what happened and what to try next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# JSON-RPC 2.0's own codes.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

# Ours, from the range JSON-RPC leaves to applications.
NOT_ALLOWED = -32001
"""The caller may not do this: another user, or an action on a read-only agent."""
OWNER_GONE = -32002
"""No owner has this id any more, or the id now names a successor."""
BUSY = -32003
"""Another picture or action is taking too long, or too many clients are connected."""
LOOP_STALLED = -32004
"""The event loop did not take the request before its deadline; the request was withdrawn."""
UNSUPPORTED = -32005
"""This owner, or this platform, cannot do that."""
WRONG_PROTOCOL = -32006
"""Client and agent do not speak the same protocol version."""
FRAME_ERROR = -32007
"""A frame too large, empty, or not finished in time; the connection is closed after it."""
ACTION_FAILED = -32008
"""The application's own code raised while it carried out the action."""


class DiagError(Exception):
    """What happened (``message``) and what to try next (``hint``, may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RpcError(DiagError):
    """An answer that is an error, on either side of the socket. ``code`` is one of this module's."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code

    def to_json(self) -> dict[str, Any]:
        """The JSON-RPC error object; the hint travels in ``data``."""
        return {"code": self.code, "message": self.message, "data": {"hint": self.hint}}

    @classmethod
    def from_json(cls, value: Any) -> RpcError:
        """The error back from its JSON; whatever is missing or of the wrong type reads as empty."""
        body: Mapping[str, Any] = value if isinstance(value, dict) else {}
        data = body.get("data")
        code = body.get("code")
        return cls(
            code if isinstance(code, int) else INTERNAL_ERROR,
            str(body.get("message", "the agent sent an error without a message")),
            str(data.get("hint", "")) if isinstance(data, dict) else "",
        )


class FrameError(DiagError):
    """The bytes on the socket are not a frame this side accepts; the stream cannot be trusted any more."""


class TargetError(DiagError, ConnectionError):
    """The target was not found, refused, went away or does not answer. Also an OSError."""
