"""What measuring gives back: a row of figures for each owner, and its buffers by type and place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

from diag.wire.model import HOLDERS, Buffers, Cost


class Row(NamedTuple):
    """One owner's figures; all but ``own_bytes`` are sums over its subtree."""

    own_bytes: int
    retained_bytes: int
    loop_bytes: int
    objects: int
    shared_bytes: int
    buffer_bytes: int
    waste_bytes: int
    locals_bytes: int
    registry_bytes: int
    queue_bytes: int
    transport_bytes: int

    @property
    def holders(self) -> dict[str, int]:
        return dict(zip(HOLDERS, self[7:], strict=True))


class Rows(Sequence[Row]):
    """Ten thousand rows as one block of numbers; a Row is made when it is looked at, so that taking a
    picture makes next to no objects for the target's collector to count."""

    def __init__(self, figures: bytes) -> None:
        self._figures = memoryview(figures).cast("q")

    def __len__(self) -> int:
        return len(self._figures) // len(Row._fields)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        width = len(Row._fields)
        return Row._make(self._figures[index * width : (index + 1) * width])


class Picture:
    """The answer: ``rows`` beside the tree's nodes, and what it cost."""

    def __init__(
        self,
        rows: Rows,
        buffers: list[tuple[int, type, int, int, int, int]],
        parents: list[int],
        cost: Cost,
    ) -> None:
        self.rows = rows
        self.cost = cost
        self.recorded: set[int] = set()
        """Ids of the objects of the owner that was asked for."""
        self._parents = parents
        self._own: dict[int, dict[tuple[str, str], list[int]]] = {}
        for owner, kind, holder, count, size, waste in buffers:
            sums = self._own.setdefault(owner, {}).setdefault(
                (type_name(kind), HOLDERS[holder - 1]), [0, 0, 0]
            )
            for at, figure in enumerate((count, size, waste)):
                sums[at] += figure
        self._summed = False

    def buffers(self, index: int, limit: int = 10) -> tuple[Buffers, ...]:
        """The owner's buffers with those below it, by type and holder, largest first."""
        if not self._summed:
            self._summed = True
            for child in range(len(self._parents) - 1, 0, -1):
                mine = self._own.get(child)
                if mine:
                    above = self._own.setdefault(self._parents[child], {})
                    for key, figures in mine.items():
                        sums = above.setdefault(key, [0, 0, 0])
                        for at, figure in enumerate(figures):
                            sums[at] += figure
        found = [Buffers(*key, *figures) for key, figures in self._own.get(index, {}).items()]
        return tuple(sorted(found, key=lambda b: -b.bytes)[:limit])


def type_name(kind: type) -> str:
    """``bytes`` or ``numpy.ndarray``: read from the type, never by asking the object."""
    name = type.__dict__["__qualname__"].__get__(kind)
    module = type.__dict__["__module__"].__get__(kind)
    return name if module == "builtins" or not isinstance(module, str) else f"{module}.{name}"
