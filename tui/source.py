"""What the screens need of a target: the client's typed, blocking calls.

The session core only knows this protocol; ``diag.client`` fills it for a live process, tests fill it
with a fake, a recording could fill it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from diag.wire.model import (
    Collected,
    Hello,
    JournalEntry,
    Memory,
    Stopped,
    Table,
    Trimmed,
    Why,
)


class Source(Protocol):
    """One open way to one target. Calls block; a call may be broken off by ``close`` from another thread.

    ``expect`` is the incarnation of the row that was seen: a successor under the same id is left alone.

    Errors: OSError (gone, refused, timed out) or ``diag.wire.errors`` exceptions, which carry a hint.
    """

    def hello(self) -> Hello: ...
    def top(
        self, by: str = "buffers", limit: int | None = None, *, with_ancestors: bool = False
    ) -> Table: ...
    def memory(self) -> Memory: ...
    def why(self, owner_id: str) -> Why: ...
    def collect(self) -> Collected: ...
    def trim(self) -> Trimmed: ...
    def stop(self, owner_id: str, expect: str | None = None) -> Stopped: ...
    def restart(self, owner_id: str, expect: str | None = None) -> Stopped: ...
    def start(self, owner_id: str, expect: str | None = None) -> Stopped: ...
    def cancel(self, owner_id: str, expect: str | None = None) -> Stopped: ...
    def journal(self) -> tuple[JournalEntry, ...]: ...
    def close(self) -> None: ...


Connect = Callable[[], Source]
"""Opens a fresh way to the target; called again after the old one broke."""
