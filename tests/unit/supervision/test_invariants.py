"""Whatever is done to a supervisor, its books are right and nothing is left over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector import supervision as sv
from collector.supervision.process import processes

T = TypeVar("T")
RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])
IDS = st.sampled_from("abcdef")
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
REASONS = st.sampled_from(["normal", "shutdown", "other"])


class Worker(sv.Server):
    async def init(self, machine: Machine, id: str) -> Any:
        self.id, self.machine = id, machine
        self.pid.trap_exit = id in "ace"
        if machine.failing.get(id, 0):
            machine.failing[id] -= 1
            return sv.Stop("no_luck")
        machine.started.append(id)
        return None

    async def handle_cast(self, message: Any) -> Any:
        return sv.Stop(message)


class Sup(sv.Supervisor):
    def init(self, flags: sv.SupervisorFlags, specs: list[sv.ChildSpec]) -> Any:
        return flags, specs


class Machine(RuleBasedStateMachine):
    """The model: which specs there are, in which order, and whether a child runs."""

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("collector.supervision").setLevel(logging.CRITICAL + 1)
        self.loop = asyncio.new_event_loop()
        self.failing: dict[str, int] = {}
        self.started: list[str] = []
        self.order: list[str] = []
        self.restart: dict[str, str] = {}
        self.by_hand: set[str] = set()
        self.sup: sv.Pid | None = None

    def run(self, awaitable: Awaitable[T]) -> T:
        async def main() -> T:
            result = await awaitable
            await sv.settle()
            return result

        return self.loop.run_until_complete(main())

    def spec(self, id: str, restart: Any) -> sv.ChildSpec:
        return sv.ChildSpec(id, Worker, (self, id), name=id, restart=restart, shutdown=60)

    @initialize(
        strategy=STRATEGIES,
        intensity=st.integers(0, 30),
        first=st.lists(st.tuples(IDS, RESTARTS), unique_by=lambda child: child[0], max_size=4),
    )
    def begin(self, strategy: Any, intensity: int, first: list[tuple[str, Any]]) -> None:
        flags = sv.SupervisorFlags(strategy, intensity, 1000)
        specs = [self.spec(id, restart) for id, restart in first]
        self.sup = self.run(sv.Supervisor.start_link(Sup, flags, specs, name="sup"))
        for id, restart in first:
            self.order.append(id)
            self.restart[id] = restart
        assert self.started == self.order

    @precondition(lambda self: self.sup is not None and not self.alive)
    @rule(strategy=STRATEGIES, intensity=st.integers(0, 30))
    def begin_again(self, strategy: Any, intensity: int) -> None:
        """It gave up. What is asked of it now is refused, and its name is free."""

        async def ask() -> Any:
            try:
                await sv.count_children("sup")
            except sv.ServerDown as error:
                return error.reason

        assert self.run(ask()) == "noproc"
        self.order.clear()
        self.by_hand.clear()
        flags = sv.SupervisorFlags(strategy, intensity, 1000)
        self.sup = self.run(sv.Supervisor.start_link(Sup, flags, [], name="sup"))

    @property
    def alive(self) -> bool:
        return self.sup is not None and self.sup.alive

    def ask(self, operation: Any, *args: Any) -> Any:
        """What came back, or the reason it was refused."""

        async def asking() -> Any:
            try:
                return await operation("sup", *args)
            except sv.SupervisorError as error:
                return error

        return self.run(asking())

    @precondition(lambda self: self.alive)
    @rule(id=IDS, restart=RESTARTS, fails=st.integers(0, 1))
    def start_child(self, id: str, restart: Any, fails: int) -> None:
        known, running = id in self.order, sv.whereis(id)
        self.failing[id] = fails
        answer = self.ask(sv.start_child, self.spec(id, restart))
        reason = getattr(answer, "reason", None)
        if known:
            assert reason == ("already_present" if running is None else ("already_started", running))
        elif fails:
            assert reason == "no_luck"
        else:
            assert answer is sv.whereis(id)
            self.order.append(id)
            self.restart[id] = restart
        self.failing[id] = 0

    @precondition(lambda self: self.alive)
    @rule(id=IDS)
    def terminate_child(self, id: str) -> None:
        answer = self.ask(sv.terminate_child, id)
        assert getattr(answer, "reason", None) == (None if id in self.order else "not_found")
        assert sv.whereis(id) is None
        self.by_hand.add(id)

    @precondition(lambda self: self.alive)
    @rule(id=IDS)
    def restart_child(self, id: str) -> None:
        running = sv.whereis(id)
        answer = self.ask(sv.restart_child, id)
        expected = "not_found" if id not in self.order else "running" if running is not None else None
        assert getattr(answer, "reason", None) == expected
        assert (sv.whereis(id) is not None) == (id in self.order)

    @precondition(lambda self: self.alive)
    @rule(id=IDS)
    def delete_child(self, id: str) -> None:
        running = sv.whereis(id)
        answer = self.ask(sv.delete_child, id)
        expected = "not_found" if id not in self.order else "running" if running is not None else None
        assert getattr(answer, "reason", None) == expected
        if expected is None:
            self.order.remove(id)

    @precondition(lambda self: self.alive)
    @rule(ids=st.lists(IDS, min_size=1, max_size=3, unique=True), reason=REASONS)
    def children_end(self, ids: list[str], reason: str) -> None:
        """Several at once: all in the supervisor's mailbox before it looks."""

        async def end() -> None:
            for id in ids:
                sv.cast(id, reason)

        self.run(end())

    @precondition(lambda self: self.alive)
    @rule(ids=st.lists(IDS, min_size=1, max_size=3, unique=True), fails=st.integers(0, 2))
    def children_are_killed(self, ids: list[str], fails: int) -> None:
        async def kill() -> None:
            self.failing = dict.fromkeys(ids, fails)
            for id in ids:
                sv.send_exit(id, "kill")

        self.run(kill())
        self.failing.clear()

    @invariant()
    def the_books_are_right(self) -> None:
        if not self.alive:
            assert processes() == [], "a supervisor that has ended leaves nobody behind"
            assert sv.registered() == []
            return
        infos, counts = self.run(both())
        for id in list(self.order):
            if self.restart[id] == "temporary" and sv.whereis(id) is None:
                self.order.remove(id)
        assert [info.id for info in infos] == self.order[::-1]
        named = [(info.id, info.child) for info in infos if isinstance(info.child, sv.Pid)]
        assert all(pid.alive and pid.name == id for id, pid in named)
        running = [pid for _, pid in named]
        self.by_hand -= {id for id, _ in named if id is not None}
        assert "restarting" not in [info.child for info in infos], "tries follow each other without a pause"
        assert counts == (len(infos), len(running), 0, len(infos))
        assert {*processes()} == {self.sup, *running}, "no process but those the supervisor knows"
        assert {*sv.registered()} == {"sup", *(pid.name for pid in running)}
        down = {id for id in self.order if self.restart[id] == "permanent" and sv.whereis(id) is None}
        assert down <= self.by_hand, "only a hand keeps a permanent child down"

    def teardown(self) -> None:
        if self.alive:
            self.run(sv.stop("sup"))
        assert processes() == []
        left = asyncio.all_tasks(self.loop)
        self.loop.close()
        logging.getLogger("collector.supervision").setLevel(logging.NOTSET)
        assert left == set(), "no task is orphaned"


async def both() -> tuple[list[sv.ChildInfo], sv.Counts]:
    return await sv.which_children("sup"), await sv.count_children("sup")


TestInvariants = Machine.TestCase
TestInvariants.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
