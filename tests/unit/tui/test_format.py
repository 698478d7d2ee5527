from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui import format as fmt


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (10_234, "9.99 KiB"),
        (10_239, "10.0 KiB"),
        (1_023_487, "999 KiB"),
        (1_023_488, "0.98 MiB"),
        (421_527_552, "402 MiB"),
        (2 << 30, "2.00 GiB"),
        (-3 << 19, "-1.50 MiB"),
        (None, "?"),
    ],
)
def test_sizes_have_three_digits_and_the_right_unit(count: int | None, text: str) -> None:
    assert fmt.size(count) == text


@given(st.integers(min_value=0, max_value=10**17))
def test_a_size_is_short_and_within_half_a_last_digit_of_the_truth(count: int) -> None:
    text = fmt.size(count)
    assert len(text) <= 8
    number, unit = text.split(" ")
    shown = float(number) * 1024 ** fmt.UNITS.index(unit)
    assert abs(shown - count) <= max(0.5, count * 0.0052)


def test_a_cut_off_figure_is_marked_as_a_lower_bound() -> None:
    assert fmt.at_least(5 << 20, complete=False) == "≥5.00 MiB"
    assert fmt.at_least(5 << 20, complete=True) == "5.00 MiB"
    assert fmt.at_least(None, complete=False) == "?"


def test_growth_shows_its_direction_without_a_colour() -> None:
    assert fmt.growth(8 << 20) == "▲ 8.00 MiB"
    assert fmt.growth(-8 << 20) == "▼ 8.00 MiB"
    assert fmt.growth(12) == "·"
    assert fmt.growth(None) == ""


def test_a_sparkline_rises_with_its_values_and_keeps_noise_low() -> None:
    assert fmt.sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8) == "▁▂▃▄▅▆▇█"
    assert fmt.sparkline([100, 100.1, 100, 100.1], 4) == "▁▁▁▁"
    assert fmt.sparkline([1, 2, 3], 2) == "▁█"
    assert fmt.sparkline([], 5) == ""
    assert fmt.sparkline([0, 0], 5) == "▁▁"


@given(st.lists(st.floats(min_value=0, max_value=1e12), max_size=50), st.integers(0, 60))
def test_a_sparkline_never_outgrows_its_place(values: list[float], width: int) -> None:
    assert len(fmt.sparkline(values, width)) == min(width, len(values))


@given(st.text(max_size=60), st.integers(0, 40))
def test_a_name_cut_in_the_middle_fits_and_keeps_both_ends(text: str, width: int) -> None:
    cut = fmt.middle(text, width)
    assert len(cut) == min(len(text), width)
    if len(text) > width >= 3:
        assert cut[0] == text[0]
        assert cut[-1] == text[-1]


def test_a_name_cannot_drive_the_terminal() -> None:
    assert fmt.plain("a\x1b[31mb\nc\x07") == "a�[31mb�c�"


def test_a_bar_fills_in_eighths() -> None:
    assert fmt.bar(1.0, 4) == "████"
    assert fmt.bar(0.0, 4) == "    "
    assert fmt.bar(0.5625, 2) == "█▏"


def test_times_are_readable() -> None:
    assert [fmt.duration(s) for s in (45, 120, 9000, 200_000)] == ["45 s", "2 min", "2.5 h", "2 d"]
    assert [fmt.milliseconds(ms) for ms in (0.421, 13.14, 1204)] == ["0.42 ms", "13.1 ms", "1,204 ms"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d", fmt.clock(0))
    assert fmt.count(1, "task") == "1 task"
    assert fmt.count(1204, "task") == "1,204 tasks"
