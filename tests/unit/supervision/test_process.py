"""Processes, links, monitors, exit signals and names."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import pytest

from collector import supervision as sv
from collector.supervision.pid import KILL_RETRY_S, KILL_TRIES, running
from collector.supervision.process import processes


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def crash() -> None:
    raise ValueError("boom")


async def test_a_process_is_a_task_of_its_own_named_after_its_name_or_id() -> None:
    named, known, plain = sv.spawn(forever, name="n", id="i"), sv.spawn(forever, id="i"), sv.spawn(forever)
    names = [pid.task.get_name() for pid in (named, known, plain) if pid.task is not None]
    assert names == ["n", "i", f"{__name__}.forever"]
    for pid in (named, known, plain):
        sv.send_exit(pid, "kill")
        assert await sv.wait_ended(pid) == "killed"
        assert pid.task is None


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (None, "normal"),
        (sv.Exit("shutdown"), "shutdown"),
        (sv.Exit(("shutdown", 7)), ("shutdown", 7)),
        (sv.Exit("other"), "other"),
    ],
)
async def test_a_process_ends_with_the_reason_it_gives(raised: Exception | None, reason: sv.Reason) -> None:
    async def work() -> None:
        if raised is not None:
            raise raised

    assert await sv.wait_ended(sv.spawn(work)) == reason


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3)])
async def test_an_exception_nobody_catches_is_a_crash_and_reported_in_one_line(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        raise error

    reason = await sv.wait_ended(sv.spawn(work, id="worker"))
    assert isinstance(reason, sv.Crash)
    assert reason.error == type(error).__name__
    (record,) = caplog.records
    assert record.name == "collector.supervision.crash"
    assert "\n" not in record.getMessage()
    assert record.report["process"] == "worker"  # type: ignore[attr-defined]
    assert "test_process.py" in record.report["at"]  # type: ignore[attr-defined]


async def test_an_exit_signal_ends_who_does_not_trap_exits_and_normal_is_ignored() -> None:
    pid = sv.spawn(forever)
    sv.send_exit(pid, "normal")
    await sv.settle()
    assert pid.alive
    sv.send_exit(pid, ("shutdown", "told"))
    assert await sv.wait_ended(pid) == ("shutdown", "told")


async def test_who_catches_its_cancellation_to_clean_up_still_ends_with_the_signals_reason() -> None:
    async def tidy() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            pass

    pid = sv.spawn(tidy)
    await sv.settle()
    sv.send_exit(pid, "shutdown")
    assert await sv.wait_ended(pid) == "shutdown"


async def test_a_second_signal_does_not_disturb_the_cleaning_up_after_the_first_but_kill_does() -> None:
    go_on, cleaned = asyncio.Event(), []

    async def tidy() -> None:
        try:
            await forever()
        finally:
            await go_on.wait()
            cleaned.append("yes")

    first, second = sv.spawn(tidy), sv.spawn(tidy)
    await sv.settle()
    for pid in (first, second):
        sv.send_exit(pid, "shutdown")
    await sv.settle()
    sv.send_exit(first, "a_friend_died")
    sv.send_exit(second, "kill")
    await sv.settle()
    assert (first.alive, second.exit_reason, cleaned) == (True, "killed", [])
    go_on.set()
    assert await sv.wait_ended(first) == "shutdown"
    assert cleaned == ["yes"]


async def test_who_traps_exits_gets_them_as_messages_except_kill() -> None:
    seen: list[Any] = []

    async def trap() -> None:
        me = sv.current()
        assert me is not None
        me.trap_exit = True
        while True:
            seen.append(await sv.receive())

    pid = sv.spawn(trap)
    await sv.settle()
    sv.send_exit(pid, "shutdown")
    await sv.settle()
    assert [message.reason for message in seen] == ["shutdown"]
    sv.send_exit(pid, "kill")
    assert await sv.wait_ended(pid) == "killed"


async def test_a_process_killed_before_its_first_step_ends_too() -> None:
    pid = sv.spawn(forever)
    sv.send_exit(pid, "kill")
    assert await sv.wait_ended(pid) == "killed"


async def test_cancelling_the_task_from_outside_is_a_kill() -> None:
    pid = sv.spawn(forever)
    await sv.settle()
    assert pid.task is not None
    pid.task.cancel()
    assert await sv.wait_ended(pid) == "killed"


async def test_one_that_swallows_its_cancellation_is_cancelled_again(clock: sv.VirtualClock) -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await forever()
            except asyncio.CancelledError:
                swallowed += 1
        await forever()

    pid = sv.spawn(stubborn)
    await sv.settle()
    sv.send_exit(pid, "kill")
    await sv.settle()
    assert (swallowed, pid.alive) == (1, True)
    await clock.advance(3 * KILL_RETRY_S)
    assert (swallowed, pid.exit_reason) == (2, "killed")


async def test_one_that_never_gives_in_is_given_up_and_reported(
    clock: sv.VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def unkillable() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    pid = sv.spawn(unkillable, id="zombie")
    await sv.settle()
    task = pid.task
    sv.send_exit(pid, "kill")
    await clock.advance((KILL_TRIES + 1) * KILL_RETRY_S)
    assert pid.exit_reason == "killed"
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert "unkillable process=zombie" in caplog.text
    release.set()
    assert task is not None
    await task


async def test_linked_processes_fall_together_unless_one_ends_normally() -> None:
    async def pair(ends: Any) -> None:
        inner.append(sv.spawn_link(ends))
        await forever()

    async def normal() -> None: ...

    for ends, outer_reason in ((normal, None), (crash, "ValueError")):
        inner: list[sv.Pid] = []
        outer = sv.spawn(pair, ends)
        await sv.settle()
        if outer_reason is None:
            assert outer.alive
            sv.send_exit(outer, "kill")
        assert str(await sv.wait_ended(outer)).startswith(outer_reason or "killed")


async def test_the_end_of_the_outer_takes_the_inner_along_with_its_reason() -> None:
    inner: list[sv.Pid] = []

    async def outer() -> None:
        inner.append(sv.spawn_link(forever))
        await sv.receive()
        raise sv.Exit("over")

    sv.send(sv.spawn(outer), "go")
    await sv.settle()
    assert inner[0].exit_reason == "over"


async def test_unlink_parts_them() -> None:
    inner: list[sv.Pid] = []

    async def outer() -> None:
        inner.append(sv.spawn_link(forever))
        sv.unlink(inner[0])
        raise sv.Exit("over")

    await sv.wait_ended(sv.spawn(outer))
    await sv.settle()
    assert inner[0].alive
    sv.send_exit(inner[0], "kill")
    await sv.wait_ended(inner[0])


async def test_linking_to_a_process_that_has_ended_is_noproc() -> None:
    gone = sv.spawn(crash)
    await sv.wait_ended(gone)

    async def late() -> None:
        sv.link(gone)
        await forever()

    assert await sv.wait_ended(sv.spawn(late)) == "noproc"


async def test_a_monitor_tells_once_and_can_be_taken_back() -> None:
    heard: list[Any] = []

    async def watch() -> None:
        first, second, absent = sv.monitor(target), sv.monitor(target), sv.monitor("nobody")
        heard.append((await sv.receive(), absent))
        sv.demonitor(second)
        heard.append((await sv.receive(), first))
        await forever()

    target = sv.spawn(forever)
    watcher = sv.spawn(watch)
    await sv.settle()
    sv.send_exit(target, "gone")
    await sv.settle()
    ((absent, absent_ref), (down, ref)) = heard
    assert (absent.reason, absent.ref is absent_ref) == ("noproc", True)
    assert (down.reason, down.ref is ref, down.pid is target) == ("gone", True, True)
    assert watcher.mailbox_length == 0
    sv.send_exit(watcher, "kill")
    await sv.wait_ended(watcher)


async def test_a_process_starts_in_an_empty_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("the caller's")
    seen: list[str] = []

    async def look() -> None:
        seen.append(variable.get())

    await sv.wait_ended(sv.spawn(look))
    assert seen == ["none"]


async def test_ancestors_are_the_labels_above_nearest_first() -> None:
    deepest: list[sv.Pid] = []

    async def middle() -> None:
        deepest.append(sv.spawn_link(forever, id="leaf"))
        await forever()

    async def top() -> None:
        sv.spawn_link(middle, name="middle")
        await forever()

    pid = sv.spawn(top, name="top")
    await sv.settle()
    assert deepest[0].ancestors == ("middle", "top")
    sv.send_exit(pid, "shutdown")
    await sv.settle()


async def test_a_name_belongs_to_one_living_process() -> None:
    pid = sv.spawn(forever, name="taken")
    with pytest.raises(sv.StartError) as refused:
        sv.spawn(forever, name="taken")
    assert refused.value.reason == ("already_started", pid)
    other = sv.spawn(forever)
    with pytest.raises(ValueError, match="'taken' is taken"):
        sv.register("taken", other)
    with pytest.raises(ValueError, match="already has the name"):
        sv.register("second", pid)
    sv.unregister("taken")
    sv.register("taken", other)
    assert sv.whereis("taken") is other
    for each in (pid, other):
        sv.send_exit(each, "kill")
        await sv.wait_ended(each)
    assert sv.whereis("taken") is None
    assert sv.registered() == []
    with pytest.raises(ValueError, match="has ended"):
        sv.register("late", pid)
    with pytest.raises(ValueError, match="nobody"):
        sv.unregister("taken")


async def test_a_message_to_the_dead_is_dropped_and_to_an_unknown_name_an_error() -> None:
    pid = sv.spawn(crash)
    await sv.wait_ended(pid)
    sv.send(pid, "hello")
    assert sv.send_after(1, pid, "hello") is None
    with pytest.raises(sv.ServerDown, match="no such process"):
        sv.send("nobody", "hello")


async def test_receive_gives_up_after_its_timeout(clock: sv.VirtualClock) -> None:
    async def wait() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await sv.receive(5)
        raise sv.Exit("gave_up")

    pid = sv.spawn(wait)
    await clock.advance(4.9)
    assert pid.alive
    await clock.advance(0.2)
    assert pid.exit_reason == "gave_up"


async def test_wait_ended_gives_up_after_its_timeout(clock: sv.VirtualClock) -> None:
    pid = sv.spawn(forever)
    with pytest.raises(asyncio.TimeoutError):
        await clock.drive(sv.wait_ended(pid, 5))
    sv.send_exit(pid, "kill")
    assert await sv.wait_ended(pid, 5) == "killed"
    assert await sv.wait_ended("nobody") == "noproc"


async def test_what_only_a_process_can_do_says_so_elsewhere() -> None:
    for forbidden in (lambda: sv.link(None), lambda: sv.monitor("x")):  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="inside a process only"):
            forbidden()
    with pytest.raises(RuntimeError, match="inside a process only"):
        await sv.receive()


def test_the_end_of_the_loop_takes_all_processes_along() -> None:
    cleaned: list[str] = []

    async def careful() -> None:
        try:
            await forever()
        finally:
            cleaned.append("yes")

    async def main() -> None:
        sv.spawn(careful, name="careful")
        await sv.settle()

    asyncio.run(main())
    assert cleaned == ["yes"]
    assert processes() == []
    assert sv.whereis("careful") is None


def test_processes_left_by_a_loop_that_was_just_closed_do_not_count_and_are_forgotten() -> None:
    async def main() -> None:
        sv.spawn(forever, name="left")
        await sv.settle()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    (left,) = processes()
    task = left.task
    loop.close()
    assert processes() == []
    assert sv.whereis("left") is None
    asyncio.run(main())  # the name is free again
    assert left not in running.values()
    assert task is not None
    task._log_destroy_pending = False  # type: ignore[attr-defined]
