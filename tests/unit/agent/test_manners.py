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


@pytest.fixture(autouse=True)
def _collector_on() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_collector_comes_back_also_after_an_error() -> None:
    def fails() -> None:
        with manners.no_collections():
            assert not gc.isenabled()
            raise ValueError

    with pytest.raises(ValueError):
        fails()
    assert gc.isenabled()


def test_an_application_that_switched_it_off_itself_keeps_it_off() -> None:
    gc.disable()
    with manners.no_collections():
        assert not gc.isenabled()
    assert not gc.isenabled()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_in_that_moment_has_a_collector() -> None:
    with manners.no_collections():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
        assert not gc.isenabled()
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
