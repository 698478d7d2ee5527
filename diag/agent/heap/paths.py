"""Why it is alive: from an owner down to what makes up its memory, step by step with names.

Objects that hang on paths of the same shape (``local cache → ['items'] → [*] → memoryview``) are one
group, so a leak of a hundred thousand chunks is one line. Only what the owner really retains is
entered; the ids come from a picture taken a moment before.

Names are read without running any code of the target and without leaving anything behind: no
``__dict__`` is made, no frame, no ``f_locals``.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import types
from collections import deque
from typing import Any, cast

from diag.agent.heap.engine import Budget, frame_locals, holder_types, measure
from diag.agent.heap.kinds import holder_of, managed_buffer
from diag.agent.heap.owners import OwnerTree
from diag.agent.heap.picture import type_name
from diag.agent.heap.sizes import sizer
from diag.wire.model import HOLDERS, Path, Step

MAX_OBJECTS = 200_000
MAX_SECONDS = 2.0
_STEP_OBJECTS = 500
"""After so many objects the interpreter lock is given away for a moment."""
_NAMED_KEYS = 64
"""A dict with more keys than this is a table: its entries are ``[*]``, not each a group of its own."""

_namespace = type.__dict__["__dict__"].__get__
_mro = type.__dict__["__mro__"].__get__
_SUSPENDED: tuple[type, ...] = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
if sys.version_info < (3, 11):
    _SUSPENDED += (types.FrameType,)  # there it stands between a coroutine and its variables


class _Group:
    __slots__ = ("bytes", "count", "edge", "holder", "kind", "parent")

    def __init__(self, parent: _Group | None, edge: str, kind: str, holder: str) -> None:
        self.parent, self.edge, self.kind, self.holder = parent, edge, kind, holder
        self.bytes = self.count = 0


def paths(
    tree: OwnerTree, index: int, limit: int = 3, budget: Budget | None = None
) -> tuple[tuple[Path, ...], bool, str]:
    """The ``limit`` groups that make up most of what owner ``index`` retains, largest first.

    Returns ``(paths, complete, note)``; not complete means that the owner holds more than was looked
    at, and note says how much was. Cost: one ``measure`` and about 5 µs an object of this owner, in
    short steps, for at most two seconds. Keeps nothing.
    """
    picture = measure(tree, budget, record=index, record_limit=MAX_OBJECTS)
    owned = picture.recorded
    objects = picture.rows[index].objects
    walker = _Walker(owned)
    below = {index}
    for each, node in enumerate(tree.nodes):
        if node.parent in below:
            below.add(each)
        if each in below:
            for root in node.roots:
                walker.enter(root)
    timely = walker.run()
    groups = sorted(walker.groups.values(), key=lambda group: -group.bytes)
    notes = [] if picture.cost.complete else [picture.cost.note]
    if objects > len(owned):
        notes.append(f"looked at {len(owned):,} of {objects:,} objects")
    if not timely:
        notes.append(f"stopped after {MAX_SECONDS:g} s; {len(walker.seen):,} of {objects:,} objects entered")
    found = tuple(_path(group) for group in groups[:limit] if group.bytes)
    return found, not notes, "; ".join(notes)


def _path(group: _Group) -> Path:
    steps: list[Step] = []
    at: _Group | None = group
    while at is not None:
        steps.append(Step(at.edge, at.kind, at.bytes))
        at = at.parent
    return Path(group.holder, group.kind, group.bytes, group.count, tuple(reversed(steps)))


class _Walker:
    def __init__(self, owned: set[int]) -> None:
        self.owned = owned
        self.seen: set[int] = set()
        self.groups: dict[tuple[int, str, type], _Group] = {}
        self.queue: deque[tuple[object, _Group]] = deque()
        self.sizers: dict[type, Any] = {}
        self.names: dict[type, tuple[str, ...]] = {}
        self.holders: dict[type, str] = {}

    def enter(self, root: object) -> None:
        self._add(None, type_name(type(root)), root)

    def run(self) -> bool:
        """False if time ran out."""
        deadline = time.monotonic() + MAX_SECONDS
        steps = 0
        while self.queue:
            op, group = self.queue.popleft()
            for edge, child in self._edges(op):
                if id(child) in self.owned:
                    self._add(group, edge, child)
            steps += 1
            if steps % _STEP_OBJECTS == 0:
                op = child = None
                time.sleep(0.0005)
                if time.monotonic() > deadline:
                    self.queue.clear()
                    return False
        return True

    def _add(self, parent: _Group | None, edge: str, op: object) -> None:
        if id(op) in self.seen:
            return
        self.seen.add(id(op))
        kind = type(op)
        key = (id(parent), edge, kind)
        group = self.groups.get(key)
        if group is None:
            holder = self._holder(kind) or (parent.holder if parent else HOLDERS[0])
            group = self.groups[key] = _Group(parent, edge, type_name(kind), holder)
        measure_bytes = self.sizers.get(kind)
        if measure_bytes is None:
            measure_bytes = self.sizers[kind] = sizer(kind)
        group.bytes += measure_bytes(op)
        group.count += 1
        self.queue.append((op, group))

    def _holder(self, kind: type) -> str:
        if kind not in self.holders:
            number = holder_of(kind, holder_types())
            self.holders[kind] = HOLDERS[number - 1] if number else ""
        return self.holders[kind]

    def _edges(self, op: object) -> list[tuple[str, object]]:
        """What ``op`` refers to, each with the name of the way there; every referent once."""
        named: dict[int, str] = {}
        kind = type(op)
        referents = gc.get_referents(op)
        if issubclass(kind, dict):
            table = cast("dict[object, object]", op)
            few = dict.__len__(table) <= _NAMED_KEYS
            for key, value in list(dict.items(table)):
                text = type(key) is str and few
                named[id(value)] = f"[{key!r}]" if text else "[*]"
                named.setdefault(id(key), "key")
        elif issubclass(kind, (list, tuple, set, frozenset, deque)):
            return [("[*]", each) for each in referents]
        elif kind in _SUSPENDED:
            named.update((id(value), f"local {name}") for name, value in frame_locals(op))
            awaited = getattr(op, "cr_await", None) if kind is types.CoroutineType else None
            if awaited is not None:
                named[id(awaited)] = "awaits"
        elif kind is types.CellType:
            return [("cell", each) for each in referents]
        elif kind is types.MethodType:
            return [("bound to", each) for each in referents]
        elif kind is memoryview:
            return [("view of", each) for each in referents]
        elif kind is managed_buffer:
            return [("backed by", each) for each in referents]
        elif asyncio.Task in _mro(kind):
            coroutine: object = asyncio.Task.get_coro(cast("asyncio.Task[Any]", op))
            named[id(coroutine)] = f"runs {getattr(coroutine, '__qualname__', '?')}"
        else:
            for name in self._attribute_names(kind):
                try:
                    value = object.__getattribute__(op, name)
                except Exception:
                    continue
                named[id(value)] = f".{name}"
                del value
        return [(named.get(id(each), "refers to"), each) for each in referents]

    def _attribute_names(self, kind: type) -> tuple[str, ...]:
        """Names that instances are likely to have, from the class itself: slots and members, and the
        attributes that its methods mention. A name that would run code (a property) is left out."""
        known = self.names.get(kind)
        if known is not None:
            return known
        names: set[str] = set()
        runs_code: set[str] = set()
        for base in _mro(kind):
            for name, value in list(_namespace(base).items()):
                if type(value) is types.MemberDescriptorType:
                    names.add(name)
                elif type(value) is types.FunctionType:
                    names.update(value.__code__.co_names)
                    runs_code.add(name)
                elif name == "__static_attributes__" and type(value) is tuple:
                    names.update(value)
                elif name == "__annotations__" and type(value) is dict:
                    names.update(each for each in value if type(each) is str)
                else:
                    runs_code.add(name)
        names -= runs_code
        names.discard("__dict__")
        return self.names.setdefault(kind, tuple(sorted(names)))
