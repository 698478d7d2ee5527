"""Applications, beyond what the comparison with OTP covers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from collector import supervision as sv
from collector.supervision import application


class Worker(sv.Server):
    async def init(self, *args: Any) -> None: ...


class Top(sv.Supervisor):
    def init(self, name: str) -> Any:
        return sv.SupervisorFlags(intensity=0), [sv.ChildSpec("w", Worker, name=f"{name}_w")]


class App(sv.Application):
    async def start(self, start_type: str, name: str) -> Any:
        return await sv.Supervisor.start_link(Top, name, name=f"{name}_sup")


def spec(name: str, *needs: str, module: type[sv.Application] = App) -> sv.ApplicationSpec:
    return sv.ApplicationSpec(name, module, (name,), needs)


async def test_nothing_runs_before_the_first_application_and_after_shut_down() -> None:
    await application.shut_down()
    assert await application.wait_down() == "noproc"
    await application.start(spec("one"))
    assert await application.which_applications() == ["one"]
    await application.shut_down()
    assert sv.registered() == []


async def test_several_are_started_in_order_and_shut_down_the_latest_first() -> None:
    stopped: list[str] = []

    class Tells(App):
        async def start(self, start_type: str, name: str) -> Any:
            return await super().start(start_type, name), name

        async def stop(self, state: Any) -> None:
            stopped.append(state)

    specs = [spec("two", "one", module=Tells), spec("one", module=Tells), spec("three", "two", module=Tells)]
    assert await application.ensure_all_started(specs) == ["one", "two", "three"]
    await application.shut_down()
    assert stopped == ["three", "two", "one"]


async def test_the_end_of_a_permanent_application_is_what_wait_down_returns() -> None:
    await application.start(spec("one"), "permanent")
    waiting = asyncio.ensure_future(application.wait_down())
    await sv.settle()
    sv.send_exit("one_w", "kill")
    assert await waiting == ("application_terminated", "one", "shutdown")


async def test_a_permanent_application_that_does_not_start_ends_everything_but_says_why_first() -> None:
    class Bad(sv.Application):
        async def start(self, start_type: str, name: str) -> Any:
            raise OSError("port in use")

    await application.start(spec("one"))
    down = asyncio.ensure_future(application.wait_down())
    with pytest.raises(sv.ApplicationError, match="OSError: port in use") as refused:
        await application.start(spec("bad", module=Bad), "permanent")
    assert refused.value.reason[0] == "bad_return"
    reason = await down
    assert reason[:2] == ("application_start_failure", "bad")
    assert sv.registered() == []


async def test_two_who_start_the_same_application_get_the_same_answer() -> None:
    gate = asyncio.Event()

    class Slow(App):
        async def start(self, start_type: str, name: str) -> Any:
            await gate.wait()
            return await super().start(start_type, name)

    slow = spec("slow", module=Slow)
    first = asyncio.ensure_future(application.start(slow))
    second = asyncio.ensure_future(application.start(slow))
    other = asyncio.ensure_future(application.start(spec("other")))
    await other
    assert not first.done()
    gate.set()
    await asyncio.gather(first, second)
    assert await application.which_applications() == ["slow", "other"]
    await application.shut_down()


async def test_a_spec_can_change_while_it_does_not_run() -> None:
    await application.load(spec("one"))
    await application.load(sv.ApplicationSpec("one", App, ("another",)))
    await application.start("one")
    assert sv.whereis("another_w") is not None
    with pytest.raises(sv.ApplicationError) as refused:
        await application.load(spec("one"))
    assert refused.value.reason == ("already_loaded", "one")
    with pytest.raises(sv.ApplicationError) as refused:
        await application.unload("one")
    assert refused.value.reason == ("running", "one")
    await application.stop("one")
    await application.unload("one")
    with pytest.raises(sv.ApplicationError) as refused:
        await application.start("one")
    assert refused.value.reason == ("not_loaded", "one")
    await application.shut_down()


async def test_processes_an_application_left_outside_its_tree_end_with_it() -> None:
    strays: list[sv.Pid] = []

    async def stray() -> None:
        await asyncio.get_running_loop().create_future()

    class Untidy(App):
        async def start(self, start_type: str, name: str) -> Any:
            strays.append(sv.spawn(stray))
            return await super().start(start_type, name)

    await application.start(spec("one", module=Untidy))
    assert strays[0].alive
    await application.stop("one")
    assert strays[0].exit_reason == "killed"
    await application.shut_down()


async def test_callbacks_that_fail_do_not_keep_an_application_from_stopping(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bad(App):
        async def prep_stop(self, state: Any) -> Any:
            raise ValueError("prep")

        async def stop(self, state: Any) -> None:
            raise ValueError("after")

    await application.start(spec("one", module=Bad))
    await application.stop("one")
    assert [record.report["reason"] for record in caplog.records] == ["ValueError: prep", "ValueError: after"]  # type: ignore[attr-defined]
    assert sv.whereis("one_w") is None
    await application.shut_down()


async def test_shut_down_says_when_it_takes_too_long(clock: sv.VirtualClock) -> None:
    class Slow(App):
        async def stop(self, state: Any) -> None:
            await clock.sleep(10)

    await application.start(spec("one", module=Slow))
    with pytest.raises(asyncio.TimeoutError, match="still stopping after 3 s"):
        await clock.drive(application.shut_down(timeout=3))
    await clock.drive(application.shut_down(timeout=30))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "application name is ''"),
        ({"name": "a", "module": Worker}, "it must be an Application class"),
        ({"name": "a", "applications": "base"}, "must be a sequence, not a string"),
    ],
)
def test_an_application_spec_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sv.ApplicationSpec(**options)


async def test_an_application_lives_in_its_own_named_task_with_its_ancestors() -> None:
    await application.start(spec("one"))
    worker = sv.whereis("one_w")
    assert worker is not None
    assert worker.ancestors == ("one_sup", "application_master:one", "application_controller")
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert {"one_w", "one_sup", "application_master:one", "application_controller"} <= names
    await application.shut_down()


async def test_reports_tell_of_start_and_stop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "collector.supervision.application")
    await application.start(spec("one"))
    await application.stop("one")
    await application.shut_down()
    lines = [record.getMessage() for record in caplog.records if record.name.endswith(".application")]
    assert lines == [
        "application_started application=one type=temporary",
        "application_exited application=one type=temporary reason=stopped",
    ]
