"""The real program on the real demo, in a real terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.tui.tmux import Tmux

pytestmark = [pytest.mark.tmux, pytest.mark.timeout(240)]

DIAGTOP = [sys.executable, "-m", "tui.cli"]
ACME = "alcollect_client_sup:acme"
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SIZE = r"([\d.]+ (?:[KMG]i)?B)"


def size(text: str) -> float:
    number, unit = text.split(" ")
    return float(number) * UNITS[unit]


def until(test: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not test():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def processes_of(folder: Path) -> dict[int, str]:
    """The demo's processes: those whose command line names its temporary folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"{folder}/diagtop-demo-" in line and state != "Z":
                found[int(entry.name)] = line
    return found


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    folder = tmp_path / "t"
    folder.mkdir()
    return folder


@pytest.fixture
def demo(temp: Path) -> Iterator[Tmux]:
    """diagtop --demo at 80x24, live."""
    size = {"COLUMNS": "80", "LINES": "24"}  # as a parent may have left them: the terminal knows better
    with Tmux([*DIAGTOP, "--demo"], 80, 24, env={"TMPDIR": str(temp), **size}) as terminal:
        terminal.wait_for(r"RW ● LIVE", 60)
        terminal.wait_for(ACME, 30)
        yield terminal


def nothing_is_left(temp: Path) -> None:
    until(lambda: not processes_of(temp), f"all ended: {processes_of(temp)}")
    until(lambda: not list(temp.iterdir()), f"files removed: {list(temp.iterdir())}")


def test_the_whole_rescue(demo: Tmux, temp: Path) -> None:
    # Memory climbs, and who holds it is first by buffers.
    demo.wait_for(rf"^▸▲ {ACME} +running .*▲ [\d.]+ MiB", 60)
    demo.wait_for(r"RSS [\d.]+ MiB [▁▂▃▄▅▆▇█]+ ▲ [\d.]+ MiB/s")
    demo.wait_for(rf"^ ▲ {ACME}  supervisor · running")
    demo.wait_for(r"^ initial +collector\.clients\.ClientSupervisor\.init")
    demo.wait_for(r"^ current +collector\.supervision\.\S+:\d+")
    demo.wait_for(r"^ ancestors alcollect_sup ← lmcollect_sup ← lmcollect")
    demo.wait_for(r"^ buffers +[\d,]+ × \w+ in registry")

    # Forcing a collection brings little back.
    demo.send("g")
    demo.wait_for(r"! GC freed .*: little came back; [\d.]+ MiB is still held")

    # Why: the path that keeps it.
    demo.send("Enter")
    demo.wait_for(r"Why it is alive")
    demo.wait_for(r"1\. [\d.]+ MiB in [\d,]+ × \w+, held by registry")
    demo.send("Escape")
    demo.wait_for(r"WASTE")

    # Stop that child: the question names it, what goes along and what comes back.
    demo.send("x")
    demo.wait_for(r"Stop this supervisor\?")
    demo.wait_for(rf"▲ {ACME}")
    demo.wait_for(r"takes along 3: .*acme")
    demo.wait_for(rf"comes back +{SIZE} +[\d,]+ B predicted")
    demo.type(ACME)
    demo.send("Enter")
    done = demo.wait_for(rf"Stopped {ACME} \+3: {SIZE} predicted, {SIZE} freed\.", 60)
    predicted, freed = size(done[1]), size(done[2])
    assert predicted > 10 * UNITS["MiB"]
    assert freed >= 0.9 * predicted
    rss = demo.wait_for(rf"RSS {SIZE} → {SIZE}\.")
    before = size(rss[1])

    # It is down, the others serve on; what the allocator kept goes back.
    until(lambda: not re.search(rf"{ACME} +running", demo.screen()), "acme is down")
    demo.send("t")
    demo.wait_for(r"Trim")
    until(lambda: before - rss_of(demo) >= 0.9 * predicted, "the RSS fell by what was predicted")
    demo.send("2")
    demo.resize(80, 50)
    for client in ("globex", "initech", "umbrella"):
        demo.wait_for(rf"▲ \S*{client} +1:1")
    demo.resize(80, 24)

    # The journal has it all.
    demo.send("9")
    demo.wait_for(rf"✓ stop +alcollect_cl\S+acme +{SIZE} +{SIZE} +{SIZE}→{SIZE}")
    demo.wait_for(r"✓ collect")
    demo.wait_for(r"✓ trim")

    # And it can come back: nothing of it runs, so there is nothing to ask.
    demo.send("1")
    demo.wait_for(r"WASTE")
    demo.send("/")
    demo.type("terminated")
    demo.send("Enter")
    demo.wait_for(rf"^▸▲ {ACME}")
    demo.wait_for(r"^ ▲ \S+  supervisor · terminated")
    demo.send("R")
    demo.wait_for(rf"Restarted {ACME}", 60)
    demo.send("Escape")
    demo.wait_for(rf"{ACME} +running", 30)

    demo.send("q")
    demo.wait_for(r"exit code 0", 30)
    nothing_is_left(temp)


def rss_of(demo: Tmux) -> float:
    return size(demo.wait_for(rf"^ demo \d+ +RSS {SIZE}")[1])


def test_the_whole_application_can_go_and_come_back(demo: Tmux) -> None:
    demo.send("2")
    demo.wait_for(r"◆ lmcollect")
    demo.send("j", "x")
    demo.wait_for(r"Stop this application\?")
    demo.type("lmcollect")
    demo.send("Enter")
    demo.wait_for(r"Stopped lmcollect", 60)
    until(lambda: ACME not in demo.screen(), "its tree is gone")
    demo.wait_for(r"◆ lmcollect", 30)
    demo.send("/")
    demo.type("lmcollect")
    demo.send("Enter")
    demo.wait_for(r"/lmcollect  ")
    demo.wait_for(r"⏎ why")
    demo.send("Home", "j")
    demo.wait_for(r"^▸.◆ lmcollect")
    demo.send("R")
    demo.wait_for(r"Started lmcollect", 60)
    demo.wait_for(r"alcollect_sup", 30)


def diagtop_of(terminal: Tmux) -> int:
    found = subprocess.run(
        ["pgrep", "-P", str(terminal.pid), "-f", "tui.cli"], capture_output=True, text=True, check=False
    ).stdout.split()
    assert len(found) == 1, found
    return int(found[0])


@pytest.mark.parametrize("way", ["ctrl-c", "SIGTERM", "SIGKILL", "SIGHUP", "terminal closed"])
def test_however_diagtop_ends_nothing_is_left(demo: Tmux, temp: Path, way: str) -> None:
    assert len(processes_of(temp)) >= 3, "the guard, the collector and the load"
    if way == "ctrl-c":
        demo.send("C-c")
        demo.wait_for(r"exit code 0")
    elif way == "terminal closed":
        demo.close()
    else:
        os.kill(diagtop_of(demo), getattr(signal, way))
        demo.wait_for(r"exit code \d+")
    nothing_is_left(temp)


def test_a_demo_that_leaves_by_itself_is_clean_too(temp: Path) -> None:
    with Tmux([*DIAGTOP, "--demo", "--seconds", "2"], env={"TMPDIR": str(temp)}) as terminal:
        terminal.wait_for(r"exit code 0", 60)
        nothing_is_left(temp)


def test_when_the_collector_dies_it_is_said_and_nothing_crashes(demo: Tmux, temp: Path) -> None:
    collector = next(pid for pid, line in processes_of(temp).items() if " run --demo" in line)
    os.kill(collector, signal.SIGKILL)
    demo.wait_for(r"RW ✗ LOST", 30)
    demo.wait_for(r"The collector ended: signal 9")
    demo.send("g")
    demo.wait_for(r"Not connected|LOST")
    demo.resize(40, 10)
    demo.resize(100, 30)
    demo.send("q")
    demo.wait_for(r"exit code 0", 30)
    nothing_is_left(temp)


def test_a_demo_that_cannot_start_says_why_and_leaves_nothing(temp: Path) -> None:
    broken = temp / "broken"
    broken.mkdir()
    (broken / "collector.py").write_text("raise SystemExit('no collector today')\n")
    with Tmux(
        [*DIAGTOP, "--demo"], 100, 24, env={"TMPDIR": str(temp), "PYTHONPATH": str(broken)}
    ) as terminal:
        terminal.wait_for(r"diagtop: the demo's collector could not be started", 60)
        terminal.wait_for(r"exit code 3")
    until(lambda: [path.name for path in temp.iterdir()] == ["broken"], "files removed")
