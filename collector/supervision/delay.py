"""Delayed restart: a child that crashes too fast waits instead of taking its supervisor down.

OTP does not have this; it is the talk's ``supervisor2``. A crash restarts the child at once while the
supervisor's intensity allows. Where OTP's supervisor would give up, a child with a delay policy waits, its
siblings untouched, and is tried again when the delay has passed *and* the window has room again (with
intensity 0 the delay alone decides).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["DelayPolicy", "ExponentialDelay", "FixedDelay"]


class DelayPolicy(Protocol):
    """How long the n-th wait in a row takes. The row ends once the child has stayed up for its last wait
    or the supervisor's period, whichever is longer."""

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait; ``attempt`` counts from 0."""


@dataclass(frozen=True)
class FixedDelay:
    """Always the same wait."""

    seconds: float

    def __post_init__(self) -> None:
        if self.seconds < 0:
            raise ValueError(f"FixedDelay: seconds is {self.seconds}, it cannot be negative")

    def delay_s(self, attempt: int) -> float:
        return self.seconds


@dataclass(frozen=True)
class ExponentialDelay:
    """``first``, then ``factor`` times longer each time, never more than ``max`` seconds."""

    first: float = 1.0
    factor: float = 2.0
    max: float = 60.0

    def __post_init__(self) -> None:
        if self.first < 0 or self.factor < 1 or self.max < self.first:
            raise ValueError(
                f"ExponentialDelay(first={self.first}, factor={self.factor}, max={self.max}): "
                "needs 0 <= first <= max and factor >= 1"
            )

    def delay_s(self, attempt: int) -> float:
        delay = self.first
        for _ in range(min(attempt, 1000)):
            if delay >= self.max:
                break
            delay *= self.factor
        return min(delay, self.max)
