"""The collector's own log: one structured line an event, to stderr, to syslog, or both.

It is quiet on purpose. Nothing is logged for a message that was received; what could happen for each
message (an unknown client, say) goes through a :class:`Throttle`, which says it once and then sums up.
"""

from __future__ import annotations

import logging
import logging.handlers
import socket
import sys
import time

from collector.config import Log, syslog_address
from collector.supervision import ReportFormatter
from collector.supervision.reports import pairs

__all__ = ["Throttle", "event", "set_up"]

Fact = str | int | float


def set_up(log: Log, name: str) -> None:
    """Send what the collector and its supervisors log to where ``log`` says. Raises OSError:
    there is no syslog."""
    root = logging.getLogger()
    root.setLevel(log.level.upper())
    if log.stderr:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(ReportFormatter())
        root.addHandler(handler)
    if log.syslog:
        remote = _SysLog(syslog_address(log.syslog), name)
        remote.setFormatter(ReportFormatter(timestamps=False))
        root.addHandler(remote)
    if not root.handlers:
        root.addHandler(logging.NullHandler())


class _SysLog(logging.handlers.SysLogHandler):
    """Datagrams to a syslog daemon, and never a wait for one: a local socket whose daemon does not read would
    otherwise stop the event loop with the first line (the talk's gen_udp stall). What cannot be sent is
    dropped; the next line that can says how many were."""

    socket: socket.socket

    def __init__(self, address: str | tuple[str, int], name: str) -> None:
        super().__init__(address, facility="daemon", socktype=socket.SOCK_DGRAM)
        self.ident = f"{name}: "
        self._dropped = 0
        self.socket.setblocking(False)
        if isinstance(address, tuple):  # looked up once, not with every line
            found = socket.getaddrinfo(*address, self.socket.family, socket.SOCK_DGRAM)
            self._peer = found[0][4]

    def emit(self, record: logging.LogRecord) -> None:
        dropped = f" dropped={self._dropped}" if self._dropped else ""
        priority = self.encodePriority(self.facility, self.mapPriority(record.levelname))
        message = f"<{priority}>{self.ident}{self.format(record)}{dropped}".encode()
        try:
            self._send(message)
        except OSError:
            self._dropped += 1
        else:
            self._dropped = 0

    def _send(self, message: bytes) -> None:
        if isinstance(self.address, tuple):
            self.socket.sendto(message, self._peer)
            return
        try:
            self.socket.send(message)
        except BlockingIOError:
            raise
        except OSError:  # the daemon was restarted
            self.socket.connect(self.address)
            self.socket.send(message)


def event(logger: logging.Logger, level: int, what: str, **facts: Fact) -> None:
    """Log ``what`` happened with its facts as ``key=value``."""
    if logger.isEnabledFor(level):
        text = f"{what} {pairs(facts)}" if facts else what
        logger.log(level, "%s", text, extra={"report": {"event": what, **facts}})


class Throttle:
    """Says the first of its kind at once, then at most one line a ``period_s`` with the sum of ``count``."""

    def __init__(self, logger: logging.Logger, period_s: float = 60.0) -> None:
        self._logger = logger
        self._period_s = period_s
        self._said: dict[str, tuple[float, int]] = {}

    def warning(self, what: str, *, count: int = 1, **facts: Fact) -> None:
        key = f"{what}:{facts.get('client', '')}"
        now = time.monotonic()
        said_at, held_back = self._said.get(key, (-self._period_s, 0))
        count += held_back
        if now - said_at < self._period_s:
            self._said[key] = (said_at, count)
            return
        self._said[key] = (now, 0)
        event(self._logger, logging.WARNING, what, count=count, **facts)
