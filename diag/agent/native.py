"""Real threads and real locks, also in a target that gevent has patched, and no trace of them afterwards."""

from __future__ import annotations

import _thread
import importlib
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_OWN_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
_SIGNALS = signal.valid_signals() - _OWN_FAULTS
"""All but those a thread brings upon itself, which ``faulthandler`` must still see."""


def original(module: str, name: str) -> Any:
    """Something of the standard library as CPython made it: gevent's version would run the agent as a
    greenlet on the very thread that may be stuck."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def sleep(seconds: float) -> None:
    """``time.sleep``."""
    original("time", "sleep")(seconds)


def start_thread(target: Callable[..., None], *args: object) -> None:
    """Run ``target(*args)`` in a thread of its own that the interpreter does not wait for at exit.

    Not a ``threading.Thread``: that would show in the application's ``threading.enumerate()``, and be
    traced and profiled with it. It takes no signals: one that the application blocks everywhere, to wait
    for it, would otherwise end the process here. ``target`` must not raise. Raises RuntimeError if no
    thread can start."""

    def run() -> None:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            target(*args)
        finally:
            _forget_this_thread()

    original("_thread", "start_new_thread")(run, ())


def allocate_lock() -> Any:
    """A plain lock, as ``_thread.allocate_lock``."""
    return original("_thread", "allocate_lock")()


def _forget_this_thread() -> None:
    """Drop the stand-in that ``threading.current_thread()`` (so ``logging``) leaves behind for a thread it
    did not start; until 3.13 it would stay in ``threading.enumerate()`` for good."""
    active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    stand_in = active.get(_thread.get_ident())
    if type(stand_in) is threading._DummyThread:
        active.pop(_thread.get_ident(), None)
