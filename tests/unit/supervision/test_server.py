"""Servers: calls, casts, timeouts and how they end."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import pytest

from collector import supervision as sv


class Counter(sv.Server):
    async def init(self, first: int = 0, *, start: Any = None) -> Any:
        self.count = first
        self.waiting: list[sv.From] = []
        self.heard: list[Any] = []
        return start

    async def handle_call(self, request: Any, from_: sv.From) -> Any:
        if isinstance(request, int):
            self.count += request
            return self.count
        if request == "later":
            self.waiting.append(from_)
            return sv.NOREPLY
        if request == "sleep":
            await self.clock.sleep(60)
        if isinstance(request, Exception):
            raise request
        if request == "heard":
            return self.heard
        return request

    async def handle_cast(self, message: Any) -> Any:
        if message == "answer":
            for from_ in self.waiting:
                sv.reply(from_, "at last")
        return message if isinstance(message, (sv.Stop, sv.Continue, sv.Timeout)) else None

    async def handle_info(self, message: Any) -> None:
        self.heard.append(message)

    async def handle_continue(self, argument: Any) -> Any:
        self.heard.append(("continue", argument))
        return argument if isinstance(argument, (sv.Stop, sv.Continue)) else None


class Careful(Counter):
    trap_exit: ClassVar[bool] = True
    ends: ClassVar[list[Any]] = []

    async def terminate(self, reason: sv.Reason) -> None:
        Careful.ends.append(reason)


async def started(cls: type[sv.Server] = Counter, *args: Any, **options: Any) -> sv.Pid:
    pid = await sv.Server.start_link(cls, *args, **options)
    assert pid is not None
    return pid


@pytest.fixture(autouse=True)
def no_ends_yet() -> None:
    Careful.ends.clear()


async def test_a_call_is_answered_by_name_and_by_pid() -> None:
    pid = await started(Counter, 10, name="counter")
    assert await sv.call("counter", 5) == 15
    assert await sv.call(pid, 1) == 16
    await sv.stop(pid)


async def test_messages_are_handled_in_order_one_at_a_time() -> None:
    pid = await started()
    for n in range(100):
        sv.send(pid, n)
    assert await sv.call(pid, "heard") == list(range(100))
    await sv.stop(pid)


async def test_an_answer_may_come_later() -> None:
    pid = await started()
    asked = asyncio.ensure_future(sv.call(pid, "later"))
    await sv.settle()
    assert not asked.done()
    assert await sv.call(pid, 1) == 1
    sv.cast(pid, "answer")
    assert await asked == "at last"
    await sv.stop(pid)


async def test_an_answer_that_comes_too_late_is_dropped(clock: sv.VirtualClock) -> None:
    pid = await started()
    with pytest.raises(sv.CallTimeout):
        await clock.drive(sv.call(pid, "later"))
    sv.cast(pid, "answer")
    assert await sv.call(pid, 1) == 1
    await sv.stop(pid)


async def test_a_call_that_is_not_answered_in_time_names_server_and_request(clock: sv.VirtualClock) -> None:
    pid = await started(name="sleeper")
    with pytest.raises(sv.CallTimeout, match="sleeper did not answer 'sleep' within 2 s"):
        await clock.drive(sv.call("sleeper", "sleep", timeout=2))
    sv.send_exit(pid, "kill")
    await sv.wait_ended(pid)


async def test_a_call_to_nobody_says_so() -> None:
    with pytest.raises(sv.ServerDown, match="nobody cannot answer 'x': there is no such process") as refused:
        await sv.call("nobody", "x")
    assert (refused.value.server, refused.value.reason) == ("nobody", "noproc")


async def test_a_call_to_a_server_that_dies_says_why() -> None:
    pid = await started(name="c")
    with pytest.raises(sv.ServerDown, match="it ended: ValueError: boom"):
        await sv.call(pid, ValueError("boom"))
    with pytest.raises(sv.ServerDown):
        await sv.call(pid, 1)


async def test_a_server_that_calls_itself_is_told() -> None:
    class Narcissus(sv.Server):
        async def handle_call(self, request: Any, from_: sv.From) -> Any:
            await sv.call(self.pid, "me")

    pid = await started(Narcissus)
    with pytest.raises(sv.ServerDown, match="calls itself"):
        await sv.call(pid, "x")


async def test_a_cast_to_nobody_is_nothing() -> None:
    sv.cast("nobody", "x")


@pytest.mark.parametrize(
    ("outcome", "answer", "reason"),
    [
        (sv.Stop("normal", reply="bye"), "bye", "normal"),
        (sv.Stop(("shutdown", 1), reply=None), None, ("shutdown", 1)),
        (sv.Reply("bye", sv.Stop("other")), "bye", "other"),
    ],
)
async def test_a_server_may_answer_and_end(outcome: Any, answer: Any, reason: sv.Reason) -> None:
    pid = await started(Careful)
    assert await sv.call(pid, outcome) == answer
    assert await sv.wait_ended(pid) == reason
    assert Careful.ends == [reason]


async def test_terminate_is_called_after_a_crash_with_the_reason_others_see() -> None:
    pid = await started(Careful)
    with pytest.raises(sv.ServerDown):
        await sv.call(pid, ValueError("boom"))
    assert [str(reason) for reason in Careful.ends] == ["ValueError: boom"]
    assert pid.exit_reason == Careful.ends[0]


async def test_a_shutdown_waits_its_turn_where_exits_are_trapped() -> None:
    class Top(sv.Server):
        async def init(self) -> None:
            self.child = await started(Careful)

        async def handle_call(self, request: Any, from_: sv.From) -> Any:
            sv.send(self.child, 1)
            sv.send(self.child, 2)
            sv.send_exit(self.child, "shutdown")
            sv.unlink(self.child)
            return self.child.instance(), self.child

    top = await started(Top)
    instance, child = await sv.call(top, "go")
    assert await sv.wait_ended(child) == "shutdown"
    assert instance.heard == [1, 2]
    assert Careful.ends == ["shutdown"]
    await sv.stop(top)


async def test_stop_is_orderly_and_says_when_the_server_ended_otherwise(clock: sv.VirtualClock) -> None:
    pid = await started(Careful)
    sv.send(pid, "first")
    await sv.stop(pid, ("shutdown", "test"))
    assert Careful.ends == [("shutdown", "test")]
    with pytest.raises(sv.ServerDown, match="no such process"):
        await sv.stop(pid)
    sleeper = await started()
    asleep = asyncio.ensure_future(sv.call(sleeper, "sleep", timeout=None))
    with pytest.raises(asyncio.TimeoutError):
        await clock.drive(sv.stop(sleeper, timeout=1))
    sv.send_exit(sleeper, "kill")
    with pytest.raises(sv.ServerDown):
        await asleep


@pytest.mark.parametrize("outcome", [sv.IGNORE, sv.Stop("no"), sv.Continue(1), sv.Timeout(5)])
async def test_init_decides_how_it_begins(outcome: Any, clock: sv.VirtualClock) -> None:
    if isinstance(outcome, sv.Stop):
        with pytest.raises(sv.StartError, match="c did not start: no") as refused:
            await started(Counter, start=outcome, name="c")
        assert refused.value.reason == "no"
        assert sv.whereis("c") is None
        return
    pid = await sv.Server.start_link(Counter, start=outcome)
    if outcome is sv.IGNORE:
        assert pid is None
        return
    assert pid is not None
    await clock.advance(6)
    assert await sv.call(pid, "heard") in ([("continue", 1)], [sv.TIMEOUT])
    await sv.stop(pid)


async def test_a_crash_in_init_fails_the_start_with_the_crash() -> None:
    class Bad(sv.Server):
        async def init(self) -> None:
            raise OSError("port in use")

    with pytest.raises(sv.StartError, match="OSError: port in use") as refused:
        await started(Bad)
    assert isinstance(refused.value.reason, sv.Crash)


async def test_who_gives_up_waiting_for_a_start_leaves_nothing_running() -> None:
    class Slow(sv.Server):
        async def init(self) -> None:
            await asyncio.get_running_loop().create_future()

    starting = asyncio.ensure_future(started(Slow, name="slow"))
    await sv.settle()
    assert sv.whereis("slow") is not None
    starting.cancel()
    await sv.settle()
    assert sv.whereis("slow") is None


async def test_an_idle_timeout_fires_only_when_no_message_comes(clock: sv.VirtualClock) -> None:
    pid = await started()
    sv.cast(pid, sv.Timeout(5))
    await clock.advance(4)
    sv.send(pid, "message")
    await clock.advance(10)
    assert await sv.call(pid, "heard") == ["message"]
    sv.cast(pid, sv.Timeout(5))
    await clock.advance(5)
    assert await sv.call(pid, "heard") == ["message", sv.TIMEOUT]
    await sv.stop(pid)


async def test_a_continuation_runs_before_the_next_message() -> None:
    pid = await started()
    sv.cast(pid, sv.Continue(sv.Continue("two")))
    sv.send(pid, "message")
    heard = await sv.call(pid, "heard")
    assert heard == [("continue", sv.Continue("two")), ("continue", "two"), "message"]
    await sv.stop(pid)


async def test_a_timer_sends_its_message_and_can_be_taken_back(clock: sv.VirtualClock) -> None:
    pid = await started()
    kept = sv.send_after(5, pid, "kept")
    taken = sv.send_after(5, pid, "taken")
    assert kept is not None
    assert taken is not None
    assert taken.cancel()
    assert not taken.cancel()
    await clock.advance(5)
    assert await sv.call(pid, "heard") == ["kept"]
    assert not kept.cancel()
    await sv.stop(pid)


async def test_timers_go_with_their_server(clock: sv.VirtualClock) -> None:
    pid = await started()
    timer = sv.send_after(5, pid, "late")
    await sv.stop(pid)
    assert clock.pending == 0
    assert timer is not None
    assert not timer.cancel()


async def test_a_server_without_the_callback_asked_for_crashes_and_says_which(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pid = await started(sv.Server)
    with pytest.raises(sv.ServerDown, match="Server does not answer calls: 'x'"):
        await sv.call(pid, "x")
    pid = await started(sv.Server)
    sv.send(pid, "dropped")
    sv.cast(pid, "x")
    assert "does not take casts" in str(await sv.wait_ended(pid))


async def test_a_busy_server_gives_way_to_others() -> None:
    class Busy(sv.Server):
        async def handle_info(self, message: Any) -> None:
            until = time.perf_counter() + 0.0005
            while time.perf_counter() < until:
                pass

    pid = await started(Busy)
    for n in range(100):
        sv.send(pid, n)
    turns = 0
    while pid.mailbox_length:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 2
    await sv.stop(pid)


async def test_a_callback_that_swallows_its_shutdown_ends_all_the_same() -> None:
    class Deaf(sv.Server):
        async def handle_info(self, message: Any) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                pass

    pid = await started(Deaf)
    sv.send(pid, "wait")
    await sv.settle()
    sv.send_exit(pid, "shutdown")
    assert await sv.wait_ended(pid) == "shutdown"


@pytest.mark.skipif(not hasattr(asyncio.Task, "cancelling"), reason="before 3.11 a task cannot tell")
async def test_a_cancelled_future_in_a_callback_is_a_crash_and_not_a_kill() -> None:
    class Waits(Careful):
        async def handle_info(self, message: Any) -> None:
            await message

    future = asyncio.get_running_loop().create_future()
    future.cancel()
    pid = await started(Waits)
    sv.send(pid, future)
    assert "CancelledError" in str(await sv.wait_ended(pid))
    assert len(Careful.ends) == 1


async def test_start_link_wants_a_server_class() -> None:
    with pytest.raises(TypeError, match="Server class first"):
        await sv.Server.start_link("counter")  # type: ignore[arg-type]
