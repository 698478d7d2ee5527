"""Not being noticed: what keeps a picture from costing the target a pause of its own.

Two things would. Making ten thousand small objects at once sets off a full garbage collection, which
stops a large process for longer than the whole picture takes. And a thread that computes keeps the
event loop waiting for the interpreter lock, 5 ms at a time.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from diag.agent import native

_BREATH_S = 0.00005

_suspended = False


def breathe() -> None:
    """Let whoever waits for the interpreter lock have it. Call it every half millisecond or so of work; a
    sleep of 0 would win the lock back at once. Takes about 0.1 ms."""
    native.sleep(_BREATH_S)


@contextmanager
def no_collections() -> Iterator[None]:
    """Hold back *automatic* garbage collections while our own short-lived objects exist; if the application
    has switched them off itself, touch nothing. One thread at a time; meant for fractions of a second.
    What the application allocates meanwhile is looked at by the next collection, as always."""
    global _suspended
    if not gc.isenabled():
        yield
        return
    _suspended = True
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _suspended = False


def _resume_in_child() -> None:
    """A process forked in that moment must not live without a collector."""
    global _suspended
    if _suspended:
        _suspended = False
        gc.enable()


os.register_at_fork(after_in_child=_resume_in_child)
