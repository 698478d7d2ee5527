"""What people read: figures with units, names that cannot command their terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diag.client import output
from diag.client.text import clean, human_age, human_bytes


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (-1536, "-1.5 KiB"),
        (536870912, "512.0 MiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_bytes_carry_a_binary_unit(count: float | None, shown: str) -> None:
    assert human_bytes(count) == shown


def test_a_rise_can_be_shown_with_its_sign() -> None:
    assert human_bytes(2048, sign=True) == "+2.0 KiB"
    assert human_bytes(0, sign=True) == "0 B"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (59.9, "59s"), (61, "1m01s"), (3700, "1h01m"), (90000, "1d01h")],
)
def test_ages_are_short(seconds: float | None, shown: str) -> None:
    assert human_age(seconds) == shown


@given(st.text())
def test_no_text_from_a_target_can_command_the_terminal(text: str) -> None:
    assert clean(text).isprintable() or clean(text) == ""


def test_a_plain_table_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["NAME", "BYTES"], [["a" * 300, "1"], ["\x1b[31mred", "22"]], right=(1,))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "a" * 300 + "      1"
    assert lines[2].endswith("   22")
    assert "\x1b" not in "".join(lines)


def test_an_empty_table_is_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["NAME"], [])
    assert capsys.readouterr().out == "NAME\n"


def test_progress_says_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("working", total_s=0.01):
        pass
    assert capsys.readouterr().err == ""
