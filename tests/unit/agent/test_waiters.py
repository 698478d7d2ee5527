"""Who waits for a task, and into whom its cancellation is raised."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from diag.agent.runtime import waiters
from tests.unit.agent.test_peek import awaits, forever, settled

Start = Callable[[asyncio.Task[None]], Coroutine[Any, Any, Any]]


async def by_gather(task: asyncio.Task[None]) -> None:
    await asyncio.gather(task, asyncio.sleep(99))


async def by_wait(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


async def by_wait_for(task: asyncio.Task[None]) -> None:
    await asyncio.wait_for(task, 99)


async def by_shield(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


async def by_shield_of_gather(task: asyncio.Task[None]) -> None:
    await asyncio.shield(asyncio.gather(task))


async def by_as_completed(task: asyncio.Task[None]) -> None:
    for each in asyncio.as_completed([task]):
        await each


WAYS = [awaits, by_gather, by_wait, by_wait_for, by_shield, by_shield_of_gather, by_as_completed]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_parent_of_a_task_is_whoever_waits_for_it(way: Start, start: Any) -> None:
    child = start(forever())
    parent = start(way(child))
    await settled()
    assert waiters.parent(child) is parent
    assert waiters.parent(parent) is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with Python 3.11")
async def test_the_parent_of_a_task_in_a_task_group_is_the_groups_host(start: Any) -> None:
    born: list[asyncio.Task[None]] = []

    async def host() -> None:
        async with asyncio.TaskGroup() as group:
            born.append(group.create_task(forever()))
            await asyncio.sleep(99)

    parent = start(host())
    await settled()
    assert waiters.parent(born[0]) is parent


async def test_a_callback_that_happens_to_belong_to_another_task_makes_it_no_parent(start: Any) -> None:
    child, other = start(forever()), start(forever())
    child.add_done_callback(other.cancel)
    child.add_done_callback(lambda _: other.cancel())
    await settled()
    assert waiters.parent(child) is None


async def by_forgiving_gather(task: asyncio.Task[None]) -> None:
    await asyncio.gather(task, forever(), return_exceptions=True)


async def by_wait_for_gather(task: asyncio.Task[None]) -> None:
    await asyncio.wait([asyncio.gather(task)])


@pytest.mark.parametrize(
    "way", [*WAYS, by_forgiving_gather, by_wait_for_gather], ids=lambda way: way.__name__
)
async def test_whoever_is_said_to_be_told_of_a_cancellation_is_told_and_nobody_else(
    way: Start, start: Any
) -> None:
    heard: list[str] = []

    async def listening(name: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            heard.append(name)
            raise

    child = start(forever())
    parent = start(listening("parent", way(child)), "parent")
    grandparent = start(listening("grandparent", awaits(parent)), "grandparent")
    await settled()
    said = [task.get_name() for task in waiters.told(child)]
    assert waiters.told(grandparent) == []
    child.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert said == heard
    if heard:
        assert parent.cancelled()
        assert grandparent.cancelled()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with Python 3.11")
async def test_the_host_of_a_task_group_is_not_told(start: Any) -> None:
    born: list[asyncio.Task[None]] = []

    async def host() -> None:
        async with asyncio.TaskGroup() as group:
            born.append(group.create_task(forever()))
            await forever()

    start(host())
    await settled()
    assert waiters.told(born[0]) == []


async def test_tasks_that_wait_for_each_other_are_told_once_each(start: Any) -> None:
    ring: list[asyncio.Task[None]] = []

    async def next_one(at: int) -> None:
        await settled()
        await asyncio.shield(ring[(at + 1) % 3])  # awaiting directly, none could ever be cancelled

    ring += [start(next_one(at)) for at in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert waiters.told(ring[0]) == [ring[2], ring[1]]


async def test_only_what_is_shielded_is_said_to_be(start: Any) -> None:
    children = [start(forever()) for _ in WAYS]
    for way, child in zip(WAYS, children, strict=True):
        start(way(child))
    await settled()
    shielded = [way for way, child in zip(WAYS, children, strict=True) if waiters.is_shielded(child)]
    assert shielded == [by_shield]
