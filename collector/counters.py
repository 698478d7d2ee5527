"""What was counted, for clients and listeners: the only thing tasks of different clients share.

Plain numbers. They outlive what they count (a stopped client keeps its totals), and hold no data of anybody.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["ClientCounters", "ListenerCounters"]


@dataclass
class ClientCounters:
    """Everything here is since the collector started."""

    accepted: int = 0
    """Messages taken over; each of them will be stored, or counted in ``lost``."""
    accepted_bytes: int = 0
    malformed: int = 0
    """Accepted (and stored) without a valid priority."""
    stored: int = 0
    """Messages synced to disk."""
    stored_bytes: int = 0
    """Octets they took there, compressed."""
    frames: int = 0
    lost: int = 0
    """Accepted, but not stored when a stop ran out of time; the log says why."""
    store_failures: int = 0
    """Attempts to write that failed and were repeated."""
    pauses: int = 0
    """How often reading from a sender paused because the client was over its budget."""

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


@dataclass
class ListenerCounters:
    connections: int = 0
    """Open now (tcp)."""
    connected: int = 0
    """Since the start."""
    received_bytes: int = 0
    truncated: int = 0
    """Messages cut at max_message_bytes, or by a sender that went away in the middle; accepted."""
    oversized: int = 0
    """Connections closed because of an incredible octet count."""
    framing_errors: int = 0
    """Connections closed because an octet-counted stream lost its counts."""
    unknown: int = 0
    """Messages of no known client, rejected."""
    refused: int = 0
    """Messages of a client that is stopped, not accepted."""
    dropped: int = 0
    """Messages of a client over its budget, not accepted (udp listeners that route: not to read on would
    hold up everybody's)."""
    port: int = 0
    """The port in use; 0 while it is closed."""
    last_port: int = 0
    """The port used last. A listener on "any free port" opens the same one again, where its senders look."""
    problem: str = ""
    """Why it could not be opened."""

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)
