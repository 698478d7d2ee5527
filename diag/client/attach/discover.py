"""Which processes can be looked at: those whose agent listens in a folder that may be trusted."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from diag.client.connection import Connection
from diag.wire import model, places
from diag.wire.errors import DiagError

_HELLO_WITHIN_S = 2.0
_AT_ONCE = 8
_OF_A_USER = re.compile(r"diag-(\d+)\Z")


@dataclass(frozen=True)
class Prepared:
    """A process with an agent in it. ``problem`` is empty where the agent answers; else what is wrong, and
    only pid, path, uid and rss_bytes are known."""

    pid: int
    name: str
    python: str
    uid: int
    age_s: float | None
    rss_bytes: int | None
    engine: str
    allow_actions: bool
    path: str
    problem: str = ""


@dataclass(frozen=True)
class Socket:
    """A socket of a living process, not yet spoken to."""

    pid: int
    path: str
    uid: int
    """Owner of the folder, so of the process."""


def prepared() -> list[Prepared]:
    """Every prepared process this user may see, by pid; root sees those of all users. Asks each for its
    name, which takes a moment, and up to 2 s if one does not answer. Removes the sockets of dead ones."""
    found = list(sockets())
    if not found:
        return []
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(found))) as pool:
        return sorted(pool.map(_introduced, found), key=lambda each: each.pid)


def sockets() -> Iterator[Socket]:
    """The sockets of living processes. Speaks to nobody; removes the sockets of dead processes."""
    for folder, uid in _folders(os.geteuid()):
        try:
            if places.check_folder(folder, uid):
                continue
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            parsed = places.parse_socket_name(name)
            if parsed is None:
                continue
            pid, ticks = parsed
            path = os.path.join(folder, name)
            if places.start_ticks(pid) != ticks and _remove_if_dead(path):
                continue
            yield Socket(pid, path, uid)


def _folders(uid: int) -> list[tuple[str, int]]:
    """(folder, whose it must be) for every place worth a look."""
    found = dict.fromkeys(places.folders(uid), uid)
    found.setdefault(f"/run/user/{uid}/diag", uid)
    if uid == 0:
        for name in _names("/run/user"):
            if name.isdigit():
                found.setdefault(f"/run/user/{name}/diag", int(name))
        for name in _names("/tmp"):
            match = _OF_A_USER.match(name)
            if match:
                found.setdefault(f"/tmp/{name}", int(match[1]))
    return list(found.items())


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _remove_if_dead(path: str) -> bool:
    """Remove the socket of a process that died. Not if somebody answers: its pid may be of a namespace in
    which we cannot see it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_HELLO_WITHIN_S)
        try:
            probe.connect(path)
            return False
        except (ConnectionRefusedError, FileNotFoundError):  # or a link to a socket that is gone
            pass
        except OSError:
            return False
    try:
        os.unlink(path)
    except OSError:
        pass
    return True


def _introduced(found: Socket) -> Prepared:
    try:
        with Connection(found.path, hello_within_s=_HELLO_WITHIN_S) as connection:
            hello = connection.hello()
    except (DiagError, OSError, TypeError) as error:
        problem = error.message if isinstance(error, DiagError) else str(error)
        return Prepared(found.pid, "", "", found.uid, None, _rss(found.pid), "", False, found.path, problem)
    return _known(found, hello)


def _known(found: Socket, hello: model.Hello) -> Prepared:
    return Prepared(
        pid=found.pid,
        name=hello.target.name,
        python=hello.target.python,
        uid=hello.uid,
        age_s=max(0.0, time.time() - hello.started),
        rss_bytes=_rss(found.pid),
        engine=hello.engine,
        allow_actions=hello.allow_actions,
        path=found.path,
    )


def _rss(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
