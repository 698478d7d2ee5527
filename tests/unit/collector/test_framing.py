"""One stream, any cuts: the same messages come out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.ingest.framing import MAX_OCTET_COUNT, Framer, FramingError

LIMIT = 24


def framed_by_newline(messages: list[bytes]) -> bytes:
    return b"".join(message + b"\n" for message in messages)


def framed_by_octets(messages: list[bytes]) -> bytes:
    return b"".join(b"%d %s" % (len(message), message) for message in messages)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


def fed(framer: Framer, chunks: list[bytes]) -> list[bytes]:
    out = [message for chunk in chunks for message in framer.feed(chunk)]
    return out + framer.close()


priorities = st.integers(0, 191).map(lambda value: b"<%d>" % value)
line_text = st.binary(max_size=60).map(lambda text: text.replace(b"\n", b" "))
any_text = st.binary(max_size=60)
cuts = st.lists(st.integers(0, 10_000), max_size=40)


def lines() -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.builds(bytes.__add__, priorities, line_text), min_size=1, max_size=12)


@given(lines(), cuts)
def test_newline_framing_gives_the_same_messages_wherever_the_stream_is_cut(
    messages: list[bytes], places: list[int]
) -> None:
    framer = Framer("auto", LIMIT)
    wanted = [message[:-1] if message.endswith(b"\r") else message for message in messages]
    assert fed(framer, cut(framed_by_newline(messages), places)) == [message[:LIMIT] for message in wanted]
    assert framer.framing == "newline"
    assert framer.truncated == sum(len(message) > LIMIT for message in wanted)


@given(st.lists(st.builds(bytes.__add__, priorities, any_text), min_size=1, max_size=12), cuts)
def test_octet_counting_gives_the_same_messages_wherever_the_stream_is_cut(
    messages: list[bytes], places: list[int]
) -> None:
    framer = Framer("auto", LIMIT)
    assert fed(framer, cut(framed_by_octets(messages), places)) == [message[:LIMIT] for message in messages]
    assert framer.framing == "octet"
    assert framer.truncated == sum(len(message) > LIMIT for message in messages)


@settings(max_examples=200)
@given(st.sampled_from(["auto", "newline", "octet"]), st.lists(st.binary(max_size=40), max_size=20))
def test_any_octets_at_all_either_become_messages_within_the_limit_or_end_the_stream(
    framing: str, chunks: list[bytes]
) -> None:
    framer = Framer(framing, LIMIT)
    try:
        messages = fed(framer, chunks)
    except FramingError as error:
        messages = error.messages
    assert all(0 < len(message) <= LIMIT for message in messages)
    assert framer.pending_bytes <= LIMIT + 16


def test_line_ends_between_counted_messages_are_not_kept_however_many_there_are() -> None:
    framer = Framer("octet", LIMIT)
    for _ in range(10):
        assert framer.feed(b"\r\n" * 1000) == []
        assert framer.pending_bytes == 0
    assert framer.feed(b"\n9 <13>he") == []
    assert framer.feed(b"llo\n") == [b"<13>hello"]


def test_a_line_that_starts_with_a_number_is_not_taken_for_an_octet_count() -> None:
    framer = Framer()
    assert framer.feed(b"2024 ") == []
    assert framer.feed(b"was a year\n<13>hi\n") == [b"2024 was a year", b"<13>hi"]
    assert framer.framing == "newline"


def test_the_last_line_may_lack_its_line_end() -> None:
    framer = Framer()
    assert framer.feed(b"<13>one\n<13>two") == [b"<13>one"]
    assert framer.close() == [b"<13>two"]
    assert framer.truncated == 0


def test_an_octet_counted_message_cut_short_by_the_sender_is_kept_and_counted_as_truncated() -> None:
    framer = Framer()
    assert framer.feed(b"20 <13>only a part") == []
    assert framer.close() == [b"<13>only a part"]
    assert framer.truncated == 1


def test_line_ends_between_octet_counted_messages_are_forgiven() -> None:
    assert Framer().feed(b"6 <13>hi\n6 <13>ho\r\n") == [b"<13>hi", b"<13>ho"]


def test_a_stream_that_loses_its_octet_counts_is_refused_and_keeps_what_was_whole() -> None:
    with pytest.raises(FramingError, match="expected an octet count, found b'oops'") as caught:
        Framer().feed(b"6 <13>hioops")
    assert caught.value.messages == [b"<13>hi"]
    assert not caught.value.oversized


def test_an_incredible_octet_count_is_refused_as_oversized() -> None:
    with pytest.raises(FramingError, match="is over") as caught:
        Framer().feed(b"6 <13>hi%d <13>x" % (MAX_OCTET_COUNT + 1))
    assert caught.value.messages == [b"<13>hi"]
    assert caught.value.oversized


def test_the_rest_of_a_message_that_is_too_long_never_becomes_a_message() -> None:
    for framing, stream in (
        ("newline", b"<1>" + b"x" * 99 + b"\n<1>next\n"),
        ("octet", b"102 <1>" + b"x" * 99 + b"7 <1>next"),
    ):
        framer = Framer(framing, 10)
        assert [m for byte in stream for m in framer.feed(bytes([byte]))] == [b"<1>xxxxxxx", b"<1>next"]
        assert framer.truncated == 1
