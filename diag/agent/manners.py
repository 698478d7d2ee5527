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

_HELD = 0x7EDA1A6
"""The threshold while collections are held back: out of reach, and nobody else's number."""

_before: int | None = None
"""The application's own threshold, while it is replaced."""


def breathe() -> None:
    """Let whoever waits for the interpreter lock have it. Call it every half millisecond or so of work; a
    sleep of 0 would win the lock back at once. Takes about 0.1 ms."""
    native.sleep(_BREATH_S)


@contextmanager
def no_collections() -> Iterator[None]:
    """Hold back *automatic* garbage collections while our own short-lived objects exist. One thread at a
    time; meant for fractions of a second. What the application allocates meanwhile is looked at by the
    next collection, as always.

    By the threshold, not by ``gc.disable``: that would show in ``gc.isenabled``, and there is no telling
    our switch from one the application turns off meanwhile. A threshold it sets meanwhile stays. Only
    one that reads ours and sets it again later (``gc.set_threshold(*gc.get_threshold())`` around a
    picture) would keep it: the next picture puts that right."""
    global _before
    first, *others = gc.get_threshold()
    if first != _HELD:
        _before = first
    gc.set_threshold(_HELD, *others)
    try:
        yield
    finally:
        _release()


def _release() -> None:
    """Also in a process forked in that moment: it must not live without a collector."""
    first, *others = gc.get_threshold()
    if first == _HELD and _before is not None:
        gc.set_threshold(_before, *others)


os.register_at_fork(after_in_child=_release)
