"""Which row is meant, what is below it, and how it grew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diag.client import owners
from diag.client.history import slope_bytes_per_s, with_growth
from diag.wire.errors import OWNER_GONE, RpcError
from tests.unit.wire.test_ranking import owner, table

ROWS = table(
    owner("process", None),
    owner("app", "process"),
    owner("sup", "app"),
    owner("a", "sup"),
    replace(owner("b1", "sup"), name="b"),
    replace(owner("b2", "app"), name="b"),
)


def test_an_owner_is_found_by_id_and_by_a_unique_name() -> None:
    assert owners.find(ROWS, "b1").parent == "sup"
    assert owners.find(ROWS, "sup").id == "sup"


def test_a_name_that_several_have_is_refused_with_their_ids() -> None:
    with pytest.raises(RpcError, match="2 owners") as caught:
        owners.find(ROWS, "b")
    assert caught.value.code == OWNER_GONE
    assert "b1, b2" in caught.value.hint


def test_a_misspelt_name_is_answered_with_what_was_probably_meant() -> None:
    with pytest.raises(RpcError) as caught:
        owners.find(ROWS, "supp")
    assert "sup" in caught.value.hint


def test_below_an_owner_is_its_whole_subtree_without_itself() -> None:
    assert [row.id for row in owners.below(ROWS, owners.find(ROWS, "app"))] == ["sup", "a", "b1", "b2"]
    assert owners.below(ROWS, owners.find(ROWS, "a")) == []


@given(
    st.floats(-1e9, 1e9),
    st.floats(-1e12, 1e12),
    st.lists(st.integers(0, 10_000), min_size=2, max_size=30, unique=True),
)
def test_a_straight_line_has_its_own_slope(slope: float, start: float, moments: list[int]) -> None:
    samples = [(float(t), start + slope * t) for t in sorted(moments)]
    found = slope_bytes_per_s(samples)
    assert found == pytest.approx(slope, rel=1e-3, abs=1e-2 + abs(start) * 1e-9)


def test_one_outlier_does_not_bend_the_slope() -> None:
    samples = [(float(t), 100.0 * t) for t in range(11)]
    samples[5] = (5.0, 1e9)
    assert slope_bytes_per_s(samples) == pytest.approx(100.0)


def test_one_moment_has_no_slope() -> None:
    assert slope_bytes_per_s([]) is None
    assert slope_bytes_per_s([(1.0, 5.0), (1.0, 9.0)]) is None


def test_growth_is_per_second_and_only_for_owners_seen_in_both_pictures() -> None:
    before = table(
        owner("old", None, retained_bytes=100), owner("reborn", None, retained_bytes=5, incarnation="1")
    )
    after = table(
        owner("old", None, retained_bytes=300),
        owner("new", None, retained_bytes=50),
        owner("reborn", None, retained_bytes=9, incarnation="2"),
    )
    grown = {row.id: row.growth_bytes_per_s for row in with_growth(before, after, 4.0).owners}
    assert grown == {"old": 50.0, "new": None, "reborn": None}
