"""Which of the load generator's messages are there: the proof of what was lost, if anything was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["Sequences"]

_MARK = re.compile(rb'\[load@32473 run="([0-9A-Za-z]{1,32})" seq="([0-9]{1,9})"\]')
GAPS_SHOWN = 5


class Sequences:
    """Sequence numbers seen, by run. One octet for each number up to the highest."""

    def __init__(self) -> None:
        self._seen: dict[str, bytearray] = {}
        self._duplicates: dict[str, int] = {}

    def add(self, messages: Sequence[bytes]) -> None:
        """Messages without a mark of the load generator are passed over."""
        for message in messages:
            found = _MARK.search(message)
            if found is None:
                continue
            run, number = found[1].decode(), int(found[2])
            seen = self._seen.setdefault(run, bytearray())
            if number >= len(seen):
                seen.extend(bytes(max(number + 1 - len(seen), 4096)))
            if seen[number]:
                self._duplicates[run] = self._duplicates.get(run, 0) + 1
            seen[number] = 1

    def report(self) -> dict[str, dict[str, Any]]:
        """By run: ``highest`` number, how many of 1..highest are ``missing`` (what was lost after the
        highest cannot be seen from here: compare with what was sent), ``duplicates``, ``first_gaps``."""
        return {run: self._one(run, seen) for run, seen in self._seen.items()}

    def _one(self, run: str, seen: bytearray) -> dict[str, Any]:
        highest = seen.rfind(1)
        numbers = seen[1 : highest + 1]
        gaps: list[tuple[int, int]] = []
        at = numbers.find(0)
        while at >= 0 and len(gaps) < GAPS_SHOWN:
            end = numbers.find(1, at)
            gaps.append((at + 1, end))
            at = numbers.find(0, end)
        return {
            "highest": highest,
            "received": numbers.count(1),
            "missing": numbers.count(0),
            "duplicates": self._duplicates.get(run, 0),
            "first_gaps": gaps,
        }
