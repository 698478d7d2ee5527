"""What supervision raises. Each exception carries OTP's reason in ``.reason``.

How OTP's returns map::

    {ok, Pid}                      the Pid is returned
    {ok, undefined} / ignore       None is returned
    ok                             None is returned
    {error, Reason}                SupervisorError, StartError or ApplicationError, .reason == Reason
    exit({timeout, {gen_server, call, ...}})        CallTimeout
    exit({noproc | Reason, {gen_server, call, ...}})  ServerDown, .reason is why

with atoms as strings and tuples as tuples: ``"not_found"``, ``"already_present"``, ``"running"``,
``"restarting"``, ``"simple_one_for_one"``, ``("already_started", pid)``,
``("shutdown", ("failed_to_start_child", id, reason))``.
"""

from __future__ import annotations

from collections.abc import Sequence

from collector.supervision.reasons import Reason, brief, reason_text

__all__ = ["ApplicationError", "CallError", "CallTimeout", "ServerDown", "StartError", "SupervisionError"]
__all__ += ["SupervisorError"]


class SupervisionError(Exception):
    """Something asked of a process, a supervisor or an application was refused or failed."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class StartError(SupervisionError):
    """A process did not start: its ``init`` failed, or its name is taken."""

    def __init__(self, what: str, reason: Reason) -> None:
        super().__init__(f"{what} did not start: {reason_text(reason)}", reason)


_ADVICE = {
    "not_found": "there is no such child; which_children() lists what there is",
    "already_present": "a child with this id is known and stopped; use restart_child or delete_child",
    "running": "the child is running; terminate_child it first",
    "restarting": "the child is being restarted; terminate_child ends that",
    "simple_one_for_one": "a child of a simple_one_for_one supervisor has no id; use the Pid",
}


class SupervisorError(SupervisionError):
    """A supervisor refused a request, or a child it was to start failed."""

    def __init__(self, operation: str, child: object, reason: Reason) -> None:
        advice = _ADVICE.get(reason) if isinstance(reason, str) else None
        super().__init__(f"{operation}({brief(child, 80)}): {advice or reason_text(reason)}", reason)


class ApplicationError(SupervisionError):
    """An application could not be started or stopped."""

    def __init__(self, operation: str, name: str, reason: Reason) -> None:
        super().__init__(f"application {operation}({name}): {reason_text(reason)}", reason)


class CallError(SupervisionError):
    """A call got no answer."""

    def __init__(self, message: str, server: str, reason: Reason) -> None:
        super().__init__(message, reason)
        self.server = server


class CallTimeout(CallError):
    """The server did not answer in time. It may still work on the request; a late answer is dropped."""

    def __init__(self, server: str, request: object, timeout_s: float) -> None:
        text = brief(request, 120)
        super().__init__(f"{server} did not answer {text} within {timeout_s:g} s", server, "timeout")


class ServerDown(CallError):
    """The server is not there, or ended before it answered."""

    def __init__(self, server: str, request: object, reason: Reason) -> None:
        why = "there is no such process" if reason == "noproc" else f"it ended: {reason_text(reason, 300)}"
        super().__init__(f"{server} cannot answer {brief(request, 120)}: {why}", server, reason)


def names(items: Sequence[str]) -> str:
    """``a, b or c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"
