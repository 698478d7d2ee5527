"""Runs the same scenarios in our supervisors, by a virtual clock, and writes the same log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from collector import supervision as sv
from collector.supervision import application
from tests.functional.otp.scenarios import Step, Tree

Log = list[Any]


class World:
    """What one scenario shares: the log, and how often each worker was started."""

    def __init__(self) -> None:
        self.log: Log = []
        self.exits: Log = []
        self.starts: dict[str, int] = {}
        self.pids: dict[str, list[sv.Pid]] = {}

    def record(self, *event: Any) -> None:
        self.log.append(list(event))


class Worker(sv.Server):
    """As ``judge_worker.erl``."""

    async def init(self, world: World, options: Tree, extra: Tree | None = None) -> Any:
        self.world = world
        self.options = options = {**options, **(extra or {})}
        if extra:
            sv.register(options["id"], self.pid)
        self.pid.trap_exit = options.get("trap", True)
        id = options["id"]
        n = world.starts[id] = world.starts.get(id, 0) + 1
        world.pids.setdefault(id, []).append(self.pid)
        script = options.get("starts", ["ok"])
        world.record("start", id, n)
        act = script[min(n, len(script)) - 1]
        while act[0] == "gate":
            await sv.receive()
            act = act[1]
        if act == "ok":
            return None
        if act == "ignore":
            return sv.IGNORE
        if act == "crash":
            raise LookupError("boom")
        return sv.Stop(act[1])

    async def handle_cast(self, message: Any) -> Any:
        if message == "crash":
            raise LookupError("boom")
        return sv.Stop(message[1])

    async def terminate(self, reason: sv.Reason) -> None:
        self.world.record("terminate", self.options["id"], shown_reason(reason))
        if self.options.get("stubborn"):
            await asyncio.get_running_loop().create_future()
        if "slow" in self.options:
            await self.clock.sleep(self.options["slow"] / 1000)
            self.world.record("terminated", self.options["id"])
        if "last" in self.options:
            raise sv.Exit(self.options["last"])


class Tall(sv.Supervisor):
    """As ``judge_sup.erl``."""

    def init(self, world: World, tree: Tree) -> Any:
        if tree.get("ignore"):
            return sv.IGNORE
        world.record("sup_init", tree["id"])
        return sv.SupervisorFlags(**tree["flags"]), [spec(world, child) for child in tree["children"]]


def spec(world: World, tree: Tree) -> sv.ChildSpec:
    common = {key: tree[key] for key in ("restart", "shutdown", "significant") if key in tree}
    if isinstance(common.get("shutdown"), int):
        common["shutdown"] /= 1000
    if "children" in tree:
        return sv.ChildSpec(tree["id"], Tall, (world, tree), name=tree["id"], **common)
    name = None if tree["id"] == "template" else tree["id"]
    return sv.ChildSpec(tree["id"], Worker, (world, tree), name=name, **common)


class App(sv.Application):
    """As ``judge_app.erl``."""

    async def start(self, start_type: str, world: World, app: Tree) -> Any:
        self.world = world
        world.record("app_start", app["name"])
        how = app.get("start", "tree")
        if how in ("tree", "try_tree"):
            pid = await sv.Supervisor.start_link(Tall, world, app["tree"], name=app["tree"]["id"])
            return pid if how == "try_tree" else (pid, app["name"])
        if how == "crash":
            raise LookupError("boom")
        if how == "nothing":
            return "nothing"
        raise sv.Exit(how[1])

    async def prep_stop(self, state: Any) -> Any:
        self.world.record("prep_stop", state)
        return state

    async def stop(self, state: Any) -> None:
        self.world.record("app_stopped", state)


class Parent(sv.Server):
    """Starts the root of a tree, as the process that runs the scenarios in Erlang."""

    async def init(self, world: World) -> None:
        self.world = world
        self.root: sv.Pid | None = None
        self.pid.trap_exit = True

    async def handle_call(self, request: Any, from_: sv.From) -> Any:
        if request == "stop":
            assert self.root is not None
            sv.send_exit(self.root, "shutdown")
            return None
        try:
            pid = await sv.Supervisor.start_link(Tall, self.world, request, name=request["id"])
        except sv.StartError as error:
            return error
        self.root = pid or self.root
        return pid

    async def handle_info(self, message: Any) -> None:
        if isinstance(message, sv.Exited) and message.pid is self.root:
            self.world.exits.append(["root_exit", shown_reason(message.reason)])


OPERATIONS: dict[str, Callable[..., Awaitable[Any]]] = {
    "terminate_child": sv.terminate_child,
    "restart_child": sv.restart_child,
    "delete_child": sv.delete_child,
    "which_children": sv.which_children,
    "count_children": sv.count_children,
}


class Runner:
    def __init__(self, clock: sv.VirtualClock) -> None:
        self.clock = clock
        self.world = World()
        self.sups: list[str] = []
        self.apps: list[str] = []
        self.parent: sv.Pid | None = None
        self.asked: list[tuple[str, asyncio.Task[Any]]] = []

    async def run(self, steps: list[Step]) -> Log:
        for step in steps:
            name, *args = (step,) if isinstance(step, str) else step
            await getattr(self, name)(*args)
            if name in ("crash_into", "behind"):
                await sv.settle()
            elif name != "goes_down":
                await self.settled()
        if any(step[0] == "goes_down" for step in steps):
            return self.world.log
        if sv.whereis("root") is not None:
            assert self.parent is not None
            self.world.record("step", "stop")
            await sv.call(self.parent, "stop")
            await self.clock.drive(sv.wait_ended("root"))
            await self.settled()
        for app in reversed(self.apps):
            await self.clock.drive(quietly(application.stop(app)))
        self.world.record("left", self.alive())
        return self.world.log

    async def settled(self) -> None:
        await sv.settle()
        for sup in self.sups:
            if sv.whereis(sup) is not None:
                await self.clock.drive(quietly(sv.count_children(sup)))
        await sv.settle()
        for operation, task in self.asked:
            self.world.record("answer", operation, await self.outcome(task))
        self.asked.clear()
        self.world.record("alive", self.alive())
        self.world.log += self.world.exits
        self.world.exits.clear()

    def alive(self) -> list[list[Any]]:
        return sorted([id, n] for id, n in self.world.starts.items() if sv.whereis(id) is not None)

    async def outcome(self, awaitable: Awaitable[Any]) -> Any:
        """What came back, as OTP shows it."""
        try:
            return shown(await self.clock.drive(awaitable))
        except sv.SupervisionError as error:
            return ["error", shown_reason(error.reason)]

    async def result(self, awaitable: Awaitable[Any]) -> None:
        self.world.record("result", await self.outcome(awaitable))

    # Steps

    async def start(self, tree: Tree) -> None:
        if self.parent is None:
            self.parent = await sv.Server.start_link(Parent, self.world)
        assert self.parent is not None
        self.sups = sup_ids(tree)
        self.world.record("step", "start")
        await self.result(started(sv.call(self.parent, tree, timeout=None)))

    async def ends(self, id: str, reason: sv.Reason) -> None:
        self.world.record("step", "ends", id, reason)
        sv.cast(id, ("stop", reason))

    async def crash(self, id: str) -> None:
        self.world.record("step", "crash", id)
        sv.cast(id, "crash")

    async def kill(self, id: str) -> None:
        self.world.record("step", "kill", id)
        sv.send_exit(id, "kill")

    async def at_once(self, sup: str, ids: list[str]) -> None:
        self.world.record("step", "at_once", ids)
        for id in ids:
            sv.send_exit(id, "kill")

    async def crash_into(self, id: str, n: int) -> None:
        self.world.record("step", "crash_into", id)
        sv.cast(id, "crash")
        await sv.settle()
        assert self.world.starts[id] == n

    async def behind(self, operation: str, args: list[Any]) -> None:
        self.asked.append((operation, asyncio.ensure_future(self.ask(operation, *args))))

    async def ask(self, operation: str, sup: str, *rest: Any) -> Any:
        if operation == "start_child":
            return await started(sv.start_child(sup, spec(self.world, rest[0])))
        if operation == "terminate_dynamic":  # by the process that ended, as in judge.erl
            return await sv.terminate_child(sup, self.world.pids[rest[0]][-2])
        return await OPERATIONS[operation](sup, *rest)

    async def release(self, id: str) -> None:
        self.world.record("step", "release", id)
        sv.send(id, "go")

    async def sleep(self, ms: int) -> None:
        await self.clock.advance(ms / 1000)

    async def start_child(self, sup: str, tree: Tree) -> None:
        self.world.record("step", "start_child", sup, tree["id"])
        self.sups += sup_ids(tree)
        await self.result(started(sv.start_child(sup, spec(self.world, tree))))

    async def start_dynamic(self, sup: str, extra: Tree) -> None:
        self.world.record("step", "start_dynamic", sup)
        await self.result(started(sv.start_child(sup, extra)))

    async def terminate_dynamic(self, sup: str, id: str) -> None:
        self.world.record("step", "terminate_dynamic", sup, id)
        await self.result(sv.terminate_child(sup, self.world.pids[id][-1]))

    async def terminate_child(self, sup: str, id: str) -> None:
        self.world.record("step", "terminate_child", sup, id)
        await self.result(sv.terminate_child(sup, id))

    async def restart_child(self, sup: str, id: str) -> None:
        self.world.record("step", "restart_child", sup, id)
        await self.result(started(sv.restart_child(sup, id)))

    async def delete_child(self, sup: str, id: str) -> None:
        self.world.record("step", "delete_child", sup, id)
        await self.result(sv.delete_child(sup, id))

    async def which_children(self, sup: str) -> None:
        self.world.record("step", "which_children", sup)
        await self.result(sv.which_children(sup))

    async def count_children(self, sup: str) -> None:
        self.world.record("step", "count_children", sup)
        await self.result(sv.count_children(sup))

    async def load(self, app: Tree) -> None:
        self.apps.append(app["name"])
        module = None if app.get("library") else App
        needs, optional = app.get("applications", []), app.get("optional", [])
        await application.load(
            sv.ApplicationSpec(app["name"], module, (self.world, app), needs, optional_applications=optional)
        )

    async def app_start(self, name: str, type: Any) -> None:
        self.world.record("step", "app_start", name, type)
        await self.result(application.start(name, type))

    async def app_ensure(self, name: str, type: Any) -> None:
        self.world.record("step", "app_ensure", name, type)
        await self.result(ensured(application.ensure_all_started(name, type)))

    async def app_stop(self, name: str) -> None:
        self.world.record("step", "app_stop", name)
        await self.result(application.stop(name))

    async def app_which(self) -> None:
        self.world.record("step", "app_which")
        await self.result(application.which_applications())

    async def goes_down(self, id: str) -> None:
        self.world.record("step", "goes_down", id)
        down = asyncio.ensure_future(application.wait_down())
        await sv.settle()
        sv.send_exit(id, "kill")
        await self.clock.drive(down)
        assert sv.registered() == []


async def quietly(awaitable: Awaitable[Any]) -> None:
    try:
        await awaitable
    except sv.SupervisionError:
        pass


async def started(awaitable: Awaitable[sv.Pid | sv.StartError | None]) -> Any:
    pid = await awaitable
    if isinstance(pid, sv.StartError):
        raise pid
    return ["ok", None if pid is None else "pid"]


async def ensured(awaitable: Awaitable[list[str]]) -> Any:
    return ["ok", await awaitable]


def sup_ids(tree: Tree) -> list[str]:
    below = [id for child in tree.get("children", []) for id in sup_ids(child)]
    return [tree["id"], *below] if "children" in tree else []


def shown(result: Any) -> Any:
    """As judge.erl's shown/1."""
    if result is None:
        return "ok"
    if isinstance(result, list) and result and isinstance(result[0], sv.ChildInfo):
        return [[info.id, shown_child(info.child), info.type] for info in result]
    return list(result)


def shown_child(child: sv.Pid | str | None) -> str | None:
    return "pid" if isinstance(child, sv.Pid) else child


def shown_reason(reason: sv.Reason) -> Any:
    """As judge.erl's reason/1."""
    if isinstance(reason, sv.Crash):
        return "crash"
    if isinstance(reason, sv.Pid):
        return "pid"
    if isinstance(reason, tuple) and len(reason) == 2 and str(reason[0]).endswith("App.start"):
        return "start"
    if isinstance(reason, tuple) and reason[:1] == ("bad_return",):
        return ["bad_return", *(shown_reason(item) for item in reason[1])]
    if isinstance(reason, tuple):
        return [shown_reason(item) for item in reason]
    return reason


async def run(steps: list[Step]) -> Log:
    """What ours does."""
    clock = sv.VirtualClock()
    with sv.use_clock(clock):
        runner = Runner(clock)
        try:
            log = await runner.run(steps)
        finally:
            await clock.drive(application.shut_down())
    normal: Log = json.loads(json.dumps(log))  # tuples as lists
    return normal
