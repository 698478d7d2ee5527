"""The agent's own objects set off no collection, and the collector is always as the application had it."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator

import pytest

from diag.agent import manners
from diag.agent.runtime.identity import Identities
from diag.agent.table import Look, table
from diag.wire import model
from tests.unit.agent.test_peek import forever, settled

OURS = (640, 8, 9)


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*OURS)
    yield
    gc.set_threshold(*before)
    gc.enable()


def held_back() -> bool:
    """Whether thousands of new objects set off no collection."""
    started: list[str] = []

    def count(phase: str, info: dict[str, int]) -> None:
        started.append(phase)

    gc.callbacks.append(count)
    try:
        _kept = [[] for _ in range(4 * OURS[0])]  # type: ignore[var-annotated]
        return not started
    finally:
        gc.callbacks.remove(count)


def test_collections_are_held_back_and_come_back_also_after_an_error() -> None:
    def fails() -> None:
        with manners.no_collections():
            assert held_back()
            raise ValueError

    assert not held_back()
    with pytest.raises(ValueError):
        fails()
    assert gc.get_threshold() == OURS
    assert not held_back()


def test_an_application_that_switches_the_collector_off_meanwhile_keeps_it_off() -> None:
    with manners.no_collections():
        assert gc.isenabled()
        gc.disable()
    assert not gc.isenabled()
    assert gc.get_threshold() == OURS


def test_a_threshold_the_application_sets_meanwhile_stays() -> None:
    with manners.no_collections():
        gc.set_threshold(5000, 20, 30)
    assert gc.get_threshold() == (5000, 20, 30)


def test_an_application_that_copied_our_threshold_is_put_right_by_the_next_picture() -> None:
    with manners.no_collections():
        copied = gc.get_threshold()
    gc.set_threshold(*copied)
    with manners.no_collections():
        pass
    assert gc.get_threshold() == OURS


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_in_that_moment_has_a_collector() -> None:
    with manners.no_collections():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.get_threshold() == OURS else 1)
        assert held_back()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_a_picture_of_thousands_of_tasks_sets_off_no_collection() -> None:
    tasks = [asyncio.create_task(forever(), name=f"t{at}") for at in range(4000)]
    await settled()
    collections: list[int] = []

    def count(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collections.append(info["generation"])

    def look() -> model.Table:
        with manners.no_collections(), Look.take("p") as seen:
            return table(seen, model.Target(1, "p", "3"), Identities(), limit=100)

    gc.collect()
    gc.callbacks.append(count)
    try:
        for _ in range(5):
            made = await asyncio.to_thread(look)
            assert made.total_owners > 4000
            del made
    finally:
        gc.callbacks.remove(count)
    assert 2 not in collections, collections
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
