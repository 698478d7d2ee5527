"""Progress, crash and supervisor reports: one bounded line each, through ``logging``.

Loggers (all below ``collector.supervision``):

* ``progress``: INFO, something started
* ``supervisor``: ERROR, a child ended, failed to start or to stop, or a supervisor gave up; WARNING, a
  restart is delayed
* ``crash``: ERROR, a process died of an error
* ``application``: INFO or WARNING, one started or ended

Every record carries its fields as a plain dict of short strings and numbers in ``record.report``; no record
refers to a process, an exception or anything else that would keep memory alive in a handler's buffer.

:class:`ReportFormatter` writes any record, these and others, as one line of ``key=value`` pairs or JSON.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from collector.supervision.reasons import Crash, Reason, brief, is_clean, reason_text

if TYPE_CHECKING:
    from collector.supervision.pid import Pid

__all__ = ["ReportFormatter", "application", "crash", "progress", "supervisor", "unexpected", "unkillable"]

ROOT = "collector.supervision"
VALUE_CHARS = 400
LINE_CHARS = 4000

_progress = logging.getLogger(f"{ROOT}.progress")
_supervisor = logging.getLogger(f"{ROOT}.supervisor")
_crash = logging.getLogger(f"{ROOT}.crash")
_application = logging.getLogger(f"{ROOT}.application")

Report = dict[str, "str | int | float"]


def _emit(logger: logging.Logger, level: int, what: str, report: Report) -> None:
    line = f"{what} {pairs(report)}"
    logger.log(level, "%s", line, extra={"report": {"event": what, **report}})


def progress(supervisor_label: str, child: str, pid: Pid) -> None:
    """A supervisor started a child."""
    if _progress.isEnabledFor(logging.INFO):
        report: Report = {"supervisor": supervisor_label, "child": child, "pid": pid.number}
        report["start"] = pid.initial_call
        _emit(_progress, logging.INFO, "started", report)


def supervisor(
    supervisor_label: str, context: str, reason: Reason, child: str, level: int = logging.ERROR, **facts: Any
) -> None:
    """A supervisor's trouble.

    context: ``child_terminated``, ``start_error``, ``shutdown_error``, ``shutdown`` (gave up),
    ``delayed_restart``.
    """
    if _supervisor.isEnabledFor(level):
        report: Report = {"supervisor": supervisor_label, "child": child, **_reason(reason), **facts}
        _emit(_supervisor, level, context, report)


def crash(pid: Pid, reason: Reason, waiting: int) -> None:
    """A process died of an error."""
    if _crash.isEnabledFor(logging.ERROR):
        report: Report = {
            "process": pid.label,
            "pid": pid.number,
            "start": pid.initial_call,
            **_reason(reason),
        }
        if isinstance(reason, Crash) and reason.traceback:
            report["at"] = reason.traceback
        report["ancestors"] = ",".join(pid.ancestors[:8])
        report["messages"] = waiting
        _emit(_crash, logging.ERROR, "crash", report)


def unexpected(label: str, message: object) -> None:
    """A supervisor got a message it knows nothing of, and dropped it."""
    _emit(_supervisor, logging.ERROR, "unexpected_message", {"supervisor": label, "message": brief(message)})


def unkillable(pid: Pid, tries: int) -> None:
    """A process swallowed every cancellation and was given up: it still runs, on nobody's account."""
    report: Report = {"process": pid.label, "pid": pid.number, "start": pid.initial_call, "cancelled": tries}
    _emit(_crash, logging.CRITICAL, "unkillable", report)


def application(name: str, event: str, reason: Reason, type_: str) -> None:
    """An application started, stopped or ended."""
    level = logging.INFO if event == "started" or reason == "stopped" or is_clean(reason) else logging.WARNING
    if _application.isEnabledFor(level):
        report: Report = {"application": name, "type": type_}
        if event != "started":
            report.update(_reason(reason))
        _emit(_application, level, f"application_{event}", report)


def _reason(reason: Reason) -> Report:
    return {"reason": reason_text(reason, VALUE_CHARS)}


def pairs(report: Report) -> str:
    """``key=value key="two words"``, bounded, without line breaks."""
    return " ".join(f"{key}={_value(value)}" for key, value in report.items())[:LINE_CHARS]


def _value(value: object) -> str:
    if isinstance(value, (int, float)):
        return str(value)
    text = str(value)
    limit = VALUE_CHARS * 4 if " > " in text or " <- " in text else VALUE_CHARS
    if len(text) > limit:
        text = f"{text[: limit - 3]}..."
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return json.dumps(text, ensure_ascii=False)


class ReportFormatter(logging.Formatter):
    """One line a record, whoever logged it; at most a few kilobytes, exceptions folded in.

    style ``pairs``: ``time=... level=... logger=... event=... key=value``; ``json``: one object.
    timestamps: leave them out where the transport stamps lines itself (syslog).
    """

    def __init__(self, style: Literal["pairs", "json"] = "pairs", *, timestamps: bool = True) -> None:
        super().__init__()
        if style not in ("pairs", "json"):
            raise ValueError(f"log style is {style!r}; it must be 'pairs' or 'json'")
        self._json = style == "json"
        self._timestamps = timestamps

    def format(self, record: logging.LogRecord) -> str:
        fields: Report = {}
        if self._timestamps:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            fields["time"] = f"{stamp}.{int(record.msecs):03d}Z"
        fields["level"] = record.levelname.lower()
        fields["logger"] = record.name
        report = getattr(record, "report", None)
        if isinstance(report, dict):
            fields.update(report)
        else:
            fields["event"] = record.getMessage()[:LINE_CHARS]
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = " | ".join(self.formatException(record.exc_info).split("\n"))[-1500:]
        if not self._json:
            return pairs(fields)
        bounded = {
            key: value if isinstance(value, (int, float)) else str(value)[:1600]
            for key, value in fields.items()
        }
        return json.dumps(bounded, ensure_ascii=False, default=str)
