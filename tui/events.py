"""What the session core tells its listener: frozen records, safe to keep and to draw from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diag.wire.model import Collected, Hello, Memory, Owner, Stopped, Table, Trimmed, Why


@dataclass(frozen=True)
class Sample:
    """One refresh: everything a screen draws from."""

    number: int
    at: float
    """Seconds since the epoch."""
    order: str
    hello: Hello
    table: Table
    """With the growth of each owner over the window, where it was seen more than once."""
    memory: Memory
    rss_bytes: tuple[float, ...]
    """Oldest first."""
    rss_growth: float | None

    def owner(self, owner_id: str | None) -> Owner | None:
        return self.index.get(owner_id) if owner_id is not None else None

    index: Mapping[str, Owner] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Link:
    """How things stand between us and the target: ``connecting``, ``live``, ``refused`` (it answers, but
    will not say what was asked) or ``lost``."""

    state: str
    text: str = ""
    hint: str = ""
    retry_s: float | None = None
    hello: Hello | None = None


@dataclass(frozen=True)
class Line:
    """One line of the journal: an action with its figures, or something that happened to the link."""

    time: float
    action: str
    victim: str
    outcome: str
    predicted_bytes: int | None = None
    freed_bytes: int | None = None
    rss_before: int | None = None
    rss_after: int | None = None
    uid: int | None = None
    caller_pid: int | None = None


@dataclass(frozen=True)
class Journal:
    lines: tuple[Line, ...]
    """Oldest first."""


@dataclass(frozen=True)
class Started:
    """A command was begun; it may take seconds."""

    action: str
    victim: str


@dataclass(frozen=True)
class Released:
    """One owner before and after a collection."""

    owner: Owner
    before_bytes: int
    after_bytes: int
    ended: bool = False
    """It is no more: what it held went with it, whether or not the collector was the reason."""

    @property
    def released_bytes(self) -> int:
        return self.before_bytes - self.after_bytes


@dataclass(frozen=True)
class Done:
    """A command ended. Exactly one of the records is set when it went well, none when ``error`` is."""

    action: str
    victim: str
    owner_id: str = ""
    """Of ``why``: who it is about."""
    collected: Collected | None = None
    trimmed: Trimmed | None = None
    stopped: Stopped | None = None
    why: Why | None = None
    released: tuple[Released, ...] = ()
    complete: bool = True
    """False: one of the pictures compared was cut off."""
    held_bytes: int | None = None
    """What all owners held just before, for comparison."""
    error: str = ""
    hint: str = ""


Event = Sample | Link | Journal | Started | Done
"""What the listener receives."""
