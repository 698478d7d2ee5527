"""Who is whose child: subsystems shown through hooks, tasks under whoever started or awaits them.

The parent of a task is, in this order: the supervisor that shows it; the task whose TaskGroup started
it; the task that awaits it; else nobody, and it hangs below the process. Finished tasks that something
still refers to stand below the process too.

A tree holds tasks and subsystems strongly. Build it, use it, drop it; never store it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from diag import hooks
from diag.agent import manners
from diag.agent.heap.owners import OwnerNode, OwnerTree
from diag.agent.runtime import peek, tasks, waiters
from diag.agent.runtime.peek import AnyTask

PROCESS_ID = "process"
LOOP_ID = "loop"
STOPPED_STATES = frozenset({"stopped", "terminated", "loaded"})
"""States of a root in which it can be started and not stopped."""
_MAX_DEPTH = 64
_TASKS_A_BREATH = 128

T = TypeVar("T")


class Label:
    """What a node of the tree is, beyond what the engine needs to know."""

    __slots__ = ("child", "error", "holder", "id", "info", "kind", "name", "subsystem", "task")

    def __init__(self, kind: str, name: str, owner_id: str = "") -> None:
        self.kind = kind
        self.name = name
        self.id = owner_id
        """Empty for a plain task: its id is made when it is shown."""
        self.task: AnyTask | None = None
        self.subsystem: hooks.Subsystem | None = None
        self.holder: hooks.Subsystem | None = None
        """The subsystem that shows it as its child; what stop and restart are asked of."""
        self.child: hooks.Child | None = None
        self.info: Mapping[str, str | int | float | bool] = {}
        self.error = ""
        """What the subsystem's own hooks raised."""


class RuntimeTree:
    """The engine's owner tree and, in parallel, who each node is."""

    def __init__(self) -> None:
        self.owners = OwnerTree(nodes=[])
        self.labels: list[Label] = []
        self.tasks = 0
        self.loops: list[asyncio.AbstractEventLoop] = []

    def add(self, parent: int, label: Label, roots: list[object]) -> int:
        """Append a node; its parent must be there already."""
        self.owners.nodes.append(OwnerNode(parent, label.kind, roots))
        self.labels.append(label)
        return len(self.labels) - 1

    def parent(self, index: int) -> int:
        """Index of the parent; -1 for the process."""
        return self.owners.nodes[index].parent

    def subtree(self, index: int) -> list[int]:
        """The node and everything below it, parents first. O(nodes)."""
        inside = {index}
        for each in range(index + 1, len(self.labels)):
            if self.parent(each) in inside:
                inside.add(each)
        return sorted(inside)


def build(process_name: str) -> RuntimeTree:
    """Take stock of all subsystems and tasks. O(tasks), about 2 µs each; calls the application's hooks."""
    tree = RuntimeTree()
    tree.add(-1, Label("process", process_name, PROCESS_ID), [])
    everything = tasks.all_tasks()
    tree.tasks = sum(1 for task in everything if not peek.done(task))
    placed: dict[int, int] = {}
    _Subsystems(tree, placed).add_roots()
    _add_tasks(tree, everything, placed)
    tree.loops = tasks.loops_of(everything)
    tree.owners.loops = tree.loops
    if tree.loops:
        tree.owners.loop_node = tree.add(0, Label("loop", "event loop", LOOP_ID), [])
    return tree


class _Subsystems:
    """Walks what the hooks show, trusting none of it: a hook may raise, lie or show a cycle."""

    def __init__(self, tree: RuntimeTree, placed: dict[int, int]) -> None:
        self._tree = tree
        self._placed = placed
        self._seen: set[int] = set()
        self._ids: set[str] = {PROCESS_ID, LOOP_ID}

    def add_roots(self) -> None:
        for root in hooks.roots():
            label = Label("supervisor", type(root).__name__)
            label.subsystem = root
            self._ask_about(label, root)
            prefix = "app" if label.kind == "application" else "sup"
            label.id = self._unique(f"{prefix}/{_quoted(label.name)}")
            self._add(0, label, 0)

    def _add(self, parent: int, label: Label, depth: int) -> None:
        node = label.subsystem
        if node is not None:
            if id(node) in self._seen or depth > _MAX_DEPTH:
                return
            self._seen.add(id(node))
        roots: list[object] = []
        if node is not None:
            roots.append(node)
        if label.task is not None and peek.is_task(label.task) and id(label.task) not in self._placed:
            roots.append(label.task)
        else:
            label.task = None
        index = self._tree.add(parent, label, roots)
        if label.task is not None:
            self._placed[id(label.task)] = index
        if node is None:
            return
        none: Sequence[hooks.Child] = ()
        for child in self._ask(label, node.diag_children, none):
            if not isinstance(child, hooks.Child):
                label.error = f"diag_children gave a {type(child).__name__}, not a Child"
                continue
            below = Label("supervisor" if child.kind == "supervisor" else "task", str(child.name))
            below.child = child
            below.holder = node
            below.id = self._unique(f"{label.id}/{_quoted(str(child.id))}")
            if child.node is not None:
                below.subsystem = child.node
                below.kind = "supervisor"
                self._ask_about(below, child.node)
            elif child.task is not None:
                below.kind = "task"
                below.task = child.task
            self._add(index, below, depth + 1)

    def _ask_about(self, label: Label, node: hooks.Subsystem) -> None:
        kind = self._ask(label, lambda: node.diag_kind, "supervisor")
        label.kind = "application" if kind == "application" else "supervisor"
        label.name = str(self._ask(label, lambda: node.diag_name, label.name))
        label.info = self._ask(label, lambda: dict(node.diag_info()), {})
        label.task = self._ask(label, node.diag_task, None)

    def _ask(self, label: Label, question: Callable[[], T], otherwise: T) -> T:
        try:
            answer = question()
            return list(answer) if isinstance(answer, (list, tuple)) else answer  # type: ignore[return-value]
        except Exception as error:
            # Only its type: the exception's traceback would keep frames of the application alive.
            label.error = f"its hook raised {type(error).__name__}"
            return otherwise

    def _unique(self, owner_id: str) -> str:
        candidate, count = owner_id, 1
        while candidate in self._ids:
            count += 1
            candidate = f"{owner_id}#{count}"
        self._ids.add(candidate)
        return candidate


def _add_tasks(tree: RuntimeTree, everything: list[AnyTask], placed: dict[int, int]) -> None:
    """Place every task nobody placed yet, each below its parent, parents first."""
    known = {id(task): task for task in everything}
    for count, task in enumerate(everything, 1):
        if count % _TASKS_A_BREATH == 0:
            manners.breathe()
        if id(task) in placed:
            continue
        chain: list[AnyTask] = []
        climbing: set[int] = set()
        current: Any = task
        while current is not None and id(current) not in placed:
            if id(current) in climbing:  # tasks that wait for each other: cut the ring here
                break
            climbing.add(id(current))
            chain.append(current)
            found = None if peek.done(current) else waiters.parent(current)
            # A parent the registries did not list (a foreign task type) cannot be a row of its own.
            current = found if found is not None and (id(found) in known or id(found) in placed) else None
        above = placed.get(id(current), 0) if current is not None else 0
        for each in reversed(chain):
            finished = peek.done(each)
            label = Label("done_task" if finished else "task", peek.name(each))
            label.task = each
            above = tree.add(0 if finished else above, label, [each])
            placed[id(each)] = above


def _quoted(name: str) -> str:
    """A name as one component of an id: no slash, nothing unprintable."""
    return "".join(
        c
        if c.isprintable() and c not in "/%#"
        else "".join(f"%{b:02X}" for b in c.encode("utf-8", "replace"))
        for c in name
    )


def plain_info(label: Label) -> dict[str, str | int | float | bool]:
    """A subsystem's facts, reduced to what JSON can carry."""
    facts: dict[str, str | int | float | bool] = {}
    for key, value in label.info.items():
        if isinstance(value, float) and not float("-inf") < value < float("inf"):
            value = str(value)
        facts[str(key)] = value if isinstance(value, (str, int, float, bool)) else type(value).__name__
    if label.child is not None and type(label.child.restarts) is int:
        facts.setdefault("restarts", label.child.restarts)
    if label.error:
        facts["error"] = label.error
    return facts
