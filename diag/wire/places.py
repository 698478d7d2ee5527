"""Where agents listen: the folders, the names of the sockets, and who may be trusted with them.

A socket is called ``PID-STARTTIME.sock`` (start in clock ticks since boot, from ``/proc/PID/stat``),
so that a reused pid never passes for the process that died. Folders are private: 0700, the owner's
own, no symbolic link.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

MAX_PATH_BYTES = 107
"""What ``sockaddr_un`` holds beside its final NUL."""

_NAME = re.compile(r"(\d+)-(\d+)\.sock\Z")


def start_ticks(pid: int | str = "self") -> int | None:
    """When the process started, in clock ticks since boot; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def socket_name(pid: int, ticks: int) -> str:
    """The name of a process's socket in its folder."""
    return f"{pid}-{ticks}.sock"


def parse_socket_name(name: str) -> tuple[int, int] | None:
    """(pid, start ticks) of a socket's name; None if it is not one of ours."""
    match = _NAME.match(name)
    return (int(match[1]), int(match[2])) if match else None


def folders(uid: int, environ: Mapping[str, str] | None = None) -> list[str]:
    """Where agents of this user may listen, best first. The folders need not exist."""
    environ = os.environ if environ is None else environ
    found = []
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        found.append(os.path.join(runtime, "diag"))
    found.append(f"/tmp/diag-{uid}")
    return found


def check_folder(path: str, uid: int) -> str:
    """Why this folder must not be trusted with sockets of ``uid``; empty if it may be.

    Raises FileNotFoundError if there is none."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return f"{path} is a symbolic link"
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a folder"
    if status.st_uid != uid:
        return f"{path} belongs to uid {status.st_uid}, not to uid {uid}"
    if stat.S_IMODE(status.st_mode) & 0o077:
        return f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def make_folder(path: str, uid: int) -> None:
    """Make the private folder, or check the one that is there. Raises OSError saying what is wrong."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    problem = check_folder(path, uid)
    if problem:
        raise PermissionError(f"{problem}; remove it, or name another place with socket_path")
