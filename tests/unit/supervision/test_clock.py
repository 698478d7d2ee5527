from __future__ import annotations

import asyncio

import pytest

from collector.supervision import VirtualClock, settle


async def test_timers_fire_in_order_of_their_moments_and_see_their_own_time() -> None:
    clock = VirtualClock()
    seen: list[tuple[str, float]] = []
    for name, delay in (("b", 2.0), ("a", 1.0), ("c", 2.0), ("late", 9.0)):
        clock.call_later(delay, lambda name=name: seen.append((name, clock.now())))
    await clock.advance(5)
    assert seen == [("a", 1.0), ("b", 2.0), ("c", 2.0)]
    assert clock.now() == 5
    assert clock.pending == 1


async def test_a_cancelled_timer_does_not_fire() -> None:
    clock = VirtualClock()
    timer = clock.call_later(1, pytest.fail, "fired")
    timer.cancel()
    await clock.advance(2)
    assert clock.pending == 0


async def test_work_that_a_timer_sets_off_is_done_before_time_moves_on() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    async def twice() -> None:
        await clock.sleep(1)
        seen.append(clock.now())
        await clock.sleep(1)
        seen.append(clock.now())

    task = asyncio.ensure_future(twice())
    await clock.advance(10)
    assert seen == [1.0, 2.0]
    await task


async def test_drive_moves_time_only_as_far_as_it_must() -> None:
    clock = VirtualClock()
    await clock.drive(clock.sleep(3))
    assert clock.now() == 3


async def test_drive_says_so_when_it_would_wait_for_ever() -> None:
    clock = VirtualClock()
    with pytest.raises(RuntimeError, match="no timer"):
        await clock.drive(asyncio.get_running_loop().create_future())


async def test_settle_says_so_when_something_spins() -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    task = asyncio.ensure_future(spin())
    with pytest.raises(RuntimeError, match="spins"):
        await settle(limit=100)
    task.cancel()
