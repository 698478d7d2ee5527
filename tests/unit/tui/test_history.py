from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.history import History, slope

A, B = ("task:a", "1"), ("task:b", "1")


@given(
    rate=st.floats(-1e9, 1e9),
    base=st.floats(0, 1e12),
    times=st.lists(st.integers(0, 10_000), min_size=2, max_size=40, unique=True),
)
def test_a_straight_line_has_its_own_slope(rate: float, base: float, times: list[int]) -> None:
    points = [(float(t), base + rate * t) for t in sorted(times)]
    assert slope(points) == pytest.approx(rate, rel=1e-6, abs=1.0)


def test_one_odd_sample_does_not_tilt_the_slope() -> None:
    points = [(float(t), 100.0 * t) for t in range(7)]
    points[3] = (3.0, 1e9)
    assert slope(points) == pytest.approx(100.0)


def test_one_point_has_no_slope() -> None:
    assert slope([]) is None
    assert slope([(1.0, 5.0)]) is None
    assert slope(deque([(1.0, 5.0), (1.0, 7.0)])) is None


def test_growth_is_judged_over_the_window_only() -> None:
    history = History(window_s=10)
    for t in range(0, 40, 2):
        history.add(float(t), {A: 0 if t < 20 else (t - 20) * 1000}, rss_bytes=0)
    assert history.growth()[A] == pytest.approx(1000.0)


def test_an_owner_that_left_is_forgotten() -> None:
    history = History()
    history.add(0.0, {A: 1, B: 1}, 10)
    history.add(2.0, {A: 1}, 10)
    assert set(history.growth()) == {A}
    history.add(4.0, {A: 1, B: 100}, 10)
    assert history.growth()[B] is None, "it came back, or its name did: nothing is known about it"


def test_the_past_is_bounded() -> None:
    history = History(window_s=1e9, rss_points=5)
    for t in range(50):
        history.add(float(t), {}, t)
    assert history.rss() == (45, 46, 47, 48, 49)
    assert history.rss_growth() == pytest.approx(1.0)
    history.clear()
    assert history.rss() == ()
    assert history.rss_growth() is None


def test_whoever_comes_back_under_a_name_starts_anew() -> None:
    history = History()
    history.add(0.0, {("app/sup", "1"): 500}, 10)
    history.add(2.0, {("app/sup", "2"): 10}, 10)
    assert history.growth() == {("app/sup", "2"): None}
