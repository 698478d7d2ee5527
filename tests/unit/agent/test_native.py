"""The agent's threads are real ones, and leave nothing in the application's books."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import types
from typing import Any

import pytest

from diag.agent import native


def run(work: Any) -> None:
    """Run it in a thread of the agent's, to its end."""
    ended = native.allocate_lock()
    ended.acquire()
    before = _thread._count()
    native.start_thread(lambda: (work(), ended.release()))
    assert ended.acquire(timeout=20)
    for _ in range(2000):
        if _thread._count() <= before:
            return
        native.sleep(0.005)
    raise AssertionError("the thread did not end")


def test_a_thread_is_in_nobodys_list_and_its_stand_in_is_cleared_away() -> None:
    seen: list[Any] = []

    def work() -> None:
        seen.append([thread.ident for thread in threading.enumerate()])
        seen.append(_thread.get_ident())
        seen.append(threading.current_thread().name)  # as logging does; leaves a stand-in behind

    run(work)
    listed, ident, name = seen
    assert ident not in listed
    assert "Dummy" in name
    assert name not in [thread.name for thread in threading.enumerate()]


def test_a_thread_takes_no_signal_that_the_application_may_be_waiting_for() -> None:
    blocked: list[Any] = []
    run(lambda: blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    assert {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD} <= blocked[0]
    assert not {signal.SIGSEGV, signal.SIGABRT} & blocked[0]


def test_under_gevent_the_originals_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def get_original(module: str, name: str) -> Any:
        asked.append((module, name))
        return getattr(_thread, name)

    monkey: Any = types.ModuleType("gevent.monkey")
    monkey.get_original = get_original
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    native.allocate_lock()
    native.start_thread(lambda: None)
    assert asked == [("_thread", "allocate_lock"), ("_thread", "start_new_thread")]
