"""What was seen lately, for growth and the sparkline. Bounded: a window of samples, then forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from diag.client.history import slope_bytes_per_s

Point = tuple[float, float]
"""Seconds on a steady clock, bytes."""
Life = tuple[str, str]
"""An owner's id and incarnation: whoever comes back under its name starts anew."""

MOST_POINTS = 8
"""A slope is taken over at most this many points of the window: pairs grow with the square."""


def slope(points: Sequence[Point]) -> float | None:
    """Bytes per second over the points, thinned out to MOST_POINTS; None below two moments."""
    points = list(points)
    if len(points) > MOST_POINTS:
        step = (len(points) - 1) / (MOST_POINTS - 1)
        points = [points[round(step * index)] for index in range(MOST_POINTS)]
    return slope_bytes_per_s(points)


class History:
    """The bytes of each owner and the RSS over the last window."""

    def __init__(self, window_s: float = 10.0, rss_points: int = 240) -> None:
        self.window_s = window_s
        self._owners: dict[Life, deque[Point]] = {}
        self._rss: deque[Point] = deque(maxlen=rss_points)

    def add(self, when: float, retained: Mapping[Life, int], rss_bytes: int) -> None:
        """One sample. An owner that is not in it is forgotten."""
        oldest = when - self.window_s
        kept: dict[Life, deque[Point]] = {}
        for owner, value in retained.items():
            points = self._owners.get(owner) or deque()
            points.append((when, float(value)))
            while len(points) > 2 and points[0][0] < oldest:
                points.popleft()
            kept[owner] = points
        self._owners = kept
        self._rss.append((when, float(rss_bytes)))

    def growth(self) -> dict[Life, float | None]:
        """Bytes per second by owner over the window; None where it was seen only once."""
        return {owner: slope(points) for owner, points in self._owners.items()}

    def rss(self) -> tuple[float, ...]:
        return tuple(value for _, value in self._rss)

    def rss_growth(self) -> float | None:
        """Bytes per second of the RSS over the window."""
        if not self._rss:
            return None
        oldest = self._rss[-1][0] - self.window_s
        return slope([point for point in self._rss if point[0] >= oldest])

    def clear(self) -> None:
        self._owners.clear()
        self._rss.clear()
