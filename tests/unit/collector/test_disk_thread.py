"""Blocking calls in a thread of their own, which keeps nothing and ends with its owner."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from collector.spool.disk_thread import DiskThread


def running(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def test_calls_are_made_one_after_another_and_answer_or_raise() -> None:
    disk = DiskThread("spool:calls")
    assert await disk.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(OSError, match="no space"):
        await disk.call(fail)
    assert await disk.call(threading.current_thread) in running("spool:calls")


def fail() -> None:
    raise OSError("no space")


async def test_a_waiting_thread_keeps_nothing_of_its_last_call() -> None:
    class Block(bytearray):
        pass

    disk = DiskThread("spool:keeps")
    block = Block(100)
    gone = weakref.ref(block)
    assert await disk.call(len, block) == 100
    del block
    await disk.call(len, b"")  # the first call's frame has moved on
    assert gone() is None


def test_a_call_that_fails_keeps_nothing_either() -> None:
    class Block(bytearray):
        pass

    def refuse(block: Block) -> None:
        raise OSError("no space")

    async def attempt(disk: DiskThread) -> weakref.ref[Block]:
        block = Block(100)
        try:
            await disk.call(refuse, block)
        except OSError:
            pass
        return weakref.ref(block)

    async def both() -> bool:
        disk = DiskThread("spool:fails")
        gone = await attempt(disk)
        await disk.call(len, b"")
        return gone() is None

    gc.collect()
    gc.disable()
    try:
        # Not in the test's own task: pytest-asyncio's is written in Python on 3.10, and keeps what it raised.
        assert asyncio.run(both()), "free by reference counts alone"
    finally:
        gc.enable()


async def test_the_thread_ends_with_its_owner() -> None:
    disk = DiskThread("spool:ends")
    (thread,) = running("spool:ends")
    assert thread.daemon, "the end of the process does not wait for it"
    del disk
    thread.join(timeout=10)
    assert running("spool:ends") == []
