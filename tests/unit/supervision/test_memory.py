"""Who holds what: a process that has ended is free at once, by reference counts alone, whatever others keep.

diag attributes memory by who refers to it; were a Pid, a supervisor's table, the registry or a report to hold
a server, its mailbox or its state, the figures would be wrong, and ended clients would linger.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from collector import supervision as sv
from collector.supervision import application


class Payload:
    """Stands for state, buffers, messages."""


class Holder(sv.Server):
    """Holds a payload in its state and one in a timer."""

    trap_exit = False

    async def init(self, watch: list[weakref.ref[Any]]) -> None:
        self.payload = Payload()
        timed = Payload()
        mailbox = self.pid.mailbox()
        watch[:] = [weakref.ref(thing) for thing in (self, mailbox, self.payload, timed)]
        self.send_after(1000, timed)

    async def handle_call(self, request: Any, from_: sv.From) -> Any:
        local = Payload()
        self.watch_local = weakref.ref(local)
        if request == "crash":
            raise ValueError(local)
        if request == "keeps its exception":
            try:
                raise KeyError(local)
            except KeyError as error:
                self.error = error
                raise
        if request == "cause":
            try:
                raise KeyError(local)
            except KeyError as error:
                raise ValueError(local) from error
        if request == "stop":
            return sv.Stop("normal")
        if request == "hang":
            await asyncio.get_running_loop().create_future()
        return None


class Careful(Holder):
    trap_exit = True

    async def terminate(self, reason: sv.Reason) -> None:
        await asyncio.sleep(0)


class Top(sv.Supervisor):
    def init(self, cls: type[sv.Server], watch: list[weakref.ref[Any]], **options: Any) -> Any:
        self.table = Payload()
        watch_top.append(weakref.ref(self))
        watch_top.append(weakref.ref(self.table))
        return sv.SupervisorFlags(intensity=3), [sv.ChildSpec("h", cls, (watch,), name="h", **options)]


watch_top: list[weakref.ref[Any]] = []


@pytest.fixture(autouse=True)
def only_reference_counts(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No collector, and a handler that keeps every record, as those of log shippers do."""
    caplog.set_level(logging.DEBUG)
    watch_top.clear()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def tree(cls: type[sv.Server], watch: list[weakref.ref[Any]], **options: Any) -> sv.Pid:
    pid = await sv.Supervisor.start_link(Top, cls, watch, name="top", **options)
    assert pid is not None
    assert [ref() is not None for ref in watch] == [True] * len(watch)
    return pid


def dead(refs: list[weakref.ref[Any]]) -> bool:
    return [ref() for ref in refs] == [None] * len(refs)


@pytest.mark.parametrize("cls", [Holder, Careful])
async def test_after_terminate_child_server_mailbox_state_and_timers_are_gone(cls: type[sv.Server]) -> None:
    watch: list[weakref.ref[Any]] = []
    await tree(cls, watch)
    pid = sv.whereis("h")
    await sv.terminate_child("top", "h")
    assert dead(watch), "the moment terminate_child returns"
    assert pid is not None
    assert pid.exit_reason == "shutdown"
    await sv.stop("top")
    assert dead(watch_top), "and so is the supervisor with what it kept"


@pytest.mark.parametrize("cls", [Holder, Careful])
@pytest.mark.parametrize("how", ["crash", "keeps its exception", "cause", "stop"])
async def test_after_a_crash_nothing_of_the_dead_server_is_left(cls: type[sv.Server], how: str) -> None:
    watch: list[weakref.ref[Any]] = []
    await tree(cls, watch)
    first = list(watch)
    answer = None
    try:
        answer = await sv.call("h", how)
    except sv.ServerDown:
        pass
    assert answer is None
    await sv.settle()
    assert dead(first)
    assert not dead(watch), "another one runs"
    await sv.stop("top")
    assert dead(watch)


@pytest.mark.parametrize("cls", [Holder, Careful])
async def test_a_killed_server_in_the_middle_of_a_call_leaves_nothing(cls: type[sv.Server]) -> None:
    watch: list[weakref.ref[Any]] = []
    await tree(cls, watch, restart="temporary")
    calling = asyncio.ensure_future(sv.call("h", "hang"))
    await sv.settle()
    instance: Any = sv.whereis("h").instance()  # type: ignore[union-attr]
    local = instance.watch_local
    del instance
    assert local() is not None
    unread = Payload()
    sv.send("h", unread)
    watch.append(weakref.ref(unread))
    del unread
    assert not dead(watch[-1:]), "it waits in the mailbox"
    sv.send_exit("h", "kill")
    with pytest.raises(sv.ServerDown):
        await calling
    del calling
    assert dead([*watch, local])
    await sv.stop("top")


async def test_an_async_callable_leaves_nothing_when_terminated() -> None:
    refs: list[weakref.ref[Any]] = []

    async def work() -> None:
        local = Payload()
        refs.append(weakref.ref(local))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)

    class Sup(sv.Supervisor):
        def init(self) -> Any:
            return sv.SupervisorFlags(), [sv.ChildSpec("w", work)]

    await sv.Supervisor.start_link(Sup, name="sup")
    await sv.settle()
    assert not dead(refs)
    await sv.terminate_child("sup", "w")
    assert dead(refs)
    await sv.stop("sup")


async def test_a_failing_start_leaves_nothing() -> None:
    refs: list[weakref.ref[Any]] = []

    class Bad(sv.Server):
        async def init(self) -> None:
            self.payload = Payload()
            refs.extend([weakref.ref(self), weakref.ref(self.payload)])
            raise OSError("port in use")

    try:
        await sv.Server.start_link(Bad)
    except sv.StartError:
        pass
    assert len(refs) == 2
    assert dead(refs)


@pytest.mark.parametrize("then", [None, sv.Timeout(1000)])
async def test_a_message_is_free_once_it_was_handled_though_the_server_waits(then: Any) -> None:
    class Sink(sv.Server):
        async def handle_call(self, request: Any, from_: sv.From) -> Any:
            return sv.Reply("thanks", then)

        async def handle_info(self, message: Any) -> Any:
            return then

    pid = await sv.Server.start_link(Sink)
    assert pid is not None
    refs: list[weakref.ref[Any]] = []
    for give in (sv.send, sv.send, sv.call, sv.send):
        payload = Payload()
        refs.append(weakref.ref(payload))
        outcome = give(pid, payload)
        if asyncio.iscoroutine(outcome):
            assert await outcome == "thanks"
        del payload, outcome
        await sv.settle()
    assert dead(refs)
    sv.send_after(1000, pid, Payload())
    await sv.stop(pid)


async def test_an_answer_belongs_to_the_caller_alone() -> None:
    refs: list[weakref.ref[Any]] = []

    class Source(sv.Server):
        async def init(self) -> None:
            self.froms: list[sv.From] = []

        async def handle_call(self, request: Any, from_: sv.From) -> Any:
            self.froms.append(from_)  # keeping it keeps neither caller nor answer
            payload = Payload()
            refs.append(weakref.ref(payload))
            return payload

    pid = await sv.Server.start_link(Source)
    assert pid is not None
    answer = await sv.call(pid, "x")
    assert refs[0]() is answer
    del answer
    await asyncio.sleep(0)  # the loop lets go of the future that woke us when this turn is over
    assert dead(refs)
    await sv.stop(pid)


async def test_a_call_that_failed_keeps_no_frame_of_the_caller(clock: sv.VirtualClock) -> None:
    class Mute(sv.Server):
        async def handle_call(self, request: Any, from_: sv.From) -> Any:
            return sv.NOREPLY

    pid = await sv.Server.start_link(Mute)
    assert pid is not None
    refs: list[weakref.ref[Any]] = []

    async def caller() -> None:
        local = Payload()
        refs.append(weakref.ref(local))
        try:
            await sv.call(pid, local, timeout=1)
        except sv.CallTimeout:
            pass

    await clock.drive(caller())
    assert dead(refs)
    asked = asyncio.ensure_future(caller())
    await sv.settle()
    await sv.stop(pid)
    with pytest.raises(sv.ServerDown):
        await asked
    del asked
    await sv.settle()
    assert dead(refs)


async def test_arguments_of_a_temporary_child_are_not_kept() -> None:
    class Takes(sv.Server):
        async def init(self, payload: Payload) -> None: ...

    class Sup(sv.Supervisor):
        def init(self) -> Any:
            return sv.SupervisorFlags("simple_one_for_one"), [sv.ChildSpec("d", Takes, restart="temporary")]

    await sv.Supervisor.start_link(Sup, name="sup")
    payload = Payload()
    ref = weakref.ref(payload)
    pid = await sv.start_child("sup", payload)
    del payload
    await sv.settle()
    assert ref() is None, "used in init, and nobody will need it again"
    assert pid is not None
    await sv.stop("sup")


async def test_a_stopped_application_leaves_nothing_of_its_tree() -> None:
    watch: list[weakref.ref[Any]] = []

    class App(sv.Application):
        async def start(self, start_type: str) -> Any:
            watch_top.append(weakref.ref(self))
            self.kept = Payload()
            watch_top.append(weakref.ref(self.kept))
            return await sv.Supervisor.start_link(Top, Careful, watch, name="top")

    await application.start(sv.ApplicationSpec("app", App))
    assert not dead(watch)
    await application.stop("app")
    assert dead(watch)
    assert dead(watch_top)
    await application.shut_down()


async def test_a_pid_refers_to_nothing_but_handles_once_the_process_has_ended() -> None:
    watch: list[weakref.ref[Any]] = []
    await tree(Careful, watch)
    pid = sv.whereis("h")
    assert pid is not None
    assert pid.task is not None
    await sv.terminate_child("top", "h")
    assert pid.task is None
    reached: set[type] = set()
    todo: list[Any] = [getattr(pid, slot) for slot in pid.__slots__ if slot != "__weakref__"]
    for item in todo:
        reached.add(type(item))
        if isinstance(item, (dict, list, tuple)):
            todo += [*item]
    known = (str, int, bool, dict, tuple, type(None), sv.Pid, weakref.ref, sv.LoopClock)
    strange = {kind for kind in reached if not issubclass(kind, (*known, asyncio.AbstractEventLoop))}
    assert strange == set()
    await sv.stop("top")


async def test_the_loop_holds_no_message_for_a_process() -> None:
    pid = await sv.Server.start_link(sv.Server)
    assert pid is not None
    payload = Payload()
    ref = weakref.ref(payload)
    sv.send_after(1000, pid, payload)
    del payload
    todo: list[Any] = list(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]
    assert todo
    seen: set[int] = set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(
            thing, (asyncio.Task, asyncio.AbstractEventLoop, type, ModuleType)
        ):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, Payload)
        todo += [
            each for each in gc.get_referents(thing) if not (isinstance(each, dict) and "__name__" in each)
        ]
    del thing
    assert ref() is not None
    await sv.stop(pid)
    assert ref() is None
