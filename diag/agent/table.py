"""From a walk of the heap to the rows people read: names, states, calls, ranked.

Describing a row costs far more than ranking it, so rows are ranked first and only those that are sent
are described.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from diag.agent import manners
from diag.agent.heap import engine
from diag.agent.heap.picture import Picture
from diag.agent.runtime import calls, peek, tasks, tree, waiters
from diag.agent.runtime.identity import Identities
from diag.agent.runtime.tree import Label, RuntimeTree
from diag.wire import model, ranking

_ROWS_A_BREATH = 16
_OURS_ALONE = 2
"""The reference count of an object that only one local variable refers to, as ``getrefcount`` says it."""


@dataclass
class Look:
    """One picture of the process: who there is and what each holds. Use it in a ``with`` block: it holds
    tasks strongly and lets go of them at the end."""

    runtime: RuntimeTree
    picture: Picture

    @classmethod
    def take(cls, process_name: str) -> Look:
        """Build the tree and walk the heap from it, in slices. Milliseconds for 1,000 tasks."""
        runtime = tree.build(process_name)
        return cls(runtime, engine.measure(runtime.owners))

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go. What the application dropped meanwhile has only us left: its results, and whatever their
        destructors do, belong to the loop's thread, so that is where it goes."""
        labels, loops = self.runtime.labels, [loop for loop in self.runtime.loops if loop.is_running()]
        held: list[Any] = [label.task for label in labels if label.task is not None]
        held += [label.subsystem for label in labels if label.subsystem is not None]
        self.runtime = RuntimeTree()
        labels.clear()
        orphans: dict[int, list[Any]] = {}
        while held:
            each = held.pop()
            if loops and sys.getrefcount(each) <= _OURS_ALONE:
                its_loop = peek.loop(each) if peek.is_task(each) else None
                orphans.setdefault(id(its_loop), []).append(each)
            del each
        for loop in loops:
            left = orphans.pop(id(loop), [])
            if loop is loops[0]:
                left += orphans.pop(id(None), [])
            if left:
                try:
                    loop.call_soon_threadsafe(left.clear)
                except RuntimeError:  # closed in this moment
                    pass

    def find(self, owner_id: str, identities: Identities) -> int | None:
        """Index of the owner with this id; None if there is none (any more)."""
        for index, label in enumerate(self.runtime.labels):
            if label.id == owner_id:
                return index
        address = _address_in(owner_id)
        for index, label in enumerate(self.runtime.labels):
            if label.task is not None and id(label.task) == address and not label.id:
                return index if owner_id_of(label, identities) == owner_id else None
        return None


def owner_id_of(label: Label, identities: Identities) -> str:
    """The id shown for an owner: a path of names for what hooks show, ``task:NAME@ADDRESS.SERIAL`` else."""
    if label.id or label.task is None:
        return label.id
    return f"task:{label.name}@{identities.of(label.task)}"


def incarnation_of(label: Label, identities: Identities) -> str:
    """Which life of the owner this is; empty where there is nothing alive behind the row."""
    live = label.subsystem if label.subsystem is not None else label.task
    return "" if live is None else identities.of(live)


def actions_for(label: Label) -> tuple[str, ...]:
    """What can be done to this owner, whether or not the caller may."""
    if label.holder is not None and label.child is not None:
        alive = label.subsystem is not None or label.task is not None
        return ("stop", "restart") if alive or label.child.state == "restarting" else ("restart",)
    if label.subsystem is not None:
        return ("start",) if is_stopped(label) else ("stop", "restart")
    if label.kind == "task":
        return ("stop", "cancel")
    return ()


def is_stopped(label: Label) -> bool:
    """Whether a registered root says it is not running."""
    return label.info.get("state") in tree.STOPPED_STATES


def table(
    look: Look,
    target: model.Target,
    identities: Identities,
    by: str = "buffers",
    limit: int | None = None,
    kinds: Collection[str] = (),
    with_ancestors: bool = False,
) -> model.Table:
    """The rows in rank order (see ``diag.wire.ranking``).

    limit: how many rows; None for all. kinds: only these kinds of owner; empty for all.
    with_ancestors: also, after the ranked rows, the ancestors of shown rows that the limit or the kinds
    cut off, so that a tree can be drawn; they keep rank order among themselves.
    """
    nodes = look.runtime.owners.nodes
    field = ranking.BY[by]
    figures = [float(getattr(row, field)) for row in look.picture.rows]
    parents = [node.parent for node in nodes]
    places = ranking.order(parents, figures)
    shown = [index for index in places if not kinds or nodes[index].kind in kinds]
    total = len(shown)
    shown = shown[:limit]
    if with_ancestors:
        wanted = set(shown)
        missing: set[int] = set()
        for index in shown:
            above = parents[index]
            while above >= 0 and above not in wanted and above not in missing:
                missing.add(above)
                above = parents[above]
        shown += [index for index in places if index in missing]
    running = tasks.running()
    rows = []
    for index in shown:
        rows.append(owner(look, index, identities, running))
        if len(rows) % _ROWS_A_BREATH == 0:
            manners.breathe()
    return model.Table(target, look.picture.cost, tuple(rows), total)


def owner(
    look: Look, index: int, identities: Identities, running: dict[int, peek.AnyTask] | None = None
) -> model.Owner:
    """One row, described in full."""
    runtime, row = look.runtime, look.picture.rows[index]
    label = runtime.labels[index]
    running = tasks.running() if running is None else running
    busy = label.task is not None and running.get(id(label.task)) is label.task
    parent = runtime.parent(index)
    ancestors: list[str] = []
    above = parent
    while above > 0:
        ancestors.append(runtime.labels[above].name)
        above = runtime.parent(above)
    return model.Owner(
        id=owner_id_of(label, identities),
        kind=label.kind,
        name=label.name,
        parent=None if parent < 0 else owner_id_of(runtime.labels[parent], identities),
        ancestors=tuple(ancestors),
        initial_call=_initial_call(label),
        current_function="" if label.task is None else calls.current_function(label.task, busy),
        state=_state(label, busy),
        retained_bytes=row.retained_bytes,
        own_bytes=row.own_bytes,
        loop_bytes=row.loop_bytes,
        buffer_bytes=row.buffer_bytes,
        shared_bytes=row.shared_bytes,
        waste_bytes=row.waste_bytes,
        objects=row.objects,
        growth_bytes_per_s=None,
        holders={**dict.fromkeys(model.HOLDERS, 0), **row.holders},
        buffers=look.picture.buffers(index),
        info=_info(label),
        actions=actions_for(label),
        incarnation=incarnation_of(label, identities),
    )


def _initial_call(label: Label) -> str:
    if label.child is not None and label.child.initial_call:
        return str(label.child.initial_call)
    said = label.info.get("initial_call")
    if isinstance(said, str) and said:
        return said
    return "" if label.task is None else calls.initial_call(label.task)


def _state(label: Label, busy: bool) -> str:
    if label.child is not None and label.child.state != "running":
        return str(label.child.state)
    if label.subsystem is not None:
        return str(label.info.get("state", "running"))
    return "" if label.task is None else peek.state(label.task, busy)


def _info(label: Label) -> dict[str, str | int | float | bool]:
    facts = tree.plain_info(label)
    if label.task is not None and label.subsystem is None:
        waits_for = calls.waits_for(label.task)
        if waits_for:
            facts["waiting_for"] = waits_for
        if waiters.is_main(label.task):
            facts["main"] = True
        if label.holder is None and not peek.done(label.task):
            told = waiters.told(label.task)
            if told:
                facts["awaited_by"] = " < ".join(
                    peek.name(each) + (" (main)" if waiters.is_main(each) else "") for each in told
                )
    return facts


def _address_in(owner_id: str) -> int:
    """The address a plain task's id was made with; -1 if it is not such an id."""
    if not owner_id.startswith("task:"):
        return -1
    try:
        return int(owner_id.rpartition("@")[2].partition(".")[0], 16)
    except ValueError:
        return -1
