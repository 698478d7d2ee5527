from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.supervision.intensity import RestartWindow


def test_one_more_than_intensity_within_the_period_is_too_many() -> None:
    window = RestartWindow(2, 5)
    assert [window.add(now) for now in (0.0, 1.0, 2.0)] == [True, True, False]


def test_the_window_counts_whole_seconds_and_its_edge_so_it_lasts_up_to_a_second_longer() -> None:
    window = RestartWindow(1, 5)
    assert window.add(0.0)
    assert not window.add(5.9)
    window = RestartWindow(1, 5)
    assert window.add(0.0)
    assert window.add(6.0)


def test_intensity_0_allows_none() -> None:
    assert not RestartWindow(0, 5).add(100.0)


def test_has_room_foretells_what_add_will_say_and_changes_nothing() -> None:
    window = RestartWindow(1, 5)
    assert window.has_room(0.0)
    assert window.has_room(0.0)
    assert window.add(0.0)
    assert not window.has_room(3.0)
    assert window.has_room(6.0)


@given(
    st.integers(0, 4),
    st.integers(1, 6),
    st.lists(st.floats(0, 4, allow_nan=False), max_size=30),
)
def test_the_window_agrees_with_counting_by_hand(intensity: int, period: int, pauses: list[float]) -> None:
    window = RestartWindow(intensity, period)
    now, seen = 0.0, []
    for pause in pauses:
        now += pause
        seen.append(int(now))
        recent = sum(moment >= int(now) - period for moment in seen)
        assert window.has_room(now) == (recent - 1 < intensity)
        assert window.add(now) == (recent <= intensity)


def test_it_does_not_grow_without_end() -> None:
    window = RestartWindow(3, 5)
    for second in range(1000):
        window.add(float(second))
    assert len(window._moments) <= 7


@pytest.mark.parametrize("now", [-7.5, -0.1])
def test_a_clock_may_start_below_zero(now: float) -> None:
    window = RestartWindow(1, 1)
    assert window.add(now)
    assert not window.add(now + 0.5)
