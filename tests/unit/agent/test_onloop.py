"""What runs on the loop runs in time, or never."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from diag.agent import onloop
from diag.wire.errors import ACTION_FAILED, LOOP_STALLED, RpcError


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_function_and_a_coroutine_run_on_the_loops_own_thread(loop: asyncio.AbstractEventLoop) -> None:
    where: list[object] = []

    async def work() -> None:
        task = asyncio.current_task()
        where.append(task.get_name() if task else None)

    assert onloop.run(loop, lambda: where.append(threading.current_thread()), name="x", finish_within_s=5)
    assert onloop.run(loop, work, name="diag stop x", finish_within_s=5)
    assert where[0] is not threading.current_thread()
    assert where[1] == "diag stop x"


def test_what_a_stalled_loop_did_not_begin_in_time_never_begins(loop: asyncio.AbstractEventLoop) -> None:
    stalled, release = threading.Event(), threading.Event()
    ran: list[int] = []

    def stall() -> None:
        stalled.set()
        release.wait(30)

    loop.call_soon_threadsafe(stall)
    assert stalled.wait(5)
    with pytest.raises(RpcError) as caught:
        onloop.run(loop, lambda: ran.append(1), name="x", finish_within_s=5, start_within_s=0.05)
    assert caught.value.code == LOOP_STALLED
    assert "withdrawn" in caught.value.message
    release.set()
    assert onloop.run(loop, lambda: None, name="later", finish_within_s=5)
    assert ran == []


def test_what_was_begun_but_not_finished_goes_on_and_is_not_collected(
    loop: asyncio.AbstractEventLoop,
) -> None:
    finished = threading.Event()
    gates: list[asyncio.Event] = []

    async def work() -> None:
        gates.append(asyncio.Event())
        await gates[0].wait()
        finished.set()

    assert onloop.run(loop, work, name="slow", finish_within_s=0.05) is False
    gc.collect()
    loop.call_soon_threadsafe(gates[0].set)
    assert finished.wait(5)


def test_an_error_of_the_application_comes_back_as_one_line_of_text(loop: asyncio.AbstractEventLoop) -> None:
    async def fails() -> None:
        raise KeyError("no such child\nat all")

    def fails_at_once() -> None:
        raise ValueError("x" * 1000)

    for function in (fails, fails_at_once):
        with pytest.raises(RpcError) as caught:
            onloop.run(loop, function, name="x", finish_within_s=5)
        assert caught.value.code == ACTION_FAILED
        assert "\n" not in caught.value.message
        assert len(caught.value.message) < 350


def test_a_closed_loop_is_said_to_be_closed() -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    with pytest.raises(RpcError, match="closed"):
        onloop.run(closed, lambda: None, name="x", finish_within_s=5)


def test_nothing_of_the_call_is_kept_afterwards(loop: asyncio.AbstractEventLoop) -> None:
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing)

    async def fails(held: Any = thing) -> None:
        raise ValueError(held.__class__.__name__)

    gc.disable()
    try:
        try:
            onloop.run(loop, fails, name="x", finish_within_s=5)
        except RpcError:
            pass
        onloop.run(loop, lambda: None, name="flush", finish_within_s=5)
        del fails, thing
        assert reference() is None
    finally:
        gc.enable()


def test_an_exception_whose_text_fails_still_has_a_type() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert onloop.said(Mute()) == "Mute: (its own __str__ failed)"
