"""The client's table: what its tasks know together, owned by the client's supervisor (an ets table)."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ClientTable"]

MOST_SOURCES = 1024
OTHERS = "(others)"


class ClientTable:
    """Messages by sending address; bounded, so that made-up addresses cannot fill the memory.

    headers: what the sub-binary fault keeps (see :mod:`collector.faults`); otherwise empty.
    """

    __slots__ = ("__weakref__", "headers", "sources")
    __diag_holder__ = "registry"

    def __init__(self) -> None:
        self.sources: dict[str, int] = {}
        self.headers: dict[str, list[memoryview]] = {}

    def count(self, sources: Mapping[str, int]) -> None:
        for source, count in sources.items():
            if source not in self.sources and len(self.sources) >= MOST_SOURCES:
                source = OTHERS
            self.sources[source] = self.sources.get(source, 0) + count

    def keep(self, fault: str, header: memoryview) -> None:
        self.headers.setdefault(fault, []).append(header)

    def forget(self, fault: str) -> None:
        self.headers.pop(fault, None)
