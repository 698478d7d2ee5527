"""Which siblings fall, and rise again, with a failing child."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from collector.supervision.spec import Strategy

__all__ = ["affected"]


class Keyed(Protocol):
    @property
    def key(self) -> str: ...


K = TypeVar("K", bound=Keyed)


def affected(strategy: Strategy, children: Iterable[K], failed: K) -> list[K]:
    """The children to stop (from the last to the first) and start again (from the first to the last).

    In start order, the failed one among them. As in OTP that takes in siblings that were not running:
    one_for_all and rest_for_one also revive what was terminated by hand or had ended normally.
    """
    if strategy == "one_for_all":
        return list(children)
    if strategy == "rest_for_one":
        rest: list[K] = []
        for child in children:
            if rest or child.key == failed.key:
                rest.append(child)
        return rest
    return [failed]
