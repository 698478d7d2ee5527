"""Growth: what several pictures of the same target say together. Pure functions over wire records."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from diag.wire.model import Table


def slope_bytes_per_s(samples: Sequence[tuple[float, float]]) -> float | None:
    """Growth of a series of (seconds, bytes): the median of the slopes between all pairs (Theil–Sen), which
    a few outliers do not bend. None for fewer than two moments. O(n²): meant for tens of samples."""
    slopes = [
        (later - earlier) / (t2 - t1)
        for at, (t1, earlier) in enumerate(samples)
        for t2, later in samples[at + 1 :]
        if t2 > t1
    ]
    return statistics.median(slopes) if slopes else None


def with_growth(before: Table, after: Table, seconds: float) -> Table:
    """``after`` with each owner's growth since ``before`` was taken, ``seconds`` earlier.

    An owner is the same if its id and its incarnation are. One that was not there before has no growth
    (None): it was seen once, and a short-lived task is no trend. Both tables should have all rows."""
    earlier = {(row.id, row.incarnation): row.retained_bytes for row in before.owners}
    rows = []
    for row in after.owners:
        known = earlier.get((row.id, row.incarnation))
        growth = None if known is None else slope_bytes_per_s([(0.0, known), (seconds, row.retained_bytes)])
        rows.append(replace(row, growth_bytes_per_s=growth))
    return replace(after, owners=tuple(rows))
