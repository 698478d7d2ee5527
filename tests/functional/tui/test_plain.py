"""diagtop on ordinary programs: no supervisors, no actions allowed, stalled, stopped, gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.tui.test_demo import until
from tests.functional.tui.tmux import Tmux

pytestmark = [pytest.mark.tmux, pytest.mark.timeout(180)]

PROGRAM = """
import asyncio, sys, time
import diag

async def keep(blocks):
    kept = []
    for _ in range(blocks):
        kept.append(memoryview(bytearray(1 << 20))[:32])
        await asyncio.sleep(0)
    print("ready", flush=True)
    await asyncio.Event().wait()

async def idle():
    await asyncio.Event().wait()

async def main():
    diag.serve(name=sys.argv[1], allow_actions=sys.argv[2] == "rw")
    tasks = [asyncio.create_task(keep(40), name="hoarder")]
    tasks += [asyncio.create_task(idle(), name=f"idle-{n}") for n in range(5)]
    if sys.argv[2] == "stalled":
        await asyncio.sleep(0.5)
        time.sleep(600)
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def program(name: str, mode: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, name, mode], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets of our own, so that nothing else is found."""
    folder = Path("/tmp") / f"dt-{os.getpid()}-{tmp_path.name[-12:]}"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def diagtop(runtime: Path, *arguments: str) -> Tmux:
    argv = [sys.executable, "-m", "tui.cli", "--interval", "0.5", *arguments]
    return Tmux(argv, 80, 24, env={"XDG_RUNTIME_DIR": str(runtime)})


def test_a_plain_task_is_ranked_first_and_cancelled(runtime: Path) -> None:
    with program("plain-rw", "rw"), diagtop(runtime, "plain-rw") as terminal:
        terminal.wait_for(r"^▸· hoarder +\w+ +40\.\d MiB", 30)
        terminal.wait_for(r"^ current +\S*")
        terminal.send("x")
        terminal.wait_for(r"(Stop|Cancel) this task\?")
        terminal.send("Right", "Enter")
        terminal.wait_for(r"✓ (Stopped|Cancelled) hoarder: 40\.\d MiB predicted, 40\.\d MiB freed", 60)
        until(lambda: "40." not in terminal.screen().splitlines()[4], "it left the first place")
        terminal.send("q")
        terminal.wait_for(r"exit code 0")


def test_a_read_only_program_can_be_looked_at_and_says_how_to_allow_more(runtime: Path) -> None:
    with program("plain-ro", "ro"), diagtop(runtime, "plain-ro") as terminal:
        terminal.wait_for(r"RO ● LIVE", 30)
        terminal.send("x")
        terminal.wait_for(r"Read-only.*\n.*allow_actions=True")
        terminal.send("Enter")
        terminal.wait_for(r"1\. 40\.\d MiB in 40 × bytearray")


def test_a_stalled_loop_can_still_be_seen(runtime: Path) -> None:
    with program("plain-stalled", "stalled"), diagtop(runtime, "plain-stalled") as terminal:
        terminal.wait_for(r"^▸· hoarder +\w+ +40\.\d MiB", 30)


def test_a_stopped_process_is_waited_for_in_sight_and_a_dead_one_is_said(runtime: Path) -> None:
    with program("plain-stop", "rw") as process, diagtop(runtime, str(process.pid)) as terminal:
        terminal.wait_for(r"● LIVE", 30)
        process.send_signal(signal.SIGSTOP)
        terminal.wait_for(r"… WAITING \d+ s", 30)
        process.send_signal(signal.SIGCONT)
        terminal.wait_for(r"● LIVE", 30)
        process.kill()
        terminal.wait_for(r"✗ LOST", 30)
        terminal.send("q")
        terminal.wait_for(r"exit code 0")


def test_a_program_that_comes_back_under_its_name_is_found_again(runtime: Path) -> None:
    with program("phoenix", "rw"):
        terminal = diagtop(runtime, "phoenix")
        terminal.wait_for(r"● LIVE", 30)
    with terminal:
        terminal.wait_for(r"✗ LOST", 30)
        with program("phoenix", "rw") as again:
            terminal.wait_for(rf"phoenix {again.pid} .*● LIVE", 30)
            terminal.send("9")
            terminal.wait_for(rf"restarted: pid|link.*{again.pid}|! link")


def test_without_a_target_the_only_process_is_attached_and_of_two_one_is_picked(runtime: Path) -> None:
    with program("one", "rw"):
        with diagtop(runtime) as terminal:
            terminal.wait_for(r"^ one \d+ .*● LIVE", 30)
        with program("two", "ro") as two, diagtop(runtime) as terminal:
            terminal.wait_for(r"Which process\?", 30)
            terminal.wait_for(rf"{two.pid} two")
            rows = [line for line in terminal.screen().splitlines() if " one " in line or " two " in line]
            terminal.send("Home", *(["j"] if " one " in rows[0] else []), "Enter")
            terminal.wait_for(r"^ two \d+ .*RO ● LIVE", 30)


def test_a_wrong_target_is_exit_3_with_help(runtime: Path) -> None:
    with diagtop(runtime, "no-such-name") as terminal:
        terminal.wait_for(r"no prepared process is called 'no-such-name'")
        terminal.wait_for(r"exit code 3")
