"""Real target processes for the agent's tests: started, waited for, talked to, and always ended."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 30.0

PREAMBLE = """
import asyncio, mmap, os, struct, sys, threading, time
import diag

_beats = mmap.mmap(os.open(os.environ["BEATS"], os.O_RDWR), 8)

async def beat():
    count = 0
    while True:
        count += 1
        _beats[:8] = struct.pack("<q", count)
        await asyncio.sleep(0.002)

def ready():
    print("ready", flush=True)

def told():
    'The next line the test sends.'
    return sys.stdin.readline().strip()

"""


def wait_until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The condition's first true value; AssertionError saying what never came."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"within {deadline_s:g} s never came: {what}")
        time.sleep(0.005)


class Target:
    """One running program with an agent in it. ``program`` follows PREAMBLE; it calls ``ready()``."""

    def __init__(self, folder: Path, program: str, runtime: Path, *, python: str = sys.executable) -> None:
        self.runtime = runtime
        self._script = folder / "program.py"
        self._script.write_text(PREAMBLE + textwrap.dedent(program))
        beats = folder / "beats"
        beats.write_bytes(bytes(8))
        self.stderr_path = folder / "stderr"
        self.env = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(runtime),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "BEATS": str(beats),
        }
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(
                [python, str(self._script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=self.env,
                cwd=folder,
                text=True,
            )
        with open(beats, "rb") as file:
            self._beats = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
        self.expect("ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def path(self) -> str:
        """The agent's socket."""
        found = list((self.runtime / "diag").glob(f"{self.pid}-*.sock"))
        assert len(found) == 1, found
        return str(found[0])

    @property
    def beats(self) -> int:
        """How often the loop has come round."""
        count: int = struct.unpack("<q", self._beats[:8])[0]
        return count

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text()

    def expect(self, line: str) -> None:
        """Read the program's next line of output."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        assert said == line, f"expected {line!r}, got {said!r}; stderr: {self.stderr}"

    def tell(self, line: str) -> None:
        """Send a line to the program."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def goes_on(self, beats: int = 20) -> None:
        """The loop comes round that many more times; a stuck or dead one does not."""
        start = self.beats
        wait_until(lambda: self.beats >= start + beats, f"{beats} more beats of the loop")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def diag(self, *args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the diag command as a user would, without a terminal."""
        return subprocess.run(
            [sys.executable, "-m", "diag.client.cli", *args],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            **more,
        )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it and wait for it."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(20)

    def close(self) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def targets(tmp_path: Path) -> Iterator[Callable[..., Target]]:
    """Starts targets that share one (short) runtime folder, and ends them all."""
    runtime = Path(tempfile.mkdtemp(prefix="dt-", dir="/tmp"))
    started: list[Target] = []

    def start(program: str, **more: Any) -> Target:
        folder = tmp_path / f"target{len(started)}"
        folder.mkdir()
        started.append(Target(folder, program, runtime, **more))
        return started[-1]

    try:
        yield start
    finally:
        for target in started:
            target.close()
        shutil.rmtree(runtime, ignore_errors=True)
