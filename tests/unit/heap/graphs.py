"""Random heaps: owners in a tree, and below them every kind of object that can hold another.

A heap is decoded from plain integers, so that hypothesis can shrink it. What each owner would free is
then a question with an answer in reality: drop the owner and see what the allocator got back.
"""

from __future__ import annotations

import functools
import gc
import sys
import tracemalloc
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diag.agent.heap import engine
from diag.agent.heap.owners import OwnerNode, OwnerTree

KEYS = tuple(f"key_{n}" for n in range(40))


class Root:
    """Stands for a task: an owner's own object."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: list[Any] = []


GONE = Root()


class Plain:
    def __init__(self, value: Any) -> None:
        self.first = value
        self.second = None


class Slotted:
    __slots__ = ("first", "second")

    def __init__(self, value: Any) -> None:
        self.first = value
        self.second = None


class Registry(dict):  # type: ignore[type-arg]
    __diag_holder__ = "registry"


class Mailbox(deque):  # type: ignore[type-arg]
    __diag_holder__ = "queue"


class LyingSize(list):  # type: ignore[type-arg]
    def __sizeof__(self) -> int:
        raise AssertionError("the target's own code was run")


# A class's first instances differ in size (3.11, 3.12): let them pass.
for _ in range(64):
    Plain(None)


def _closure(value: Any) -> Callable[[], Any]:
    def inner() -> Any:
        return value

    return inner


def _generator(value: Any) -> Iterator[Any]:
    yield
    yield value


def _suspended(value: Any) -> Iterator[Any]:
    suspended = _generator(value)
    # 3.12 keeps the exception that last closed a running generator: there it stays unstarted.
    if sys.version_info[:2] != (3, 12):
        next(suspended)
    return suspended


async def _never(value: Any) -> Any:
    return value


def _view(value: Any) -> Any:
    base = value if type(value) in (bytes, bytearray) else bytes(700)
    return memoryview(base)[3 : 3 + len(base) // 2]


def _with_dict(value: Any) -> Any:
    plain = Plain(value)
    plain.__dict__  # noqa: B018 - the point: the instance now has a dict object
    return plain


MAKERS: tuple[Callable[[Any, int], Any], ...] = (
    lambda value, n: [value],
    lambda value, n: {KEYS[n % 40]: value, n: None},
    lambda value, n: (value, n + 1000),
    lambda value, n: bytes(n * 37 + 1),
    lambda value, n: bytearray(n * 29),
    lambda value, n: Plain(value),
    lambda value, n: Slotted(value),
    lambda value, n: _view(value),
    lambda value, n: _closure(value),
    lambda value, n: deque([value] * (n % 5 + 1)),
    lambda value, n: _suspended(value),
    lambda value, n: _with_dict(value),
    lambda value, n: Registry(a=value),
    lambda value, n: Mailbox([value]),
    lambda value, n: LyingSize([value]),
    lambda value, n: functools.partial(Plain, value),
    lambda value, n: "text " * (n + 2),
    lambda value, n: {(n, "x"), n + 2.5},
    lambda value, n: [value] * (n % 7 + 1),
    lambda value, n: int.from_bytes(b"\x7f" * (n + 9), "big"),
)


GENERATOR = 10


def _link(holder: Any, value: Any) -> None:
    """One more reference, where the holder can take one; this is how cycles and sharing come about."""
    kind = type(holder)
    if kind in (list, deque, Mailbox, LyingSize):
        holder.append(value)
    elif kind in (dict, Registry):
        holder[KEYS[len(holder) % 40]] = value
    elif kind in (Plain, Slotted):
        holder.second = value
    elif kind is Root:
        holder.held.append(value)


def fill_free_lists() -> None:
    """3.10 keeps a frame for each code object and some deque blocks when it lets go of them, and a
    full collection does not empty those places; so they are filled before anything is measured."""
    _suspended(None)
    blocks = [deque([None]) for _ in range(20)]
    del blocks


class Heap:
    """``roots[i]`` are the objects of owner i (of ``parents``); ``outside`` is an unknown holder."""

    def __init__(
        self,
        parents: list[int],
        things: list[tuple[int, int, int]],
        links: list[tuple[int, int]],
        leave_garbage: bool = False,
    ):
        self.parents = [-1] + [p % (i + 1) for i, p in enumerate(parents)]
        owners = len(self.parents)
        self.roots: list[list[Root]] = [[Root()] for _ in range(owners)]
        self.roots[0] = []
        self.outside: list[Any] = []
        made: list[Any] = []
        value = thing = None
        for kind, size, where in things:
            value = made[where % len(made)] if made else None
            thing = MAKERS[kind % len(MAKERS)](value, size)
            made.append(thing)
            if where % 3 or owners == 1:
                place = where % (owners + 1)
                if place in (0, owners):
                    if where % 5 == 0:
                        self.outside.append(thing)
                else:
                    self.roots[place][0].held.append(thing)
            elif len(made) > 1:
                _link(made[where % (len(made) - 1)], thing)
        for source, target in links:
            if made:
                _link(made[source % len(made)], made[target % len(made)])
        del made, value, thing
        if not leave_garbage:
            gc.collect()  # cycles that nobody kept would hold on to what others own

    def tree(self) -> OwnerTree:
        nodes = [
            OwnerNode(parent, "task" if index else "process", list(self.roots[index]))
            for index, parent in enumerate(self.parents)
        ]
        return OwnerTree(nodes)

    def subtree(self, owner: int) -> list[int]:
        found = {owner}
        for index, parent in enumerate(self.parents):
            if parent in found:
                found.add(index)
        return sorted(found)

    def drop(self, owner: int) -> int:
        """Lets the owner and all below it go, and returns the bytes the allocator got back."""
        gone = self.subtree(owner)
        # Nothing may be allocated and kept between the two readings but what is measured.
        readings = array("q", (0, 0))
        fill_free_lists()
        gc.collect()
        readings[0] = tracemalloc.get_traced_memory()[0]
        gc.collect()
        readings[0] = tracemalloc.get_traced_memory()[0]
        for index in gone:
            self.roots[index][0] = GONE
        gc.collect()
        readings[1] = tracemalloc.get_traced_memory()[0]
        return readings[0] - readings[1]


@contextmanager
def measured_allocator() -> Iterator[None]:
    """Traces allocations; what exists already is frozen so that collections stay cheap."""
    callbacks, gc.callbacks[:] = list(gc.callbacks), []  # hypothesis times collections, and allocates
    # Thousands of pictures: going through all of the test run's modules each time would take minutes.
    modules = engine.loaded_modules
    engine.loaded_modules = lambda: [sys.modules[__name__]]
    gc.collect()
    gc.freeze()
    tracemalloc.start(1)
    # Blocks that were freed into CPython's pools before this moment are not traced: take them out.
    taken = [deque([None]) for _ in range(20)], [_suspended(None) for _ in range(3)]
    try:
        yield
    finally:
        del taken
        tracemalloc.stop()
        gc.unfreeze()
        gc.callbacks[:] = callbacks
        engine.loaded_modules = modules
