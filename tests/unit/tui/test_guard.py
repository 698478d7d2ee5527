"""The guard ends what it started, however its caller ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True);"
    "time.sleep(600)",
]


class Guarded:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tui.guard", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def start(self, name: str, argv: list[str]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"start": name, "argv": argv}).encode() + b"\n")
        self.process.stdin.flush()
        return self.event()

    def event(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found = json.loads(self.process.stdout.readline())
        assert isinstance(found, dict)
        return found


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(tmp_path / "demo")
    yield made
    for pipe in (made.process.stdin, made.process.stdout):
        assert pipe is not None
        pipe.close()
    made.process.wait(20)


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(test: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(guard: Guarded, name: str, argv: list[str]) -> int:
    """The pid, once the helper runs its own code."""
    pid = guard.start(name, argv)["pid"]
    until(lambda: "up" in (guard.folder / f"{name}.log").read_text())
    return int(pid)


def test_it_says_what_became_of_what_it_started(guard: Guarded) -> None:
    assert guard.start("a", SLEEPER)["started"] == "a"
    failed = guard.start("b", ["/nowhere/at/all"])
    assert failed["failed"] == "b"
    assert "No such file" in failed["error"]
    assert guard.start("c", [sys.executable, "-c", "raise SystemExit(7)"])["started"] == "c"
    assert guard.event() == {"ended": "c", "code": 7}


def test_when_its_input_closes_it_ends_them_and_removes_the_folder(guard: Guarded) -> None:
    pids = [started(guard, name, SLEEPER) for name in ("a", "b")]
    assert guard.process.stdin is not None
    guard.process.stdin.close()
    assert guard.process.wait(20) == 0
    assert not any(running(pid) for pid in pids)
    assert not guard.folder.exists()


def test_a_helper_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    from tui.guard import end

    child = subprocess.Popen(STUBBORN, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"up\n"
        end([child], grace_s=0.2)
    assert child.returncode == -signal.SIGKILL


def test_if_the_guard_itself_is_killed_the_kernel_ends_them(guard: Guarded) -> None:
    pid = started(guard, "a", SLEEPER)
    guard.process.kill()
    guard.process.wait(20)
    until(lambda: not running(pid))


def test_a_signal_to_the_caller_s_group_does_not_reach_them_first(guard: Guarded) -> None:
    pid = started(guard, "a", SLEEPER)
    assert os.getsid(pid) == guard.process.pid
    assert os.getsid(0) != guard.process.pid


def test_sigterm_to_the_guard_is_a_way_out_too(guard: Guarded) -> None:
    pid = started(guard, "a", SLEEPER)
    guard.process.terminate()
    assert guard.process.wait(20) == 0
    assert not running(pid)
