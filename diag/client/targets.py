"""TARGET: what people call the process they mean. A pid, a unique name, or the path of a socket."""

from __future__ import annotations

import difflib
import os

from diag.client.attach import discover
from diag.client.connection import Connection
from diag.wire.errors import TargetError

_PID_DIGITS = 10
_PREPARE = "a process is prepared when it has called diag.serve(); see 'diag ls'"


def connect(target: str) -> Connection:
    """A connection to the process meant. Raises TargetError (not found, ambiguous, gone) or RpcError."""
    return Connection(resolve(target))


def resolve(target: str) -> str:
    """The path of the socket. Raises TargetError that lists the candidates when the target is not clear."""
    if "/" in target or target.endswith(".sock"):
        return target
    if target.isascii() and target.isdecimal() and len(target) <= _PID_DIGITS:
        return _by_pid(int(target))
    return _by_name(target)


def _by_pid(pid: int) -> str:
    for found in discover.sockets():
        if found.pid == pid:
            return found.path
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        raise TargetError(f"there is no process {pid}", "see 'diag ls'") from None
    if os.geteuid() not in (0, owner):
        raise TargetError(f"process {pid} belongs to uid {owner}", "run diag as that user, or as root")
    raise TargetError(f"process {pid} is not prepared", _PREPARE)


def _by_name(name: str) -> str:
    everyone = discover.prepared()
    found = [each for each in everyone if each.name == name]
    if len(found) == 1:
        return found[0].path
    if found:
        pids = ", ".join(str(each.pid) for each in found)
        raise TargetError(f"{len(found)} processes are called {name!r}", f"say which by pid: {pids}")
    names = sorted({each.name for each in everyone if each.name})
    close = difflib.get_close_matches(name, names, 3) or names[:5]
    hint = f"there are: {', '.join(close)}" if close else _PREPARE
    silent = [str(each.pid) for each in everyone if each.problem]
    if silent:
        hint += f"; not answering: {', '.join(silent)}"
    raise TargetError(f"no prepared process is called {name!r}", hint)
