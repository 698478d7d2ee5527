"""Where the process stands as a whole: resident memory, its limit, and what the allocators hold.

Everything is read from ``/proc`` or asked of the allocators themselves; what a platform cannot say is
None, never a guess. ctypes is loaded at the first question, not when the agent starts.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

from diag.wire import model

_NO_LIMIT_BYTES = 1 << 60
"""cgroup v1 says "no limit" with a huge number."""
_MALLINFO_FIELDS = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
)
_BLOCKS_LINE = re.compile(rb"^# bytes in allocated blocks\s*=\s*([\d,]+)", re.MULTILINE)


def rss_bytes() -> int:
    """Resident memory now, from ``/proc/self/statm``."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def limit_bytes(proc: str = "/proc/self", root: str = "/sys/fs/cgroup") -> int | None:
    """The tightest cgroup memory limit on this process, v1 or v2; None where none is set."""
    found = []
    try:
        with open(f"{proc}/cgroup", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in lines:
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = f"{root}/memory", "memory.limit_in_bytes"
        else:
            continue
        # Inside a container the path may be the host's: then only the mounted root itself can be read.
        while True:
            limit = _read_limit(f"{base}{path.rstrip('/')}/{name}")
            if limit is not None:
                found.append(limit)
            if path in ("", "/"):
                break
            path = os.path.dirname(path)
    return min(found, default=None)


def _read_limit(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            value = int(file.read())
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return value if value < _NO_LIMIT_BYTES else None


def thread_count() -> int:
    """Threads of the process as the kernel counts them, diag's own among them."""
    return len(os.listdir("/proc/self/task"))


@dataclass(frozen=True)
class _Allocators:
    """Functions of the C library and of CPython, those that this platform has."""

    ctypes: Any
    libc: Any
    mallinfo2: Any
    malloc_trim: Any
    debug_stats: Any


@functools.cache
def _load() -> _Allocators:
    try:
        import ctypes
    except ImportError:
        return _Allocators(None, None, None, None, None)

    class Mallinfo2(ctypes.Structure):
        _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO_FIELDS)

    libc = ctypes.CDLL(None)
    mallinfo2 = getattr(libc, "mallinfo2", None)  # glibc 2.33; its predecessor wraps at 2 GB
    if mallinfo2 is not None:
        mallinfo2.restype = Mallinfo2
        mallinfo2.argtypes = ()
    trim = getattr(libc, "malloc_trim", None)
    if trim is not None:
        trim.argtypes = (ctypes.c_size_t,)
    # A library object of our own: prototypes set on ctypes.pythonapi would show in the application.
    debug_stats = getattr(ctypes.PyDLL(None), "_PyObject_DebugMallocStats", None)
    if debug_stats is not None:
        debug_stats.argtypes = (ctypes.c_void_p,)
        libc.open_memstream.restype = ctypes.c_void_p
        libc.open_memstream.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        libc.fclose.argtypes = (ctypes.c_void_p,)
        libc.free.argtypes = (ctypes.c_void_p,)
    return _Allocators(ctypes, libc, mallinfo2, trim, debug_stats)


def malloc_bytes() -> tuple[int, int] | None:
    """(in use, freed but kept) by the C library's allocator, mmapped chunks included; None where it cannot
    say (musl, glibc before 2.33). Walks its free lists: milliseconds on a fragmented heap."""
    found = _load().mallinfo2
    if found is None:
        return None
    info = found()
    return info.uordblks + info.hblkhd, info.fordblks


def python_bytes() -> int | None:
    """Bytes in allocated blocks of pymalloc; None where it says nothing (``PYTHONMALLOC=malloc``,
    tracemalloc, another allocator). Holds the interpreter lock; about 0.1 ms for 10 MB of small objects.

    CPython maps pymalloc's arenas itself, so nothing of this is in ``malloc_bytes`` too."""
    allocators = _load()
    if allocators.debug_stats is None:
        return None
    ctypes, libc = allocators.ctypes, allocators.libc
    text, size = ctypes.c_void_p(), ctypes.c_size_t()
    stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
    if not stream:
        return None
    try:
        allocators.debug_stats(stream)
    finally:
        libc.fclose(stream)
    try:
        said = ctypes.string_at(text.value, size.value) if text.value else b""
    finally:
        libc.free(text)
    match = _BLOCKS_LINE.search(said)
    return int(match[1].replace(b",", b"")) if match else None


def allocated_bytes() -> int:
    """Everything in use by both allocators: what an action's ``freed_bytes`` is the fall of. Where an
    allocator cannot say, resident memory stands in for both."""
    malloc, python = malloc_bytes(), python_bytes()
    if python is None and sys.getallocatedblocks() == 0:
        python = 0  # PYTHONMALLOC=malloc: there is only the one allocator
    if malloc is None or python is None:
        return rss_bytes()
    return malloc[0] + python


def memory(tasks: int) -> model.Memory:
    """The whole-process figures. A few milliseconds at most on a fragmented heap."""
    malloc = malloc_bytes()
    return model.Memory(
        rss_bytes=rss_bytes(),
        limit_bytes=limit_bytes(),
        python_bytes=python_bytes(),
        malloc_bytes=None if malloc is None else malloc[0],
        malloc_free_bytes=None if malloc is None else malloc[1],
        tasks=tasks,
        threads=thread_count(),
    )


def trim() -> model.Trimmed | None:
    """Give freed memory back to the system (``malloc_trim(0)``); None where the C library has no such call.
    The interpreter lock is not held, but other threads wait if they need the arena being trimmed."""
    found = _load().malloc_trim
    if found is None:
        return None
    before = rss_bytes()
    start = time.perf_counter()
    found(0)
    pause_ms = (time.perf_counter() - start) * 1000
    after = rss_bytes()
    return model.Trimmed(max(0, before - after), before, after, pause_ms)
