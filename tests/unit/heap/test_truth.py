"""Predictions against reality: what an owner is said to retain is what dropping it frees, to the byte."""

from __future__ import annotations

import gc
import random
import sys
import tracemalloc
from array import array

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from diag.agent.heap import engine
from diag.agent.heap.engine import Budget, measure
from diag.agent.heap.picture import Row
from tests.unit.heap.graphs import GENERATOR, MAKERS, Heap, fill_free_lists, measured_allocator

ENGINES = ["native", "fallback"] if engine.engine_name() == "native" else ["fallback"]
HEAPS = 2000
GROUPS = 8

Things = list[tuple[int, int, int]]
Links = list[tuple[int, int]]


def _rows(heap: Heap, name: str, slice_roots: int | None = None) -> list[Row]:
    """What does not depend on the slicing: all but the list of what is shared with outsiders."""
    budget = Budget(first_slice=slice_roots, largest_slice=slice_roots) if slice_roots else None
    picture = measure(heap.tree(), budget, engine=name)
    assert picture.cost.complete
    return [row._replace(shared_bytes=0) for row in picture.rows]


def _check(parents: list[int], things: Things, links: Links, which: int, slice_roots: int) -> None:
    heap = Heap(parents, things, links)
    owner = which % (len(heap.parents) - 1) + 1
    rows = _rows(heap, ENGINES[0])
    for name in ENGINES[1:]:
        assert _rows(heap, name) == rows
    sliced = ENGINES[which % len(ENGINES)]
    assert _rows(heap, sliced, slice_roots) == rows, f"{sliced} in slices of {slice_roots}"
    assert rows[0].retained_bytes == sum(row.own_bytes for row in rows)
    predicted = rows[owner].retained_bytes
    del rows
    assert predicted == heap.drop(owner)


@pytest.mark.parametrize("group", range(GROUPS))
def test_on_thousands_of_random_heaps_the_prediction_equals_what_dropping_the_owner_frees(
    group: int,
) -> None:
    with measured_allocator():
        for seed in range(group, HEAPS, GROUPS):
            draw = random.Random(seed).randrange
            _check(
                [draw(20) for _ in range(draw(1, 8))],
                [(draw(20), draw(61), draw(98)) for _ in range(draw(41))],
                [(draw(61), draw(61)) for _ in range(draw(13))],
                which=draw(20),
                slice_roots=draw(1, 4),
            )


@pytest.mark.skipif("native" not in ENGINES, reason="needs the C module")
def test_what_a_collection_would_free_is_known_without_collecting() -> None:
    readings = array("q", (0, 0, 0, 0))
    # A generator is closed by the first of the two collections, and gives up what it holds too early.
    kinds = [kind for kind in range(len(MAKERS)) if kind != GENERATOR]
    with measured_allocator():
        for seed in range(300):
            draw = random.Random(seed).randrange
            gc.disable()
            Heap(
                [0],
                [(kinds[draw(len(kinds))], draw(61), draw(98)) for _ in range(draw(60))],
                [(draw(61), draw(61)) for _ in range(40)],
                leave_garbage=True,
            )
            readings[0] = engine.garbage_bytes() or 0
            # The garbage is found by a real collection, which also empties CPython's pools of free blocks,
            # but is only let go by a second one: the difference is garbage and nothing else.
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            gc.set_debug(0)
            fill_free_lists()
            gc.collect()
            readings[1] = tracemalloc.get_traced_memory()[0]
            readings[2] = sys.getsizeof(gc.garbage) - sys.getsizeof([])
            gc.garbage.clear()
            gc.collect()
            readings[3] = tracemalloc.get_traced_memory()[0]
            gc.enable()
            freed = readings[1] - readings[2] - readings[3]
            assert readings[0] == freed, f"seed {seed}"
            del draw, freed


@settings(
    max_examples=100,
    deadline=None,
    phases=[p for p in Phase if p is not Phase.explain],
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=7),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 60), st.integers(0, 97)), max_size=40),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12),
    st.integers(0, 20),
    st.integers(1, 3),
)
def _search(parents: list[int], things: Things, links: Links, which: int, slice_roots: int) -> None:
    try:
        _check(parents, things, links, which, slice_roots)
    except AssertionError:
        # Hypothesis and the interpreter now and then allocate between the two readings (3.12 and later:
        # instrumented code). That does not happen twice to the same heap; a wrong prediction does.
        _check(parents, things, links, which, slice_roots)


def test_a_search_for_the_smallest_heap_that_proves_the_prediction_wrong_finds_none() -> None:
    with measured_allocator():
        _search()


@pytest.mark.parametrize("name", ENGINES)
def test_measuring_keeps_no_object_alive_and_adds_no_reference(name: str) -> None:
    heap = Heap([0, 0, 1], [(n, n, n * 7) for n in range(40)], [(1, 2), (5, 3)])
    held = [*heap.outside, *(root for roots in heap.roots for root in roots)]
    held += [thing for root in held if hasattr(root, "held") for thing in root.held]
    before = [sys.getrefcount(each) for each in held]
    for _ in range(3):
        measure(heap.tree(), Budget(first_slice=1, largest_slice=1), engine=name)
    assert [sys.getrefcount(each) for each in held] == before
