"""Frames survive any cutting of the stream, and refuse what they must before they keep it."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.wire import frames
from diag.wire.errors import FrameError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def read_all(stream: bytes, cuts: list[int], max_bytes: int = 1 << 20) -> list[bytes]:
    reader = frames.FrameReader(max_bytes)
    found = []
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        reader.feed(stream[start:end])
        while (body := reader.next()) is not None:
            found.append(body)
    assert not reader.unfinished
    return found


@settings(max_examples=300)
@given(st.lists(st.dictionaries(st.text(), JSON), max_size=4), st.lists(st.integers(0, 10_000), max_size=12))
def test_messages_come_out_as_they_went_in_wherever_the_stream_is_cut(
    messages: list[dict[str, object]], cuts: list[int]
) -> None:
    stream = b"".join(frames.encode(message) for message in messages)
    assert [frames.decode(body) for body in read_all(stream, cuts)] == messages


@settings(max_examples=300)
@given(st.dictionaries(st.text(), JSON))
def test_encoding_piece_by_piece_gives_the_json_that_the_standard_library_gives(
    message: dict[str, object],
) -> None:
    assert frames.encode(message)[frames.HEADER.size :].decode() == json.dumps(message)


@settings(max_examples=300)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
def test_arbitrary_bytes_end_in_frames_or_in_a_frame_error_and_in_nothing_else(
    data: bytes, cuts: list[int]
) -> None:
    reader = frames.FrameReader(100)
    try:
        for start in range(0, len(data), 7):
            reader.feed(data[start : start + 7])
            while (body := reader.next()) is not None:
                assert 0 < len(body) <= 100
    except FrameError:
        pass


def test_a_length_of_one_gigabyte_is_refused_before_any_of_the_body_arrives() -> None:
    reader = frames.FrameReader(frames.MAX_REQUEST_BYTES)
    with pytest.raises(FrameError, match="1073741824"):
        reader.feed(frames.HEADER.pack(1 << 30))


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(FrameError):
        frames.FrameReader(10).feed(frames.HEADER.pack(0))


def test_a_bad_length_behind_a_good_frame_is_noticed_when_the_good_one_was_read() -> None:
    reader = frames.FrameReader(1000)
    good = frames.encode({"a": 1})
    reader.feed(good + b"GET / HTTP/1.1")
    with pytest.raises(FrameError):
        reader.next()


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{", b"NaN", b"[" * 100_000, b""])
def test_what_is_not_strict_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        frames.decode(body)
