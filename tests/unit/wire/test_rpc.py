"""Requests are taken only in the one shape that is spoken, and every refusal says which that is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from diag.wire import rpc
from diag.wire.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError
from tests.unit.wire.test_frames import JSON


def body(**fields: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": "hello", "id": 7, **fields}).encode()


def test_a_good_request_comes_out_whole() -> None:
    assert rpc.parse_request(body(params={"a": 1})) == rpc.Request("hello", {"a": 1}, 7, notification=False)


def test_a_request_without_an_id_is_a_notification() -> None:
    assert rpc.parse_request(b'{"jsonrpc": "2.0", "method": "hello"}').notification


@pytest.mark.parametrize(
    ("raw", "code", "request_id"),
    [
        (b"not json", PARSE_ERROR, None),
        (b"[]", INVALID_REQUEST, None),
        (b"[" + body() + b"]", INVALID_REQUEST, None),
        (b"3", INVALID_REQUEST, None),
        (body(id={}), INVALID_REQUEST, None),
        (body(jsonrpc="1.0"), INVALID_REQUEST, 7),
        (body(method=3), INVALID_REQUEST, 7),
        (body(params=[1]), INVALID_PARAMS, 7),
    ],
)
def test_anything_else_is_refused_with_a_hint_and_the_id_it_had(
    raw: bytes, code: int, request_id: object
) -> None:
    with pytest.raises(rpc.BadRequest) as caught:
        rpc.parse_request(raw)
    assert (caught.value.code, caught.value.id) == (code, request_id)
    assert caught.value.hint


@given(JSON)
def test_any_json_value_parses_to_a_request_or_a_bad_request(value: object) -> None:
    try:
        rpc.parse_request(json.dumps(value).encode())
    except rpc.BadRequest:
        pass


@given(JSON)
def test_any_json_value_reads_back_as_an_error_without_raising(value: object) -> None:
    assert isinstance(RpcError.from_json(value), RpcError)


def test_an_error_keeps_its_hint_across_the_socket() -> None:
    there = RpcError(PARSE_ERROR, "what", "next")
    back = RpcError.from_json(json.loads(json.dumps(rpc.failure(there, 1)))["error"])
    assert (back.code, back.message, back.hint) == (PARSE_ERROR, "what", "next")
