"""Reading tasks: their parents, their states, and never a line of anybody's code."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from diag.agent.runtime import calls, peek, tasks, waiters


async def forever() -> None:
    await asyncio.Event().wait()


async def awaits(task: asyncio.Task[None]) -> None:
    await task


async def settled() -> None:
    """Let everything that was started reach its first real wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_python_tasks_are_read_as_well_as_c_tasks(start: Any) -> None:
    loop = asyncio.get_running_loop()
    child = asyncio.tasks._PyTask(forever(), loop=loop, name="child")  # type: ignore[attr-defined]
    parent = asyncio.tasks._PyTask(awaits(child), loop=loop, name="parent")  # type: ignore[attr-defined]
    await settled()
    assert peek.is_task(child)
    assert peek.name(child) == "child"
    assert waiters.parent(child) is parent
    assert peek.state(child, running=False) == "waiting"
    assert peek.loop(child) is loop
    parent.cancel()
    await asyncio.wait([parent, child])
    assert peek.state(parent, running=False) == "cancelled"


async def test_states_say_what_a_task_is_doing(start: Any) -> None:
    waiting = start(forever())
    await settled()
    ready = start(forever())
    assert peek.state(waiting, running=False) == "waiting"
    assert peek.state(ready, running=False) == "ready"
    assert peek.state(ready, running=True) == "running"
    waiting.cancel()
    assert peek.state(waiting, running=False) == "cancelling"
    await asyncio.wait([waiting])
    assert peek.state(waiting, running=False) == "cancelled"

    async def fails() -> None:
        raise ValueError

    failed, good = start(fails()), start(asyncio.sleep(0))
    await asyncio.wait([failed, good])
    assert peek.state(failed, running=False) == "failed"
    assert peek.state(good, running=False) == "done"


async def test_the_task_that_runs_is_found_and_the_main_task_is_recognised() -> None:
    me = asyncio.current_task()
    assert me is not None
    assert tasks.running()[id(me)] is me
    assert me in tasks.all_tasks()
    assert waiters.is_main(me)


async def test_no_code_of_the_application_runs_while_its_tasks_are_read() -> None:
    ran: list[str] = []

    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            if name not in ("__class__", "__await__", "send", "throw", "close", "__dict__"):
                ran.append(name)
            return object.__getattribute__(self, name)

        def __repr__(self) -> str:
            ran.append("repr")
            return "x"

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            return True

        def __hash__(self) -> int:
            ran.append("hash")
            return 1

        def __call__(self, *_: object) -> None:
            pass

    class Task(asyncio.Task[Any]):
        def __getattribute__(self, name: str) -> Any:
            ran.append(name)
            return super().__getattribute__(name)

        def get_name(self) -> str:
            ran.append("get_name")
            return "lies"

        def done(self) -> bool:
            ran.append("done")
            return True

    async def work() -> None:
        _kept = Hostile()
        await asyncio.sleep(99)

    task = Task(work(), name="true name")
    task.add_done_callback(Hostile())
    await settled()
    ran.clear()
    name, state, done = peek.name(task), peek.state(task, running=False), peek.done(task)
    parent, main = waiters.parent(task), waiters.is_main(task)
    at, started = calls.current_function(task, running=False), calls.initial_call(task)
    assert ran == []
    assert (name, state, done, parent, main) == ("true name", "waiting", False, None, False)
    assert at.startswith("asyncio.tasks.sleep:")
    assert started.endswith("work")
    task.cancel()


async def test_listing_all_tasks_keeps_none_of_them() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    task = asyncio.create_task(work())
    reference = weakref.ref(task)
    await task
    await settled()  # the step that woke us up still refers to it
    gc.disable()
    try:
        listed = any(each is task for each in tasks.all_tasks())
        del task
        assert listed
        assert reference() is None
    finally:
        gc.enable()


async def test_a_cancelled_task_that_is_still_referred_to_can_give_up_what_its_frames_held() -> None:
    class Thing:
        pass

    born: list[weakref.ref[Thing]] = []

    async def work() -> None:
        thing = Thing()
        born.append(weakref.ref(thing))
        await asyncio.sleep(99)

    task = asyncio.create_task(work())
    await settled()
    task.cancel()
    await asyncio.wait([task])
    assert born[0]() is not None, "nothing to drop: this Python keeps no traceback"
    peek.drop_cancellation(task)
    assert born[0]() is None
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_current_function_follows_awaits_through_generators_and_async_generators() -> None:
    async def ticks() -> Any:
        await asyncio.sleep(99)
        yield 1

    async def inner() -> None:
        async for _ in ticks():
            pass

    task = asyncio.create_task(inner())
    await settled()
    assert calls.current_function(task, running=False).startswith("asyncio.tasks.sleep:")
    assert calls.initial_call(task).endswith("<locals>.inner")
    task.cancel()


async def test_the_running_tasks_current_function_is_where_its_thread_is() -> None:
    me = asyncio.current_task()
    assert me is not None
    at = await asyncio.to_thread(calls.current_function, me, True)
    assert ":" in at
    assert calls.current_function(me, running=True).startswith("diag.agent.runtime.calls.current_function:")


async def test_a_finished_task_has_no_current_function() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    assert calls.current_function(task, running=False) == ""
    assert calls.initial_call(task) == "sleep"


async def test_waiting_for_a_task_says_for_which() -> None:
    child = asyncio.create_task(forever(), name="child")
    parent = asyncio.create_task(awaits(child))
    await settled()
    assert calls.waits_for(parent) == "task child"
    assert calls.waits_for(child) == ""
    parent.cancel()
    await asyncio.wait([parent])
