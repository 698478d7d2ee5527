"""The agent's socket: made privately, given away only to its owner and root, removed only if it is ours."""

from __future__ import annotations

import _socket
import errno
import os
import stat
import struct

from diag.agent.journal import Caller
from diag.wire import places

Socket = _socket.socket
"""The C type itself: ``socket.socket`` may be gevent's."""

_BACKLOG = 64
_UCRED = struct.Struct("3i")


def listen(socket_path: str | None) -> tuple[Socket, str]:
    """A listening non-blocking unix socket and its path. Raises OSError that says what to try next.

    Without a path: the first folder of ``places.folders`` that is ours, private and short enough."""
    if socket_path is not None:
        path = os.path.abspath(socket_path)
        try:
            return _bind(path), path
        except FileNotFoundError:
            folder = os.path.dirname(path)
            hint = f"make the folder {folder} first, or name another place with socket_path"
            raise FileNotFoundError(errno.ENOENT, hint, path) from None
        except PermissionError:
            hint = "no permission to make a socket there; name another place with socket_path"
            raise PermissionError(errno.EACCES, hint, path) from None
    ticks = places.start_ticks()
    if ticks is None:
        raise OSError("cannot read /proc/self/stat; name a place with socket_path")
    uid = os.geteuid()
    problems = []
    for folder in places.folders(uid):
        path = os.path.join(folder, places.socket_name(os.getpid(), ticks))
        try:
            places.make_folder(folder, uid)
            return _bind(path), path
        except OSError as error:
            problems.append(f"{folder}: {error.strerror or error}")
    raise OSError("no place for diag's socket (" + "; ".join(problems) + "); name one with socket_path")


def signpost(path: str) -> str | None:
    """A symbolic link to a socket at a place of the application's own choice, where ``diag ls`` looks; None
    where there is no fit place for it, for the socket itself is good without. Remove it with ``unlink``."""
    ticks, uid = places.start_ticks(), os.geteuid()
    for folder in places.folders(uid) if ticks is not None else ():
        link = os.path.join(folder, places.socket_name(os.getpid(), ticks or 0))
        if link == path:
            return None
        try:
            places.make_folder(folder, uid)
            if os.path.islink(link):  # of ours, from before a close() that could not remove it
                os.unlink(link)
            os.symlink(path, link)
            return link
        except OSError:
            continue
    return None


def _bind(path: str) -> Socket:
    length = len(os.fsencode(path))
    if length > places.MAX_PATH_BYTES:
        raise OSError(
            errno.ENAMETOOLONG,
            f"socket path too long: {length} bytes, {places.MAX_PATH_BYTES} at most;"
            " name a shorter one with socket_path",
            path,
        )
    _remove_dead(path)
    listener = Socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(path)
        # Nobody can connect before listen(), so there is no moment at which the mode is too wide.
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_dead(path: str) -> None:
    """Clear away the socket of a process that died. Raises OSError if something else is in the way."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise FileExistsError(errno.EEXIST, "socket_path exists and is not a socket; name another", path)
    probe = Socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        probe.connect(path)
    except (ConnectionRefusedError, FileNotFoundError):
        os.unlink(path)
        return
    except BlockingIOError:
        pass
    finally:
        probe.close()
    raise OSError(errno.EADDRINUSE, "another process answers on socket_path; name another", path)


def inode(path: str) -> tuple[int, int]:
    """What tells this socket file from a later one at the same path."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def unlink(path: str, ours: tuple[int, int]) -> None:
    """Remove the socket file if it is still the one we made."""
    try:
        if inode(path) == ours:
            os.unlink(path)
    except OSError:
        pass


def vanished(connection: Socket) -> bool:
    """Whether the other side has hung up. Takes nothing from the stream; any thread may ask."""
    try:
        return connection.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def accept(listener: Socket) -> Socket:
    """The next connection, non-blocking. Raises OSError, BlockingIOError if there is none."""
    descriptor, _address = listener._accept()  # type: ignore[attr-defined]
    connection = Socket(fileno=descriptor)
    connection.setblocking(False)
    return connection


def send(connection: Socket, data: memoryview) -> int:
    """How many bytes the socket took. Never a SIGPIPE, whatever the application does with that signal."""
    return connection.send(data, _socket.MSG_NOSIGNAL)


def caller(connection: Socket) -> Caller:
    """Who connected, as the kernel recorded it."""
    raw = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(raw)
    return Caller(uid, pid)
