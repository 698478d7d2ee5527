"""The spool's folder: is it fit to take what will be accepted? Asked before any socket is opened."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

__all__ = ["SpoolError", "SpoolLock", "explain", "probe"]

_PROBE_BYTES = 64 * 1024


class SpoolError(Exception):
    """The spool cannot be used; says what happened and what to try next."""


class SpoolLock:
    """Keeps a second collector out of the same folder (flock on ``.lock``) until ``release``."""

    def __init__(self, directory: Path) -> None:
        path = directory / ".lock"
        try:
            # Read-only: an open file to write would keep an operator from remounting the disk.
            self._fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise SpoolError(explain(directory, error)) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise SpoolError(
                f"spool {directory} is in use by another collector (pid {holder or 'unknown'}); "
                "stop it first (collector stop) or give this one its own [spool] directory"
            ) from None
        try:
            path.write_text(f"{os.getpid()}\n")
        except OSError as error:
            self.release()
            raise SpoolError(explain(directory, error)) from None

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def probe(directory: Path) -> None:
    """Make the folder, write 64 KiB there, sync and remove them. Raises SpoolError."""
    path = directory / f".probe-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            left = _PROBE_BYTES
            while left > 0:
                left -= os.write(fd, bytes(left))
            os.fdatasync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise SpoolError(explain(directory, error)) from None
    finally:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            pass


def explain(directory: Path, error: OSError) -> str:
    """What an operator can do about an error of the spool's file system."""
    reason = error.strerror or str(error)
    advice = {
        errno.ENOSPC: f"free some space (df -h {directory}) or move [spool] directory to a larger disk",
        errno.EDQUOT: "the disk quota is used up; raise it or move [spool] directory",
        errno.EROFS: "the file system is mounted read-only; remount it or move [spool] directory",
        errno.EACCES: f"give the collector's user (uid {os.getuid()}) write permission there",
        errno.EPERM: f"give the collector's user (uid {os.getuid()}) write permission there",
        errno.ENOTDIR: "a part of that path is a file; choose another [spool] directory",
        errno.EEXIST: "a file is in the way; remove it or choose another [spool] directory",
        errno.EIO: "the disk reports errors; look at dmesg and move [spool] directory",
    }.get(error.errno or 0, "check [spool] directory")
    return f"spool {directory} cannot be written: {reason}; {advice}"
