"""Measuring: the owner tree in, one row an owner out.

``measure`` takes the picture in slices, so that the target stands still for a few milliseconds at a
time and never for longer than the budget says. Between slices the interpreter lock is free.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from diag.agent.heap.owners import OwnerTree
from diag.agent.heap.picture import Picture, Rows
from diag.agent.heap.steps import directly, holding_still
from diag.wire.errors import UNSUPPORTED, RpcError
from diag.wire.model import Cost

_native: Any = None
_reason = ""
if sys.implementation.name != "cpython":
    _reason = f"the native engine knows CPython only; this is {sys.implementation.name}"
else:
    try:
        from diag.agent.heap import _heap as _native  # type: ignore[attr-defined, no-redef]
    except ImportError as error:
        _reason = (
            f"the native engine could not be loaded for CPython {sys.version_info[0]}.{sys.version_info[1]}"
            f" ({error}); install diagtop with a C compiler, or a wheel for this version"
        )


@dataclass(frozen=True)
class Budget:
    """What a picture may cost."""

    max_pause_ms: float = 50.0
    """No single pause is to be longer. An owner that cannot be walked in that time is cut off: its
    figure becomes a lower bound and the cost says ``complete: false``."""
    slice_ms: float = 3.0
    """What a slice aims at."""
    first_slice: int = 64
    """Owners' objects in the first slice; later ones follow ``slice_ms``."""
    largest_slice: int = 4096


def engine_name() -> str:
    """``native`` or ``fallback``."""
    return "native" if _native is not None else "fallback"


def fallback_reason() -> str:
    """Why the native engine is not there; empty when it is."""
    return _reason


def measure(
    tree: OwnerTree,
    budget: Budget | None = None,
    *,
    engine: str | None = None,
    record: int | None = None,
    record_limit: int = 200_000,
) -> Picture:
    """Who would free what. Call it from a thread of its own, never from the loop it looks at.

    Cost: about 100 ns an object natively, in pauses of ``budget.slice_ms``; some thirty times that
    without the C module. Keeps nothing once it has returned. ``engine`` picks one of the two.
    ``record`` names an owner whose objects' ids, and those of the owners below it, are listed in the
    picture's ``recorded`` (at most ``record_limit``).
    """
    _refuse_where_counts_lie()
    chosen = engine or engine_name()
    if chosen == "native":
        if _native is None:
            raise RuntimeError(_reason)
        measurement = _Measurement(tree, budget or Budget(), _native.Walk, chosen, directly)
    else:
        from diag.agent.heap.fallback import Walk

        measurement = _Measurement(tree, budget or Budget(), Walk, chosen, holding_still(tree))
    if record is not None:
        measurement.walk.record(record, record_limit)
    return measurement.run()


def _refuse_where_counts_lie() -> None:
    """Raises RpcError UNSUPPORTED where reference counts do not say what would be freed."""
    if sys.implementation.name != "cpython":
        raise RpcError(
            UNSUPPORTED,
            f"{sys.implementation.name} counts no references, so nobody can say what would be freed",
            "run the program on CPython to see who holds its memory",
        )
    if "t" in sys.abiflags:
        raise RpcError(
            UNSUPPORTED,
            "this is a free-threaded build, whose reference counts are spread over its threads",
            "run the program on an ordinary build of the same version",
        )


def garbage_bytes() -> int | None:
    """What ``gc.collect()`` would free, worked out without collecting; finalizers that bring objects back
    make it less. None where the C module is missing.

    Cost: one pause of about twice a full collection's, and 50 bytes an object while it lasts.
    """
    if _native is None:
        return None
    return int(_native.garbage(gc.get_objects())[0])


def frame_locals(coroutine: object) -> list[tuple[str, object]]:
    """A suspended coroutine's or generator's local variables, without making a frame or a dict of it
    (``f_locals`` would, and keep them alive). Empty where the C module is missing."""
    return _native.frame_locals(coroutine) if _native is not None else []


class _Measurement:
    def __init__(
        self,
        tree: OwnerTree,
        budget: Budget,
        walk: Callable[..., Any],
        engine: str,
        step: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.budget, self.engine, self.step = budget, engine, step
        self.loops = list(tree.loops)
        self.parents = [node.parent for node in tree.nodes]
        self.longest = self.held = 0.0
        self.slices = 0
        self.notes: list[str] = []
        roots: list[object] = []
        owners: list[int] = []
        seen: set[int] = set()
        for index in tree.depth_first():
            for root in tree.nodes[index].roots:
                for each in _with_coroutine(root):
                    if id(each) not in seen:
                        seen.add(id(each))
                        roots.append(each)
                        owners.append(index)
        self.owners = owners
        self.n_roots = len(roots)
        # Python walks a hundred times slower, so it starts with smaller steps.
        self.first_handles, self.first_roots = (256, budget.first_slice) if engine == "native" else (8, 4)
        handles = list(_loop_handles(self.loops))
        self.n_handles = len(handles)
        self.walk = walk(self.parents, roots, owners, handles, holder_types(), tree.loop_node)

    def run(self) -> Picture:
        started = time.perf_counter()
        kept: list[object] = []
        try:
            self._timed(self._mark_known)
            self._index_handles()
            self._walk_roots()
            if not self._timed(partial(self.walk.finish, self._seconds())):
                self._cut("what several tasks share took longer than the longest pause allowed")
            rows, buffers, visited = self.walk.results()
            recorded = self.walk.recorded()
        finally:
            kept = self.walk.close()
            self._let_go(kept)
        if sys.version_info >= (3, 14):
            self.notes.append("not verified on CPython 3.14 and later: take the figures as a hint")
        cost = Cost(
            mode="local",
            engine=self.engine,
            longest_pause_ms=round(self.longest * 1e3, 3),
            total_ms=round((time.perf_counter() - started) * 1e3, 3),
            slices=self.slices,
            objects=visited,
            complete=not self.notes,
            note="; ".join(dict.fromkeys(self.notes)),
        )
        picture = Picture(Rows(rows), buffers, self.parents, cost)
        picture.recorded = recorded
        return picture

    def _seconds(self) -> float:
        # What was walked must be added up as well, which takes about as long again.
        return self.budget.max_pause_ms / 2e3

    def _cut(self, why: str) -> None:
        self.notes.append(f"cut off, figures are lower bounds: {why}; allow a longer pause to see all")

    def _timed(self, call: Callable[[], Any]) -> Any:
        def timed() -> Any:
            start = time.perf_counter()
            answer = call()
            return answer, time.perf_counter() - start

        answer, seconds = self.step(timed)
        self.longest = max(self.longest, seconds)
        self.held = seconds
        self.slices += 1
        # Let whoever waits for the interpreter lock have it: with a sleep of 0 we would win it back.
        time.sleep(0.00005)
        return answer

    def _mark_known(self) -> None:
        namespace = cast(Any, types.ModuleType).__dict__[
            "__dict__"
        ]  # a lazy module's own lookup would load it
        for module in loaded_modules():
            if issubclass(type(module), types.ModuleType):
                self.walk.add_globals(namespace.__get__(module))
        for loop in self.loops:
            self.walk.add_stop(loop)

    def _index_handles(self) -> None:
        size, at = self.first_handles, 0
        while at < self.n_handles:
            upto = min(at + size, self.n_handles)
            if not self._timed(partial(self.walk.index_handles, at, upto, self._seconds())):
                self._cut("the event loop's timers and handles")
            at = upto
            size = _resized(size, self.held * 1e3, self.budget.slice_ms, 4, 8192)
        self.walk.sort_handles()

    def _walk_roots(self) -> None:
        size, at = min(self.first_roots, self.budget.first_slice), 0
        while at < self.n_roots:
            upto, several = self._end_of_slice(at, size)
            complete = self._timed(partial(self.walk.walk, at, upto, self._seconds(), not several))
            if not complete and several:
                size = max(1, (upto - at) // 2)
                continue
            if not complete:
                self._cut("one task holds more than can be walked in the longest pause allowed")
            at = upto
            size = _resized(size, self.held * 1e3, self.budget.slice_ms, 1, self.budget.largest_slice)

    def _end_of_slice(self, at: int, size: int) -> tuple[int, bool]:
        """Where it ends, so that an owner's own objects stay together, and whether it has several owners."""
        upto = min(at + size, self.n_roots)
        while upto < self.n_roots and self.owners[upto] == self.owners[upto - 1]:
            upto += 1
        return upto, self.owners[at] != self.owners[upto - 1]

    def _let_go(self, kept: list[object]) -> None:
        """The last reference may run a destructor: that belongs to the loop's thread, not to ours."""
        if not kept:
            return
        for loop in self.loops:
            try:
                loop.call_soon_threadsafe(kept.clear)
                return
            except RuntimeError:  # closed
                continue
        kept.clear()


def _with_coroutine(root: object) -> tuple[object, ...]:
    """A task and its coroutine: when the task ends, the coroutine's frame is cleared no matter who else
    still refers to the coroutine object."""
    if issubclass(type(root), asyncio.Task):
        coroutine: object = asyncio.Task.get_coro(cast("asyncio.Task[Any]", root))
        if coroutine is not None:
            return root, coroutine
    return (root,)


def _resized(size: int, took_ms: float, aim_ms: float, least: int, most: int) -> int:
    factor = min(2.0, max(0.25, aim_ms / max(took_ms, 0.001)))
    return max(least, min(most, int(size * factor)))


def loaded_modules() -> list[types.ModuleType]:
    """What modules hold is nobody's task; this says which those are."""
    return list(sys.modules.values())


def holder_types() -> list[tuple[type, int]]:
    """Classes known to be queues or transports, of modules the target has loaded anyway."""
    known = (
        ("asyncio.queues", "Queue", 3),
        ("queue", "Queue", 3),
        ("_queue", "SimpleQueue", 3),
        ("asyncio.transports", "BaseTransport", 4),
        ("asyncio.streams", "StreamReader", 4),
        ("asyncio.streams", "StreamWriter", 4),
    )
    found = []
    for module, name, number in known:
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type):
            found.append((kind, number))
    return found


def _loop_handles(loops: Iterable[asyncio.AbstractEventLoop]) -> Iterable[object]:
    """Every Handle a loop holds, once for each time it holds it. Loops of other makes show none."""
    for loop in loops:
        if not isinstance(loop, asyncio.BaseEventLoop):
            continue
        yield from list(getattr(loop, "_ready", ()))
        yield from list(getattr(loop, "_scheduled", ()))
        yield from list((getattr(loop, "_signal_handlers", None) or {}).values())
        watched = getattr(getattr(loop, "_selector", None), "_fd_to_key", None)
        if type(watched) is dict:
            for key in list(watched.values()):
                if isinstance(key.data, tuple):
                    yield from (handle for handle in key.data if isinstance(handle, asyncio.Handle))
