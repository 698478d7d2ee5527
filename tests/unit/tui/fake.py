"""A target that is not there: the client's methods over a small world whose leak grows by the sample."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from diag.wire import ranking
from diag.wire.errors import RpcError, TargetError
from diag.wire.model import (
    Buffers,
    Collected,
    Cost,
    Hello,
    JournalEntry,
    Memory,
    Owner,
    Path,
    Step,
    Stopped,
    Table,
    Target,
    Trimmed,
    Why,
)

MB = 1 << 20
TARGET = Target(4242, "collector", "3.11.7")
CLIENTS = ("acme", "globex", "initech", "umbrella")
STEP_BYTES = 8 * MB


def owner(
    name: str,
    kind: str = "task",
    *,
    parent: str | None = "process",
    ancestors: tuple[str, ...] = (),
    retained: int = 10_000,
    buffers: int = 0,
    waste: int = 0,
    actions: tuple[str, ...] = (),
    **more: object,
) -> Owner:
    """One row, with what a test does not care about filled in. Its id is ``kind:name``."""
    made = Owner(
        id=f"{kind}:{name}" if kind != "process" else "process",
        kind=kind,
        name=name,
        parent=parent,
        ancestors=ancestors,
        initial_call=f"collector.{name.partition(':')[0]}.init",
        current_function="collector.supervision.server.Server.loop:88",
        state="running",
        retained_bytes=retained,
        own_bytes=retained,
        loop_bytes=0,
        buffer_bytes=buffers,
        shared_bytes=2_048,
        waste_bytes=waste,
        objects=120,
        growth_bytes_per_s=None,
        incarnation=f"life-of-{name}",
        holders={"locals": retained, "registry": 0, "queue": 0, "transport": 0},
        actions=actions,
    )
    return replace(made, **more)  # type: ignore[arg-type]


class World:
    """The process the fakes look at; every connection shares it. Its locks and switches are for tests."""

    def __init__(self, allow_actions: bool = True, tasks: int = 3) -> None:
        self.allow_actions = allow_actions
        self.tasks = tasks
        self.leaked = 400 * MB
        self.running = dict.fromkeys(CLIENTS, True)
        self.application_running = True
        self.alive = True
        self.stalled = threading.Event()
        self.stalled.set()
        self.complete = True
        self.pid = TARGET.pid
        self.started = 1000.0
        self.calls: list[tuple[str, ...]] = []
        self.entries: list[JournalEntry] = []
        self.lock = threading.Lock()
        self.connections = 0
        self.closed = 0
        self.refuses = ""
        """What ``top`` answers instead of a table."""

    def connect(self) -> Fake:
        if not self.alive:
            raise TargetError("pid 4242 is gone", "diag ls shows what can be attached")
        self.connections += 1
        return Fake(self)

    def owners(self) -> list[Owner]:
        rows = [owner("collector", "process", parent=None, retained=self.total())]
        if not self.application_running:
            return [
                *rows,
                owner("lmcollect", "application", retained=0, state="terminated", actions=("start",)),
            ]
        both = ("stop", "restart")
        sums = self.leaked + 2 * MB
        application = owner("lmcollect", "application", retained=sums, buffers=sums, actions=both)
        top = owner(
            "lmcollect_sup",
            "supervisor",
            parent=application.id,
            ancestors=("lmcollect",),
            retained=sums,
            buffers=sums,
            actions=both,
            info={"strategy": "one_for_one", "restarts": 0},
        )
        clients = owner(
            "alcollect_sup",
            "supervisor",
            parent=top.id,
            ancestors=("lmcollect_sup", "lmcollect"),
            retained=sums,
            buffers=sums,
            actions=both,
            info={"strategy": "one_for_one", "restarts": 2},
        )
        rows += [application, top, clients]
        for client in CLIENTS:
            if not self.running[client]:
                continue
            leaks = self.leaked if client == "acme" else 0
            sup = owner(
                f"alcollect_client_sup:{client}",
                "supervisor",
                parent=clients.id,
                ancestors=("alcollect_sup", "lmcollect_sup", "lmcollect"),
                retained=leaks + 100_000,
                buffers=leaks,
                waste=leaks // 10 * 9,
                actions=both,
                info={"strategy": "one_for_all", "restarts": 0},
            )
            rows.append(
                replace(
                    sup,
                    holders={"locals": 100_000, "registry": leaks, "queue": 0, "transport": 0},
                    buffers=(Buffers("bytearray", "registry", leaks // 262_144, leaks, leaks // 10 * 9),)
                    if leaks
                    else (),
                )
            )
            for number in range(self.tasks):
                rows.append(
                    owner(
                        f"{client}.worker{number}",
                        parent=sup.id,
                        ancestors=(sup.name, *sup.ancestors),
                        retained=20_000 + number,
                        actions=("stop", "restart"),
                    )
                )
        rows.append(owner("heartbeat", retained=4_000, actions=("cancel",)))
        return rows

    def total(self) -> int:
        return 60 * MB + (self.leaked if self.application_running and self.running["acme"] else 0)


class Fake:
    """One connection."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.open = True

    def _ask(self, *call: str) -> None:
        self.world.calls.append(call)
        if not self.world.stalled.wait(20):
            raise TimeoutError
        if not self.open:
            raise OSError("closed")
        if not self.world.alive:
            raise TargetError("the target went away", "it ended, or its agent was closed")

    def hello(self) -> Hello:
        self._ask("hello")
        target = replace(TARGET, pid=self.world.pid)
        return Hello(1, "0.1.0", "abc", target, "native", self.world.allow_actions, (), 0, self.world.started)

    def top(self, by: str = "buffers", limit: int | None = None, *, with_ancestors: bool = False) -> Table:
        self._ask("top", by)
        if self.world.refuses:
            raise RpcError(-32003, self.world.refuses, "try again in a moment")
        with self.world.lock:
            if self.world.running["acme"] and self.world.application_running:
                self.world.leaked += STEP_BYTES
            owners = self.world.owners()
        note = "" if self.world.complete else "node budget of 1,000,000 reached"
        cost = Cost("local", "native", 0.42, 3.1, 4, 12_000, self.world.complete, note)
        ranked = ranking.ranked(Table(TARGET, cost, tuple(owners), len(owners)), by)
        return replace(ranked, owners=ranked.owners[:limit])

    def memory(self) -> Memory:
        self._ask("memory")
        total = self.world.total()
        return Memory(total + 30 * MB, 2_000 * MB, 41 * MB, total, 12 * MB, 14, 3)

    def why(self, owner_id: str) -> Why:
        self._ask("why", owner_id)
        row = self._row(owner_id)
        steps = (
            Step(".table", "collector.clients.ClientTable", 56),
            Step("._rows", "dict", 73_816),
            Step("['host [1]']", "memoryview", 184),
        )
        return Why(row, (Path("registry", "bytearray", row.buffer_bytes, 1605, steps),), True)

    def collect(self) -> Collected:
        self._act("collect")
        rss = self.world.total() + 30 * MB
        result = Collected(None, 120_000, 340, rss, rss, 31.5)
        self._log("collect", "", None, result.freed_bytes, rss, rss)
        return result

    def trim(self) -> Trimmed:
        self._act("trim")
        rss = self.world.total() + 30 * MB
        self._log("trim", "", None, 12 * MB, rss, rss - 12 * MB)
        return Trimmed(12 * MB, rss, rss - 12 * MB, 2.0)

    def stop(self, owner_id: str, expect: str | None = None) -> Stopped:
        return self._change("stop", owner_id, expect)

    def restart(self, owner_id: str, expect: str | None = None) -> Stopped:
        return self._change("restart", owner_id, expect)

    def start(self, owner_id: str, expect: str | None = None) -> Stopped:
        return self._change("start", owner_id, expect)

    def cancel(self, owner_id: str, expect: str | None = None) -> Stopped:
        return self._change("cancel", owner_id, expect)

    def journal(self) -> tuple[JournalEntry, ...]:
        self._ask("journal")
        return tuple(self.world.entries)

    def close(self) -> None:
        self.open = False
        self.world.closed += 1

    def _row(self, owner_id: str) -> Owner:
        for row in self.world.owners():
            if row.id == owner_id:
                return row
        raise RpcError(-32002, f"no owner {owner_id} any more", "refresh and look again")

    def _act(self, *call: str) -> None:
        self._ask(*call)
        if not self.world.allow_actions:
            raise RpcError(-32001, "this agent is read-only", "serve(allow_actions=True)")

    def _change(self, action: str, owner_id: str, expect: str | None) -> Stopped:
        self._act(action, owner_id, expect or "")
        with self.world.lock:
            victim = self._row(owner_id)
            if expect != victim.incarnation:
                raise RpcError(-32002, f"{victim.name} is another one now", "refresh and look again")
            before = self.world.total() + 30 * MB
            client = victim.name.partition(":")[2]
            if victim.kind == "application":
                self.world.application_running = action != "stop"
                self.world.leaked = 0
            elif client in self.world.running:
                self.world.running[client] = action != "stop"
                self.world.leaked = 0 if client == "acme" else self.world.leaked
            after = self.world.total() + 30 * MB
        freed = victim.retained_bytes
        self._log(action, victim.name, freed, freed, before, after)
        return Stopped(action, (victim.name, "its.worker"), freed, freed, before, after)

    def _log(self, action: str, victim: str, predicted: int | None, freed: int, *rss: int) -> None:
        self.world.entries.append(
            JournalEntry(time.time(), 0, 77, action, victim, predicted, freed, *rss, "done")
        )
