from __future__ import annotations

import gc
import json
import logging
import weakref
from dataclasses import dataclass
from typing import Any

import pytest

from collector.supervision import Crash, Exit, ReportFormatter
from collector.supervision.reasons import brief, crash_of, is_clean, storable


class Thing:
    """Something one can hold a weak reference to."""


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


def test_a_crash_says_what_where_and_because_of_what() -> None:
    def inner() -> None:
        raise KeyError("k")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("bad config") from error

    try:
        outer()
    except ValueError as error:
        crash = crash_of(error)
    assert (crash.error, crash.message, str(crash)) == ("ValueError", "bad config", "ValueError: bad config")
    assert "outer" in crash.traceback
    assert "<- KeyError: 'k' at" in crash.traceback
    assert "inner" in crash.traceback


def test_a_crash_of_a_huge_exception_stays_small() -> None:
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("x" * 1_000_000)
        dive(depth - 1)

    try:
        dive(300)
    except ValueError as error:
        crash = crash_of(error)
    assert len(crash.message) <= 300
    assert len(crash.traceback) <= 1500


def test_a_crash_keeps_nothing_alive_even_if_the_frame_kept_the_exception() -> None:
    def work(thing: Thing) -> None:
        try:
            raise ValueError("x")
        except ValueError as error:
            kept = error  # noqa: F841 frame -> exception -> traceback -> frame
            raise

    gc.disable()
    try:
        thing = Thing()
        alive = weakref.ref(thing)
        try:
            work(thing)
        except ValueError as error:
            crash_of(error)
        del thing
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("reason", "clean"),
    [
        ("normal", True),
        ("shutdown", True),
        (("shutdown", 1), True),
        ("killed", False),
        (("shutdown", 1, 2), False),
        (Crash("E", "m"), False),
        (None, False),
    ],
)
def test_normal_and_shutdown_are_clean_and_nothing_else(reason: Any, clean: bool) -> None:
    assert is_clean(reason) is clean


def test_a_stored_reason_keeps_plain_terms_and_describes_all_else() -> None:
    big = bytearray(10**6)
    assert storable(("shutdown", ("failed_to_start_child", "a", 3))) == (
        "shutdown",
        ("failed_to_start_child", "a", 3),
    )
    assert storable(("oops", big)) == ("oops", "<bytearray 1000000 B>")
    assert storable(caught(ValueError("x"))).error == "ValueError"
    assert len(str(storable("x" * 10_000))) <= 300
    wide: Any = "x"
    for _ in range(50):
        wide = (wide, wide)
    assert len(str(storable(wide))) < 10_000


def test_brief_shows_the_size_of_buffers_never_what_is_in_them() -> None:
    @dataclass
    class Chunk:
        data: bytes
        view: memoryview

    text = brief({"chunk": Chunk(b"secret" * 10**5, memoryview(b"secret"))})
    assert "secret" not in text
    assert "<bytes 600000 B>" in text
    assert "<memoryview 6 B>" in text


def test_brief_survives_a_repr_that_fails() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "Bad" in brief(Bad())
    assert len(brief(["x" * 500] * 500)) <= 200


def record(message: str = "hello", **extra: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "x", "levelname": "INFO", "levelno": 20, "msg": message, **extra})


def test_the_formatter_writes_any_record_as_one_line_of_pairs() -> None:
    line = ReportFormatter(timestamps=False).format(record("two\nlines"))
    assert line == 'level=info logger=x event="two\\nlines"'


def test_the_formatter_folds_an_exception_into_the_line() -> None:
    error = caught(ValueError("a\nb"))
    line = ReportFormatter().format(record(exc_info=(type(error), error, error.__traceback__)))
    assert "\n" not in line
    assert "ValueError" in line


def test_the_formatter_bounds_every_value_and_the_line() -> None:
    report = {f"key{n}": "x" * 100_000 for n in range(50)}
    assert len(ReportFormatter().format(record(report=report))) <= 4000
    assert len(ReportFormatter("json").format(record(report={"a": "x" * 10**6}))) < 2000


def test_a_long_value_does_not_push_out_those_after_it() -> None:
    line = ReportFormatter().format(record(report={"long": "x" * 10_000, "last": 7}))
    assert line.endswith("... last=7")


def test_the_formatter_writes_json_for_machines() -> None:
    fields = json.loads(
        ReportFormatter("json").format(record(report={"event": "crash", "pid": 7, "why": "a b"}))
    )
    assert (fields["event"], fields["pid"], fields["why"], fields["level"]) == ("crash", 7, "a b", "info")


def test_an_unknown_log_style_is_refused() -> None:
    with pytest.raises(ValueError, match="'pairs' or 'json'"):
        ReportFormatter("xml")  # type: ignore[arg-type]


def test_exit_carries_its_reason() -> None:
    assert Exit(("shutdown", 1)).reason == ("shutdown", 1)
    assert Exit().reason == "normal"
