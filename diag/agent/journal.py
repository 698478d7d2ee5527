"""What operators did to this process: a bounded list for the screens, a log line for the audit."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from diag.wire.model import Collected, JournalEntry, Stopped, Trimmed

_KEPT = 200
_QUIET = frozenset({"collect", "trim"})

log = logging.getLogger("diag")


@dataclass(frozen=True)
class Caller:
    """Who is at the other end of the socket, as the kernel says."""

    uid: int
    pid: int
    gone: Callable[[], bool] = lambda: False
    """Whether they have hung up meanwhile."""


@dataclass
class Aim:
    """What an action is aimed at; the name is the id until the owner has been found."""

    owner_id: str
    name: str


class Journal:
    """The last actions, oldest first. Every entry is also one line of the logger ``diag``: a warning for
    what stops something, so that it is seen under a default configuration too; info for the others."""

    def __init__(self) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=_KEPT)

    def entries(self, limit: int | None = None) -> list[JournalEntry]:
        """The latest ``limit`` entries, oldest first; all for None."""
        entries = list(self._entries)
        return entries if limit is None else entries[max(0, len(entries) - limit) :]

    def add(
        self,
        caller: Caller,
        action: str,
        aim: Aim,
        outcome: str,
        figures: Stopped | Collected | Trimmed | None = None,
    ) -> None:
        """Note one action: done, failed or refused."""
        entry = JournalEntry(
            time=time.time(),
            uid=caller.uid,
            caller_pid=caller.pid,
            action=action,
            victim=aim.name,
            predicted_bytes=None if isinstance(figures, (Trimmed, type(None))) else figures.predicted_bytes,
            freed_bytes=None if figures is None else figures.freed_bytes,
            rss_before=None if figures is None else figures.rss_before,
            rss_after=None if figures is None else figures.rss_after,
            outcome=outcome,
        )
        self._entries.append(entry)
        try:
            self._log(entry, aim)
        except Exception:  # a handler or filter of the application's: the action itself is done
            pass

    def _log(self, entry: JournalEntry, aim: Aim) -> None:
        action, outcome = entry.action, entry.outcome
        level = logging.INFO if action in _QUIET and outcome == "done" else logging.WARNING
        log.log(
            level,
            "action=%s victim=%r id=%r uid=%d pid=%d"
            " predicted_bytes=%s freed_bytes=%s rss_before=%s rss_after=%s outcome=%r",
            action,
            aim.name,
            aim.owner_id,
            entry.uid,
            entry.caller_pid,
            entry.predicted_bytes,
            entry.freed_bytes,
            entry.rss_before,
            entry.rss_after,
            outcome,
        )
