"""Restart intensity: how many restarts a supervisor bears before it gives up."""

from __future__ import annotations

import math

__all__ = ["RestartWindow"]


class RestartWindow:
    """OTP's window: more than ``intensity`` restarts within ``period`` seconds is too many.

    As in OTP, moments are whole seconds and the window includes its edge, so two restarts up to
    ``period + 1`` seconds apart can still count together.
    """

    __slots__ = ("_moments", "intensity", "period")

    def __init__(self, intensity: int, period: int) -> None:
        self.intensity = intensity
        self.period = period
        self._moments: list[int] = []

    def add(self, now_s: float) -> bool:
        """Count a restart at ``now_s``; False if that is one too many. O(intensity)."""
        moments = self._recent(now_s)
        moments.append(math.floor(now_s))
        self._moments = moments
        return len(moments) <= self.intensity

    def has_room(self, now_s: float) -> bool:
        """Whether :meth:`add` would return True."""
        return len(self._recent(now_s)) < self.intensity

    def _recent(self, now_s: float) -> list[int]:
        oldest = math.floor(now_s) - self.period
        return [moment for moment in self._moments if moment >= oldest]
