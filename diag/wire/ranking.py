"""The order of a table's rows, for both sides of the socket.

An owner that merely *contains* the culprit must not outrank it: the application always holds most of
the memory, and that helps nobody. So an owner is ranked by

    score(o) = figure(o), unless a single child has more than half of it; then figure(o) - that child's

A supervisor whose own table, or several of whose tasks, hold the bytes therefore comes first; where one
task holds them, the task comes first and its supervisor is found in its ancestors. The process contains
everyone and always comes last.
"""

from __future__ import annotations

from collections.abc import Sequence

from diag.wire.model import Owner, Table

BY = {
    "buffers": "buffer_bytes",
    "retained": "retained_bytes",
    "waste": "waste_bytes",
    "growth": "growth_bytes_per_s",
}
"""What a table can be ranked by, and the field of Owner that is compared."""


def order(parents: Sequence[int], figures: Sequence[float]) -> list[int]:
    """Indexes in rank order, best first. ``parents[i]`` is an index or -1 (the process); ``figures`` are
    subtree figures. Ties keep the larger figure, then the given order. O(n log n)."""
    largest_child = [0.0] * len(parents)
    for index, parent in enumerate(parents):
        if parent >= 0 and figures[index] > largest_child[parent]:
            largest_child[parent] = figures[index]

    def key(index: int) -> tuple[bool, float, float]:
        figure, child = figures[index], largest_child[index]
        score = figure - child if child * 2 > figure else figure
        return (parents[index] < 0, -score, -figure)

    return sorted(range(len(parents)), key=key)


def ranked(table: Table, by: str) -> Table:
    """The table with its rows in the order of ``by``. Meant for tables with all rows: of a cut one it
    ranks what is there. Rows without the figure (growth of an owner seen once) come after those with."""
    rows = table.owners
    field = BY[by]
    index_of = {row.id: index for index, row in enumerate(rows)}
    known = [getattr(row, field) is not None for row in rows]
    parents = [-1 if row.parent is None else index_of.get(row.parent, len(rows)) for row in rows]
    # A parent that was cut away still counts as "not the process": point it at a row past the end.
    figures = [float(getattr(row, field) or 0) for row in rows]
    places = order([*parents, -1], [*figures, 0.0])
    best = [rows[i] for i in places if i < len(rows) and known[i]]
    rest = [rows[i] for i in places if i < len(rows) and not known[i]]
    return _with_rows(table, best + rest)


def _with_rows(table: Table, rows: Sequence[Owner]) -> Table:
    return Table(table.target, table.cost, tuple(rows), table.total_owners)
