"""JSON-RPC 2.0, as much of it as diag speaks: one request, one answer; notifications; no batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diag.wire import frames
from diag.wire.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError

Id = str | int | float | None


@dataclass(frozen=True)
class Request:
    """One call. ``notification`` true: it carried no id and wants no answer."""

    method: str
    params: dict[str, Any]
    id: Id
    notification: bool


class BadRequest(RpcError):
    """A request that cannot be carried out as written; ``id`` is what the answer must echo."""

    def __init__(self, code: int, message: str, hint: str = "", request_id: Id = None) -> None:
        super().__init__(code, message, hint)
        self.id = request_id


def parse_request(body: bytes) -> Request:
    """The request in a frame's body. Raises BadRequest for anything else."""
    try:
        value = frames.decode(body)
    except ValueError as error:
        raise BadRequest(PARSE_ERROR, f"the frame is not JSON: {error}", _SHAPE) from None
    if isinstance(value, list):
        raise BadRequest(
            INVALID_REQUEST, "batches are not spoken here", "send each request in a frame of its own"
        )
    if not isinstance(value, dict):
        raise BadRequest(INVALID_REQUEST, "a request is a JSON object", _SHAPE)
    request_id = value.get("id")
    if isinstance(request_id, (dict, list, bool)):
        raise BadRequest(INVALID_REQUEST, "a request's id is a string, a number or null", _SHAPE)
    if value.get("jsonrpc") != "2.0" or not isinstance(value.get("method"), str):
        raise BadRequest(
            INVALID_REQUEST, 'a request has "jsonrpc": "2.0" and a "method" string', _SHAPE, request_id
        )
    params = value.get("params", {})
    if not isinstance(params, dict):
        raise BadRequest(INVALID_PARAMS, "params are given by name, as a JSON object", _SHAPE, request_id)
    return Request(value["method"], params, request_id, "id" not in value)


def request(method: str, params: dict[str, Any], request_id: Id) -> dict[str, Any]:
    """A call as JSON."""
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": request_id}


def result(value: Any, request_id: Id) -> dict[str, Any]:
    """A good answer as JSON."""
    return {"jsonrpc": "2.0", "result": value, "id": request_id}


def failure(error: RpcError, request_id: Id) -> dict[str, Any]:
    """A bad answer as JSON."""
    return {"jsonrpc": "2.0", "error": error.to_json(), "id": request_id}


_SHAPE = 'such as {"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {}}'
