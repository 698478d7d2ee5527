"""Supervisors, beyond what the comparison with OTP covers: async callables, delays, errors, reports."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from collector import supervision as sv
from collector.supervision import supervising


class Worker(sv.Server):
    async def init(self, *args: Any) -> None:
        self.args = args

    async def handle_call(self, request: Any, from_: sv.From) -> Any:
        if request == "crash":
            raise ValueError("boom")
        return self.args


class Tree(sv.Supervisor):
    def init(self, flags: sv.SupervisorFlags, *specs: sv.ChildSpec) -> Any:
        return flags, specs


async def forever(*_: Any) -> None:
    await asyncio.get_running_loop().create_future()


async def tree(*specs: sv.ChildSpec, name: str = "sup", **flags: Any) -> sv.Pid:
    pid = await sv.Supervisor.start_link(Tree, sv.SupervisorFlags(**flags), *specs, name=name)
    assert pid is not None
    return pid


async def children(ref: sv.Pid | str = "sup") -> dict[str | None, Any]:
    return {info.id: info.child for info in await sv.which_children(ref)}


async def kill(name: str) -> None:
    sv.send_exit(name, "kill")
    await sv.settle()


# Async callables as children


async def test_a_callable_that_returns_has_ended_normally() -> None:
    async def once() -> None: ...

    await tree(sv.ChildSpec("a", once, restart="transient"), sv.ChildSpec("b", forever))
    await sv.settle()
    assert (await children())["a"] is None
    await sv.stop("sup")


async def test_a_callable_that_raises_is_restarted() -> None:
    runs = 0

    async def flaky() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise OSError("first time")
        await forever()

    await tree(sv.ChildSpec("a", flaky))
    await sv.settle()
    assert runs == 2
    await sv.stop("sup")


async def test_a_callable_is_cancelled_at_shutdown_and_cleans_up_in_its_time(clock: sv.VirtualClock) -> None:
    cleaned: list[str] = []

    def cleaning(name: str, needs_s: float) -> Any:
        async def work() -> None:
            try:
                await forever()
            finally:
                await clock.sleep(needs_s)
                cleaned.append(name)

        return work

    await tree(
        sv.ChildSpec("quick", cleaning("quick", 1), shutdown=2),
        sv.ChildSpec("slow", cleaning("slow", 3), shutdown=2),
    )
    await sv.settle()
    await clock.drive(sv.stop("sup"))
    assert cleaned == ["quick"]


async def test_a_callable_that_is_not_async_is_a_crash_of_the_child() -> None:
    pid = await tree(sv.ChildSpec("a", lambda: 3), intensity=0)
    await sv.settle()
    assert pid.exit_reason == "shutdown"


async def test_kwargs_and_dynamic_arguments_reach_the_child() -> None:
    class Options(sv.Server):
        async def init(self, *args: Any, **kwargs: Any) -> None:
            self.seen = (args, kwargs)

        async def handle_call(self, request: Any, from_: sv.From) -> Any:
            return self.seen

    await tree(
        sv.ChildSpec("o", Options, (1,), {"a": 1, "b": 1}),
        strategy="simple_one_for_one",
    )
    pid = await sv.start_child("sup", 2, b=2)
    assert pid is not None
    assert await sv.call(pid, "seen") == ((1, 2), {"a": 1, "b": 2})
    await sv.stop("sup")


async def test_init_may_be_async_and_return_any_iterable() -> None:
    class Slow(sv.Supervisor):
        async def init(self) -> Any:
            await asyncio.sleep(0)
            return sv.SupervisorFlags(), (sv.ChildSpec(name, Worker) for name in "ab")

    await sv.Supervisor.start_link(Slow, name="sup")
    assert list(await children()) == ["b", "a"]
    await sv.stop("sup")


@pytest.mark.parametrize("plan", [None, 3, ("one_for_one", []), (sv.SupervisorFlags(), 3), (1, 2, 3)])
async def test_an_init_that_returns_nonsense_fails_and_says_what_is_wanted(plan: Any) -> None:
    class Odd(sv.Supervisor):
        def init(self) -> Any:
            return plan

    with pytest.raises(sv.StartError, match=r"SupervisorFlags, \[ChildSpec"):
        await sv.Supervisor.start_link(Odd)


async def test_a_supervisor_without_init_says_so() -> None:
    with pytest.raises(sv.StartError, match="needs init"):
        await sv.Supervisor.start_link(sv.Supervisor)
    with pytest.raises(TypeError, match="Supervisor class first"):
        await sv.Supervisor.start_link(Worker)  # type: ignore[arg-type]


# Errors


async def test_errors_say_what_to_do_and_carry_otps_reason() -> None:
    await tree(sv.ChildSpec("a", Worker))
    with pytest.raises(
        sv.SupervisorError, match=r"terminate_child\('b'\): there is no such child"
    ) as refused:
        await sv.terminate_child("sup", "b")
    assert refused.value.reason == "not_found"
    with pytest.raises(
        sv.SupervisorError, match=r"delete_child\('a'\): the child is running; terminate_child"
    ):
        await sv.delete_child("sup", "a")
    with pytest.raises(sv.SupervisorError, match="start_child\\('a'\\)") as refused:
        await sv.start_child("sup", sv.ChildSpec("a", Worker))
    assert refused.value.reason == ("already_started", (await children())["a"])
    with pytest.raises(sv.SupervisorError) as refused:
        await sv.start_child("sup", "not a spec")
    assert refused.value.reason[0] == "invalid_child_spec"
    await sv.stop("sup")
    with pytest.raises(sv.ServerDown, match="no such process"):
        await sv.which_children("sup")


async def test_get_childspec_gives_the_spec() -> None:
    spec = sv.ChildSpec("a", Worker, (1,))
    await tree(spec)
    assert await sv.get_childspec("sup", "a") == spec
    with pytest.raises(sv.SupervisorError):
        await sv.get_childspec("sup", "b")
    await sv.stop("sup")


async def test_a_supervisor_drops_what_it_does_not_understand(caplog: pytest.LogCaptureFixture) -> None:
    await tree(sv.ChildSpec("a", Worker))
    sv.send("sup", "what?")
    sv.cast("sup", "what?")
    assert isinstance(await sv.call("sup", "what?"), supervising.Refused)
    assert len(await children()) == 1
    assert caplog.text.count("unexpected_message") == 3
    await sv.stop("sup")


async def test_the_reports_of_a_crash_name_supervisor_child_and_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    await tree(sv.ChildSpec("a", Worker, name="worker_a"), intensity=0)
    with pytest.raises(sv.ServerDown):
        await sv.call("worker_a", "crash")
    await sv.settle()
    reports = [record.report for record in caplog.records]  # type: ignore[attr-defined]
    assert [report["event"] for report in reports] == ["started", "crash", "child_terminated", "shutdown"]
    assert [report.get("supervisor", "sup") for report in reports] == ["sup"] * 4
    assert reports[2]["reason"] == "ValueError: boom"
    assert reports[3]["reason"] == "reached_max_restart_intensity"
    assert all("\n" not in record.getMessage() for record in caplog.records)


async def test_the_failing_child_is_not_reported_as_one_that_did_not_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await tree(sv.ChildSpec("a", Worker, name="a"), sv.ChildSpec("b", Worker), strategy="one_for_all")
    await kill("a")
    assert "child_terminated supervisor=sup child=a" in caplog.text
    assert "shutdown_error" not in caplog.text
    await sv.stop("sup")


async def test_the_name_of_a_killed_supervisors_child_is_waited_for() -> None:
    class Lingers(sv.Server):
        trap_exit = True

        async def terminate(self, reason: sv.Reason) -> None:
            for _ in range(20):
                await asyncio.sleep(0)

    below = sv.ChildSpec(
        "below", Tree, (sv.SupervisorFlags(), sv.ChildSpec("a", Lingers, name="a")), name="below"
    )
    await tree(below)
    first = sv.whereis("a")
    await kill("below")
    assert sv.whereis("a") not in (None, first)
    assert sv.whereis("below") is not None
    await sv.stop("sup")


# Delayed restart


def delayed(delay: sv.DelayPolicy, **options: Any) -> sv.ChildSpec:
    return sv.ChildSpec("a", Worker, name="a", delay=delay, **options)


async def state() -> str:
    instance: Any = sv.whereis("sup").instance()  # type: ignore[union-attr]
    return str(instance.diag_children()[0].state)


async def test_a_child_with_a_delay_waits_instead_of_taking_its_supervisor_down(
    clock: sv.VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pid = await tree(delayed(sv.FixedDelay(10)), sv.ChildSpec("b", Worker), intensity=1, period=5)
    b = (await children())["b"]
    await kill("a")
    assert sv.whereis("a") is not None, "the first time it is restarted at once"
    await kill("a")
    assert (sv.whereis("a"), pid.alive, await state()) == (None, True, "delayed")
    assert (await children()) == {"a": "restarting", "b": b}
    assert "delayed_restart supervisor=sup child=a" in caplog.text
    await clock.advance(9.9)
    assert sv.whereis("a") is None
    await clock.advance(0.2)
    assert (sv.whereis("a") is not None, await state()) == (True, "running")
    await sv.stop("sup")


async def test_a_delay_over_before_the_window_has_room_is_waited_again(clock: sv.VirtualClock) -> None:
    await tree(delayed(sv.FixedDelay(2)), intensity=1, period=10)
    await kill("a")
    await kill("a")
    await clock.advance(2)
    assert await state() == "delayed"
    await clock.advance(10)
    assert await state() == "running"
    await sv.stop("sup")


async def test_with_intensity_0_the_delay_alone_decides(clock: sv.VirtualClock) -> None:
    pid = await tree(delayed(sv.FixedDelay(2)), intensity=0)
    for _ in range(3):
        await kill("a")
        assert sv.whereis("a") is None
        await clock.advance(2)
        assert sv.whereis("a") is not None
    assert pid.alive
    await sv.stop("sup")


async def test_delays_grow_while_it_keeps_crashing_and_start_over_once_it_stays_up(
    clock: sv.VirtualClock,
) -> None:
    await tree(delayed(sv.ExponentialDelay(first=1, factor=2, max=8)), intensity=0, period=5)

    async def waited() -> float:
        await kill("a")
        before = clock.now()
        while sv.whereis("a") is None:
            await clock.advance(0.5)
        return clock.now() - before

    assert [await waited() for _ in range(5)] == [1, 2, 4, 8, 8]
    await clock.advance(7.5)
    assert await waited() == 8
    await clock.advance(8.5)
    assert await waited() == 1
    await sv.stop("sup")


async def test_a_start_that_keeps_failing_is_delayed_too(clock: sv.VirtualClock) -> None:
    starts: list[float] = []

    class Fails(sv.Server):
        async def init(self) -> Any:
            starts.append(clock.now())
            return sv.Stop("port_in_use") if 1 < len(starts) < 6 else None

    pid = await tree(sv.ChildSpec("a", Fails, name="a", delay=sv.FixedDelay(10)), intensity=2, period=5)
    await kill("a")
    assert starts == [0, 0, 0]
    await clock.advance(30)
    assert starts == [0, 0, 0, 10, 10, 20]
    assert pid.alive
    assert sv.whereis("a") is not None
    await sv.stop("sup")


async def test_a_delayed_child_can_be_terminated_restarted_and_deleted_by_hand(
    clock: sv.VirtualClock,
) -> None:
    await tree(delayed(sv.FixedDelay(10)), intensity=0)
    await kill("a")
    with pytest.raises(sv.SupervisorError) as refused:
        await sv.restart_child("sup", "a")
    assert refused.value.reason == "restarting"
    await sv.terminate_child("sup", "a")
    await clock.advance(20)
    assert await state() == "terminated"
    assert await sv.restart_child("sup", "a") is sv.whereis("a")
    await kill("a")
    await sv.terminate_child("sup", "a")
    await sv.delete_child("sup", "a")
    await clock.advance(20)
    assert await children() == {}
    await sv.stop("sup")


async def test_a_delay_that_was_ended_by_hand_does_not_shorten_the_next(clock: sv.VirtualClock) -> None:
    await tree(delayed(sv.FixedDelay(10)), intensity=0)
    await kill("a")
    await sv.terminate_child("sup", "a")
    await sv.restart_child("sup", "a")
    await clock.advance(9)
    await kill("a")
    await clock.advance(9)
    assert await state() == "delayed"
    await clock.advance(1)
    assert await state() == "running"
    await sv.stop("sup")


async def test_a_delayed_child_revived_by_a_sibling_does_not_start_twice(clock: sv.VirtualClock) -> None:
    await tree(
        delayed(sv.FixedDelay(10)), sv.ChildSpec("b", Worker, name="b"), strategy="one_for_all", intensity=1
    )
    await kill("a")
    await kill("a")
    assert await state() == "delayed"
    await clock.advance(7)
    await kill("b")
    revived = sv.whereis("a")
    assert revived is not None
    await clock.advance(20)
    assert sv.whereis("a") is revived
    await sv.stop("sup")


async def test_a_supervisor_stops_at_once_while_a_child_is_delayed(clock: sv.VirtualClock) -> None:
    await tree(delayed(sv.FixedDelay(1000)), intensity=0)
    await kill("a")
    await sv.stop("sup")
    assert clock.pending == 0


async def test_dynamic_children_can_be_delayed(clock: sv.VirtualClock) -> None:
    await tree(sv.ChildSpec("d", Worker, delay=sv.FixedDelay(3)), strategy="simple_one_for_one", intensity=0)
    pid = await sv.start_child("sup", 1)
    other = await sv.start_child("sup", 2)
    assert pid is not None
    sv.send_exit(pid, "kill")
    await sv.settle()
    assert [info.child for info in await sv.which_children("sup")] == ["restarting", other]
    await clock.advance(3)
    (again, still) = [info.child for info in await sv.which_children("sup")]
    assert still is other
    assert isinstance(again, sv.Pid)
    assert await sv.call(again, "args") == (1,)
    await sv.stop("sup")


# Many children


async def test_many_children_come_and_go() -> None:
    await tree(sv.ChildSpec("d", forever, restart="temporary"), strategy="simple_one_for_one")
    pids = [await sv.start_child("sup", n) for n in range(2000)]
    assert (await sv.count_children("sup")).active == 2000
    for pid in pids[:1000]:
        assert pid is not None
        sv.send_exit(pid, "kill")
    await sv.settle()
    assert (await sv.count_children("sup")).active == 1000
    await sv.stop("sup")
    assert not any(pid.alive for pid in pids if pid is not None)
