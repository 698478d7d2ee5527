"""What diag is shown, and what operators do through it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from collector import supervision as sv
from collector.supervision import application
from diag import hooks


class Worker(sv.Server):
    async def init(self, *args: Any) -> None: ...


class Below(sv.Supervisor):
    def init(self) -> Any:
        return sv.SupervisorFlags("rest_for_one", 3, 7), [sv.ChildSpec("inner", Worker)]


class Top(sv.Supervisor):
    def init(self) -> Any:
        return sv.SupervisorFlags(intensity=5), [
            sv.ChildSpec("w", Worker, name="worker"),
            sv.ChildSpec("below", Below, name="below"),
            sv.ChildSpec("t", forever, restart="temporary"),
        ]


class Dynamic(sv.Supervisor):
    def init(self, restart: Any) -> Any:
        return sv.SupervisorFlags("simple_one_for_one"), [sv.ChildSpec("d", Worker, restart=restart)]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class App(sv.Application):
    async def start(self, start_type: str) -> Any:
        return await sv.Supervisor.start_link(Top, name="top")


@pytest.fixture(autouse=True)
def no_roots_before_or_after() -> Iterator[None]:
    assert hooks.roots() == []
    yield
    gc.collect()  # what pytest.raises caught refers to frames
    assert hooks.roots() == []


async def test_a_supervisor_started_by_hand_is_a_root_and_shows_its_tree() -> None:
    await sv.Supervisor.start_link(Top, name="top")
    (root,) = hooks.roots()
    assert isinstance(root, hooks.Subsystem)
    assert (root.diag_kind, root.diag_name) == ("supervisor", "top")
    info = root.diag_info()
    assert (info["strategy"], info["intensity"], info["period"]) == ("one_for_one", 5, 5)
    assert (info["state"], info["restarts"], info["children"]) == ("running", 0, 3)
    assert info["initial_call"] == f"{__name__}.Top.init"
    w, below, t = root.diag_children()
    assert (w.id, w.name, w.state, w.restarts) == ("w", "worker", "running", 0)
    assert w.initial_call == f"{__name__}.Worker.init"
    assert w.task is sv.whereis("worker").task  # type: ignore[union-attr]
    assert (t.name, t.initial_call) == ("t", f"{__name__}.forever")
    assert below.kind == "supervisor"
    assert below.node is not None
    assert below.node.diag_info()["strategy"] == "rest_for_one"
    assert [child.name for child in below.node.diag_children()] == ["inner"]
    task = root.diag_task()
    assert task is not None
    assert task.get_name() == "top"
    await sv.stop("top")


async def test_it_can_be_shown_from_another_thread_while_children_come_and_go() -> None:
    await sv.Supervisor.start_link(Dynamic, "temporary", name="dynamic")
    (root,) = hooks.roots()
    stop, seen, errors = threading.Event(), [], []

    def look() -> None:
        try:
            while not stop.is_set():
                seen.append(len(root.diag_children()))
                root.diag_info()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(300):
        pid = await sv.start_child("dynamic")
        assert pid is not None
        await sv.terminate_child("dynamic", pid)
    stop.set()
    thread.join()
    assert errors == []
    assert set(seen) >= {0}
    await sv.stop("dynamic")


async def test_stop_and_restart_of_a_child_by_an_operator() -> None:
    await sv.Supervisor.start_link(Top, name="top")
    (root,) = hooks.roots()
    first = sv.whereis("worker")
    await root.diag_stop_child("w")
    assert root.diag_children()[0].state == "terminated"
    await root.diag_restart_child("w")
    assert sv.whereis("worker") not in (None, first)
    running = sv.whereis("worker")
    await root.diag_restart_child("w")
    assert sv.whereis("worker") not in (None, running)
    await root.diag_stop_child("below")
    below = root.diag_children()[1]
    assert (below.state, below.kind, below.node) == ("terminated", "supervisor", None)
    with pytest.raises(KeyError, match="top has no child 'nobody'"):
        await root.diag_stop_child("nobody")
    with pytest.raises(KeyError):
        await root.diag_restart_child("nobody")
    with pytest.raises(sv.SupervisorError) as refused:
        await root.diag_restart_child("t")
    assert refused.value.reason == "temporary"
    assert root.diag_children()[2].state == "running", "refused before anything was stopped"
    with pytest.raises(RuntimeError, match="make it part of an application"):
        await root.diag_start()
    await root.diag_stop()
    assert root.diag_info()["state"] == "terminated"
    assert sv.whereis("top") is None


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
async def test_dynamic_children_are_told_apart_and_stopped_and_restarted_by_an_id_that_stays(
    restart: str,
) -> None:
    await sv.Supervisor.start_link(Dynamic, restart, name="dynamic")
    pids = [await sv.start_child("dynamic", n) for n in range(3)]
    (root,) = hooks.roots()
    assert [child.id for child in root.diag_children()] == ["d#1", "d#2", "d#3"]
    await root.diag_stop_child("d#2")
    assert [pid.alive for pid in pids if pid is not None] == [True, False, True]
    assert [child.id for child in root.diag_children()] == ["d#1", "d#3"]
    with pytest.raises(KeyError):
        await root.diag_stop_child("d#2")
    if restart == "permanent":
        await root.diag_restart_child("d#3")
        assert [child.id for child in root.diag_children()] == ["d#1", "d#3"]
        assert pids[2] is not None
        assert not pids[2].alive
    else:
        with pytest.raises(sv.SupervisorError):
            await root.diag_restart_child("d#3")
    await sv.stop("dynamic")


async def test_an_application_is_a_root_that_can_be_stopped_and_started_again() -> None:
    await application.start(sv.ApplicationSpec("app", App), "transient")
    (root,) = hooks.roots()
    assert (root.diag_kind, root.diag_name) == ("application", "app")
    assert root.diag_info() == {
        "initial_call": f"{__name__}.App.start",
        "state": "running",
        "type": "transient",
    }
    (top,) = root.diag_children()
    assert (top.name, top.kind) == ("top", "supervisor")
    assert top.node is not None
    assert len(top.node.diag_children()) == 3
    task = root.diag_task()
    assert task is not None
    assert task.get_name() == "application_master:app"
    await root.diag_stop()
    assert (root.diag_info()["state"], root.diag_children(), root.diag_task()) == ("stopped", [], None)
    assert sv.whereis("top") is None
    await root.diag_start()
    assert root.diag_info()["state"] == "running"
    assert root.diag_info()["type"] == "transient"
    await root.diag_restart_child("top")
    with pytest.raises(KeyError):
        await root.diag_stop_child("nobody")
    await root.diag_stop_child("top")
    assert sv.whereis("top") is None
    await application.shut_down()


async def test_a_restart_is_counted_where_it_happened() -> None:
    await sv.Supervisor.start_link(Top, name="top")
    (root,) = hooks.roots()
    for _ in range(2):
        sv.send_exit("worker", "kill")
        await sv.settle()
    assert [child.restarts for child in root.diag_children()] == [2, 0, 0]
    assert root.diag_info()["restarts"] == 2
    await sv.stop("top")
