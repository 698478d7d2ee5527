"""The heap walk in Python, for where the C module could not be built.

The same walk as ``_heap.c``, step for step, with the same interface and the same answers; about thirty
times slower. Two differences: the locals of a frame that is executing cannot be read (the engine runs
these slices on the event loop, where no task executes), and a slice does not hold the interpreter
lock, only the loop.

Every object it meets is referred to by its tables until the slice ends; those references are known
exactly and taken off.
"""

from __future__ import annotations

import gc
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

from diag.agent.heap.kinds import HAVE_GC, Kind, visible
from diag.agent.heap.sizes import sizer

TOP, NONE, LOOP = 0, -1, -2
BARRIER, STOP, EXPANDED, SOFT, UNRESOLVED, PENDING, READY, LEAF = (1 << n for n in range(8))
_TRANSPORT = 4
_IMMORTAL = 1 << 31  # 3.12+: nobody's reference count ever falls to nothing
_FIRST_ROOT_OF_NONE = sys.maxsize

_getrefcount = sys.getrefcount


class Walk:
    """See ``_heap.c``; the methods and their answers are the same."""

    def __init__(
        self,
        parents: list[int],
        roots: list[object],
        owners: list[int],
        handles: list[object],
        holder_types: list[tuple[type, int]],
        loop_owner: int,
    ) -> None:
        self.parents, self.roots, self.owners = parents, roots, owners
        self.handles, self.holder_types, self.loop_owner = handles, holder_types, loop_owner
        self.depth = [0] * len(parents)
        self.first_root = [_FIRST_ROOT_OF_NONE] * len(parents)
        self.last_root = [-1] * len(parents)
        for index, parent in enumerate(parents[1:], 1):
            self.depth[index] = self.depth[parent] + 1
        self.barriers: dict[int, int] = {}
        for position, (root, owner) in enumerate(zip(roots, owners)):  # noqa: B905 - strict costs; lengths checked
            up = owner
            while up >= 0 and self.last_root[up] < position:
                self.first_root[up] = min(self.first_root[up], position)
                self.last_root[up] = position
                up = parents[up]
            self.barriers.setdefault(id(root), owner)
        self.stops: set[int] = set()
        self.handle_count: dict[int, int] = {}
        for handle in handles:
            if id(handle) not in self.barriers:
                self.handle_count[id(handle)] = self.handle_count.get(id(handle), 0) + 1
        self.kinds: dict[type, Kind] = {}
        self.sizers: dict[type, Callable[[Any], int]] = {}
        self.held_elsewhere: set[int] = set()  # expanded in an earlier slice for nothing
        self.finishing = False
        self.boundary: dict[int, list[Any]] = {}  # id -> [object, found, view_found, label, holder, soft]
        self.boundary_views: list[tuple[int, int, int, int]] = []
        self.soft: dict[int, list[tuple[int, int]]] = {}  # id -> (handle index, edges)
        self.soft_edges: dict[int, int] = {}  # id -> all edges; filled when the index is closed
        self.visited = 0
        self.sums = [[0] * 10 for _ in parents]  # own loop objects shared buffer waste holders(4)
        self.buffers: dict[tuple[int, type, int], list[int]] = {}
        self.recorded_owner, self.record_limit = -1, 0
        self.record_ids: set[int] = set()
        self.globals_kinds: dict[type, bool] = {}
        self._clear()

    def _clear(self) -> None:
        self.index: dict[int, int] = {}
        self.ops: list[Any] = []
        self.found: list[int] = []
        self.view_found: list[int] = []
        self.count: list[int] = []
        self.label: list[int] = []
        self.seen_by: list[int] = []
        self.holder: list[int] = []
        self.flags: list[int] = []
        self.kind: list[Kind] = []
        self.ready: list[int] = []
        self.pending: list[int] = []
        self.shared: list[tuple[int, int]] = []
        self.cut = False

    # -- before the walk

    def add_globals(self, namespace: dict[str, object]) -> None:
        kinds = self.globals_kinds
        self.stops.add(id(namespace))
        for value in list(namespace.values()):
            kind = type(value)
            stops = kinds.get(kind)
            if stops is None:
                stops = kinds[kind] = bool(kind.__flags__ & HAVE_GC) and not issubclass(kind, type)
            if stops:
                self.stops.add(id(value))
        self.stops -= self.handle_count.keys()  # a barrier is looked up before a stop

    def add_stop(self, op: object) -> None:
        self.stops.add(id(op))

    def index_handles(self, lo: int, hi: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        complete = True
        for position in range(lo, min(hi, len(self.handles))):
            if id(self.handles[position]) not in self.handle_count:
                continue
            if time.monotonic() >= deadline:
                return False
            self._start(0, len(self.roots), deadline)
            first = self._node(self.handles[position])
            self._count_references(first)
            self.label[first], self.holder[first] = LOOP, 1
            self._expand(first)
            self._settle()
            complete &= not self.cut
            for i in range(len(self.ops)):
                if i != first and not self.flags[i] & (BARRIER | STOP) and self.found[i] < self.count[i]:
                    self.soft.setdefault(id(self.ops[i]), []).append((position, self.found[i]))
            self._end(last=True, count_loop=True)
        return complete

    def sort_handles(self) -> None:
        self.soft_edges = {key: sum(edges for _, edges in entries) for key, entries in self.soft.items()}

    # -- slices

    def walk(self, lo: int, hi: int, seconds: float, keep: bool) -> bool:
        hi = min(hi, len(self.roots))
        self._start(lo, hi, time.monotonic() + seconds)
        for position in range(lo, hi):
            if self.cut:
                break
            root = self.index.get(id(self.roots[position]), -1)
            if root < 0:
                root = self._node(self.roots[position])
                self._count_references(root)
            self.holder[root] = self.kind[root].holder or 1
            if not self.flags[root] & EXPANDED:
                self._expand(root)
        self._settle()
        if self.cut and not keep:
            self._clear()
            return False
        return self._end(last=lo == 0 and hi == len(self.roots), count_loop=False)

    def finish(self, seconds: float) -> bool:
        if not self.boundary:
            return True
        self.finishing = True
        self._start(0, len(self.roots), time.monotonic() + seconds)
        for kept in self.boundary.values():
            i = self._node(kept[0])
            self._count_references(i)
            self.found[i] += kept[1]
            self.view_found[i] += kept[2]
            self.label[i], self.holder[i] = kept[3], kept[4]
            self.flags[i] |= kept[5]
            if kept[3] > 0 and self.found[i] >= self.count[i] and not self.flags[i] & (LEAF | READY):
                self.ready.append(i)
                self.flags[i] |= READY
        self._settle()
        return self._end(last=True, count_loop=False, views=list(self.boundary_views))

    def results(
        self,
    ) -> tuple[bytes, list[tuple[int, type, int, int, int, int]], int]:
        sums = self.sums
        retained = [row[0] for row in sums]
        for index in range(len(sums) - 1, 0, -1):
            parent = self.parents[index]
            retained[parent] += retained[index]
            for column in (1, 2, 4, 5, 6, 7, 8, 9):
                sums[parent][column] += sums[index][column]
        rows = array("q")
        for row, kept in zip(sums, retained):  # noqa: B905
            rows.extend((row[0], kept, *row[1:]))
        buffers = [(*key, *values) for key, values in self.buffers.items()]
        return rows.tobytes(), buffers, self.visited  # type: ignore[return-value]

    def record(self, owner: int, limit: int) -> None:
        self.recorded_owner, self.record_limit = owner, limit

    def recorded(self) -> set[int]:
        return self.record_ids

    def close(self) -> list[object]:
        kept = [entry[0] for entry in self.boundary.values()]
        self.boundary.clear()
        self.roots, self.handles = [], []
        self._clear()
        return kept

    # -- the walk itself

    def _start(self, lo: int, hi: int, deadline: float) -> None:
        self._clear()
        self.lo, self.hi, self.deadline = lo, hi, deadline

    def _inside(self, label: int) -> bool:
        return label < 0 or (self.first_root[label] >= self.lo and self.last_root[label] < self.hi)

    def _common(self, a: int, b: int) -> int:
        if a < 0:
            return b
        if b < 0:
            return a
        depth, parents = self.depth, self.parents
        while a != b:
            if depth[a] >= depth[b]:
                a = parents[a]
            else:
                b = parents[b]
        return a

    def _kind_of(self, op: object) -> Kind:
        kind = self.kinds.get(type(op))
        if kind is None:
            kind = self.kinds[type(op)] = Kind(type(op), self.holder_types)
        return kind

    def _node(self, op: object) -> int:
        """A new node; its references are counted later, when no list of ours holds it as well."""
        i = len(self.ops)
        key = id(op)
        kind = self._kind_of(op)
        self.index[key] = i
        self.ops.append(op)
        self.kind.append(kind)
        self.found.append(0)
        self.view_found.append(0)
        self.count.append(0)
        self.label.append(NONE)
        self.seen_by.append(-1)
        self.holder.append(0)
        flags = STOP if kind.stop else 0 if kind.tracked else LEAF
        if key in self.barriers:
            flags |= BARRIER
            self.label[i] = self.barriers[key]
        elif key in self.stops:
            flags |= STOP
        elif key in self.handle_count:
            # the loop's own reference and the one in our list, for each time the loop holds it
            self.found[i] = 2 * self.handle_count[key]
            flags |= SOFT
        if key in self.boundary:
            self.found[i] += 1
        self.flags.append(flags)
        self.visited += 1
        if not self.visited & 255 and time.monotonic() > self.deadline:
            self.cut = True
        return i

    def _count_references(self, i: int) -> None:
        """What others hold: less the reference in ``ops`` and the one this call makes."""
        self.count[i] = _getrefcount(self.ops[i]) - 2

    def _changed(self, i: int) -> None:
        if self.flags[i] & EXPANDED and not self.flags[i] & PENDING:
            self.flags[i] |= PENDING
            self.pending.append(i)

    def _merge(self, source_label: int, source_soft: bool, source_holder: int, i: int) -> None:
        label, soft, holder = self.label[i], self.flags[i] & SOFT, self.holder[i]
        if source_label != LOOP or label < 0:
            # in the queue is what only the queue leads to: any shorter-lived way in wins
            if not holder or (label < 0 and source_label >= 0) or source_holder < holder:
                holder = source_holder
            holder = self.kind[i].holder or holder
        if source_label == LOOP:
            if label == NONE:
                label = LOOP
            soft = SOFT
        else:
            label = self._common(label, source_label)
            if source_soft:
                soft = SOFT
        if label != self.label[i] or soft != self.flags[i] & SOFT or holder != self.holder[i]:
            self.label[i] = label
            self.holder[i] = holder
            self.flags[i] |= soft
            self._changed(i)

    def _edges(self, i: int, add: bool) -> list[int]:
        """The nodes that node i refers to, once for each reference; new ones are added if asked."""
        op, kind = self.ops[i], self.kind[i]
        if not kind.tracked:
            return []
        skip = (id(op.__globals__), id(op.__builtins__)) if kind.function else ()
        edges: list[int] = []
        first_new = len(self.ops)
        target = None
        referents = gc.get_referents(op)
        for target in referents:
            if target is None or id(target) in skip or issubclass(type(target), type):
                continue
            j = self.index.get(id(target), -1)
            if j < 0:
                if not add or (_getrefcount(target) >= _IMMORTAL):
                    continue
                j = self._node(target)
            if not self.flags[j] & (BARRIER | STOP):
                edges.append(j)
        del referents, target, op
        for j in range(first_new, len(self.ops)):
            self._count_references(j)
        return edges

    def _expand(self, i: int) -> None:
        self.flags[i] |= EXPANDED
        edges = self._edges(i, add=True)
        label, holder, from_view = self.label[i], self.holder[i], self.kind[i].managed_buffer
        soft = bool(self.flags[i] & SOFT) and not self.flags[i] & BARRIER
        for j in edges:
            self.found[j] += 1
            self.view_found[j] += from_view
            self._merge(label, soft, holder, j)
            explained = self.found[j] >= self.count[j]
            if explained and not self.flags[j] & (EXPANDED | READY | LEAF) and self.label[j] != TOP:
                self.ready.append(j)
                self.flags[j] |= READY
            if label > 0 and self.seen_by[j] != label and (not explained or self.label[j] != label):
                self.shared.append((j, label))
                self.seen_by[j] = label

    def _relabel_all(self) -> None:
        while self.pending:
            i = self.pending.pop()
            self.flags[i] &= ~PENDING
            soft = bool(self.flags[i] & SOFT) and not self.flags[i] & BARRIER
            for j in self._edges(i, add=False):
                self._merge(self.label[i], soft, self.holder[i], j)

    def _can_wait_for_a_cycle(self, i: int) -> bool:
        if self.flags[i] & (EXPANDED | LEAF | BARRIER | STOP):
            return False
        if self.label[i] == LOOP:
            return self.kind[i].holder == _TRANSPORT
        if self.label[i] <= 0 or not self._inside(self.label[i]):
            return False
        return self.finishing or id(self.ops[i]) not in self.held_elsewhere

    def _ask_the_loop(self) -> bool:
        asked = False
        if not self.soft_edges:
            return False
        for i in range(len(self.ops)):
            if self.flags[i] & (BARRIER | STOP) or self.label[i] <= 0 or self.found[i] >= self.count[i]:
                continue
            key = id(self.ops[i])
            if key not in self.soft_edges or self.found[i] + self.soft_edges[key] < self.count[i]:
                continue
            for position, _edges in self.soft[key]:
                h = self.index.get(id(self.handles[position]), -1)
                if h < 0:
                    h = self._node(self.handles[position])
                    self._count_references(h)
                if self.flags[h] & EXPANDED:
                    continue
                if self.label[h] == NONE:
                    self.label[h] = LOOP
                self._expand(h)
                if self.cut:
                    return True
                asked = True
        return asked

    def _settle(self) -> None:
        cursor, progress = 0, True
        while True:
            self._relabel_all()
            if self.cut:
                return
            if self.ready:
                i = self.ready.pop()
                if not self.flags[i] & EXPANDED and self.label[i] != TOP:
                    self._expand(i)
                    progress = True
                continue
            while cursor < len(self.ops) and not self._can_wait_for_a_cycle(cursor):
                cursor += 1
            if cursor < len(self.ops):
                self._expand(cursor)
                cursor += 1
                progress = True
            elif self._ask_the_loop():
                progress, cursor = True, 0
            elif progress:
                progress, cursor = False, 0
            else:
                return

    # -- after the walk

    def _mark_unresolved(self) -> None:
        stack = []
        for i in range(len(self.ops)):
            if not self.flags[i] & (BARRIER | STOP) and self.found[i] < self.count[i]:
                self.flags[i] |= UNRESOLVED
                stack.append(i)
        while stack:
            i = stack.pop()
            if not self.flags[i] & EXPANDED:
                continue
            for j in self._edges(i, add=False):
                self.found[j] -= 1
                self.view_found[j] -= self.kind[i].managed_buffer
                if not self.flags[j] & UNRESOLVED:
                    self.flags[j] |= UNRESOLVED
                    stack.append(j)

    def _goes_to_boundary(self, i: int) -> bool:
        if not self.flags[i] & UNRESOLVED or not self.found[i] or self.label[i] <= 0:
            return False
        top = self.label[i]
        while self.parents[top] > 0:
            top = self.parents[top]
        return not self._inside(top)

    def _keep_boundary(self, i: int) -> None:
        key = id(self.ops[i])
        ours = key in self.boundary  # our reference was counted when the node was made
        if self.found[i] <= ours:
            return
        kept = self.boundary.setdefault(key, [self.ops[i], 0, 0, NONE, self.holder[i], 0])
        kept[1] += self.found[i] - ours
        kept[2] += self.view_found[i]
        kept[3] = self._common(kept[3], self.label[i])
        kept[4] = min(kept[4], self.holder[i])
        kept[5] |= self.flags[i] & SOFT

    def _bytes(self, i: int) -> int:
        kind = self.kind[i].type
        measure = self.sizers.get(kind)
        if measure is None:
            measure = self.sizers[kind] = sizer(kind)
        return measure(self.ops[i])

    def _end(
        self, last: bool, count_loop: bool, views: list[tuple[int, int, int, int]] | None = None
    ) -> bool:
        self._mark_unresolved()
        views = views if views is not None else []
        for i in range(len(self.ops)):
            flags = self.flags[i]
            if not last and self._goes_to_boundary(i):
                self._keep_boundary(i)
            if not last and flags & UNRESOLVED and flags & EXPANDED:
                # Whoever holds it is not in this slice; from another owner's side it looks just the same.
                self.held_elsewhere.add(id(self.ops[i]))
            if flags & (UNRESOLVED | STOP):
                continue
            if not last and self.boundary and id(self.ops[i]) in self.boundary:
                self.boundary[id(self.ops[i])][3] = TOP  # it moved between slices: count it once, here
            if self.label[i] == LOOP and not count_loop:
                continue
            kind = self.kind[i]
            if kind.view and not flags & BARRIER:
                views += visible(self.ops[i])
            owner = self.loop_owner if self.label[i] == LOOP else self.label[i]
            if owner <= 0 or (flags & BARRIER and not flags & EXPANDED):
                continue
            size = self._bytes(i)
            holder = self.holder[i] = self.holder[i] or 1
            row = self.sums[owner]
            row[0] += size
            row[2] += 1
            row[5 + holder] += size
            if flags & SOFT and not flags & BARRIER:
                row[1] += size
            if (
                self.recorded_owner >= 0
                and len(self.record_ids) < self.record_limit
                and self._common(owner, self.recorded_owner) == self.recorded_owner
            ):
                self.record_ids.add(id(self.ops[i]))
            if kind.buffer:
                row[4] += size
                entry = self.buffers.setdefault((owner, kind.type, holder), [0, 0, 0])
                entry[0] += 1
                entry[1] += size
        for i, owner in self.shared:
            shared_by = TOP if self.flags[i] & UNRESOLVED else self.label[i]
            if shared_by == owner:
                continue
            size, up = self._bytes(i), owner
            while up > 0 and up != shared_by:
                self.sums[up][3] += size
                up = self.parents[up]
        self._add_views(sorted(views), last)
        complete = not self.cut
        self._clear()
        return complete

    def _add_views(self, views: list[tuple[int, int, int, int]], last: bool) -> None:
        at = 0
        while at < len(views):
            base, first, shown, end = views[at][0], at, 0, 0
            while at < len(views) and views[at][0] == base:
                start = max(views[at][1], end)
                if views[at][2] > start:
                    shown += views[at][2] - start
                    end = views[at][2]
                at += 1
            i = self.index.get(base, -1)
            if i < 0:
                continue
            if self.flags[i] & UNRESOLVED:
                if not last and base in self.boundary:
                    self.boundary_views += views[first:at]
                continue
            owner = self.loop_owner if self.label[i] == LOOP else self.label[i]
            waste = views[first][3] - shown
            if owner <= 0 or self.found[i] != self.view_found[i] or waste <= 0:
                continue
            self.sums[owner][5] += waste
            entry = self.buffers.setdefault((owner, self.kind[i].type, self.holder[i]), [0, 0, 0])
            entry[2] += waste
