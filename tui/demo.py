"""``diagtop --demo``: a live collector with traffic and the talk's leak, watched, and gone afterwards.

The collector and its load generator are processes of their own, run by ``tui.guard``, which ends them
and removes their files as soon as this process is no more, however it went.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from diag.client import targets
from diag.client.connection import Connection
from diag.wire.errors import DiagError

READY_WITHIN_S = 30.0
LOAD_PER_S = 200
"""Messages a second for each client: traffic to see, hardly a load."""
LONGEST_S = 86_400
TAIL_LINES = 5


class DemoError(DiagError):
    """The demo could not be started; says what its processes said."""


class Demo:
    """The demo's processes, from ``with`` to its end.

    folder: where everything of the demo lives; removed at the end. pid: the collector's.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="diagtop-demo-"))
        self.pid = 0
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._gone: dict[str, str] = {}
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "tui.guard", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name="diagtop-demo", daemon=True)
        self._listener.start()

    def __enter__(self) -> Demo:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the collector, wait until it serves, start the traffic. Raises DemoError."""
        control = str(self.folder / "control.sock")
        self._run("collector", "run", "--demo", "--spool", str(self.folder / "spool"), "--socket", control)
        self._wait_until_it_serves(control)
        self._run(
            "load",
            "load",
            "--quiet",
            "--socket",
            control,
            "--rate",
            str(LOAD_PER_S),
            "--seconds",
            str(LONGEST_S),
        )

    def connect(self) -> Connection:
        """A way to the collector's agent."""
        return targets.connect(str(self.pid))

    def trouble(self) -> str:
        """What became of the demo's own processes, in a sentence; empty while both run."""
        self._take_events()
        names = {"collector": "The collector", "load": "The load generator"}
        return " ".join(f"{names.get(name, name)} ended: {why}." for name, why in self._gone.items())

    def close(self) -> None:
        """End the demo's processes (the collector stores what it accepted first) and remove its files."""
        if self._guard.stdin is not None:
            try:
                self._guard.stdin.close()
            except OSError:
                pass
        self._guard.wait()
        self._listener.join(1.0)
        if self._guard.stdout is not None:
            self._guard.stdout.close()
        # The guard did that already, unless somebody killed it.
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the guard ----------------------------------------------------------------------------------

    def _run(self, name: str, *arguments: str) -> None:
        order = {"start": name, "argv": [sys.executable, "-m", "collector.cli", *arguments]}
        assert self._guard.stdin is not None
        try:
            self._guard.stdin.write(json.dumps(order).encode() + b"\n")
            self._guard.stdin.flush()
            deadline = time.monotonic() + READY_WITHIN_S
            while (event := self._events.get(timeout=deadline - time.monotonic())).get("started") != name:
                self._note(event)
                self._check(name)
        except (OSError, queue.Empty, ValueError) as error:
            raise DemoError(f"the demo's helper process is gone: {error or 'no answer'}") from None
        if name == "collector":
            self.pid = int(event["pid"])

    def _wait_until_it_serves(self, control: str) -> None:
        status = [sys.executable, "-m", "collector.cli", "status", "--json", "--socket", control]
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            self._take_events()
            self._check("collector")
            if os.path.exists(control) and self._says_running(status):
                try:
                    self.connect().close()
                    return
                except DiagError as error:
                    problem = str(error)
            else:
                problem = "it does not say that it runs"
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the demo's collector was not ready within {READY_WITHIN_S:g} s: {problem}",
                    self._tail("collector"),
                )
            time.sleep(0.05)

    @staticmethod
    def _says_running(status: list[str]) -> bool:
        try:
            asked = subprocess.run(status, capture_output=True, timeout=10, check=True)
            return bool(json.loads(asked.stdout)["application"] == "running")
        except (subprocess.SubprocessError, ValueError, KeyError):
            return False

    def _listen(self) -> None:
        assert self._guard.stdout is not None
        for line in self._guard.stdout:
            self._events.put(json.loads(line))

    def _take_events(self) -> None:
        while True:
            try:
                self._note(self._events.get_nowait())
            except queue.Empty:
                return

    def _note(self, event: dict[str, Any]) -> None:
        if "failed" in event:
            self._gone[event["failed"]] = str(event["error"])
        elif "ended" in event:
            code = event["code"]
            how = f"exit code {code}" if code >= 0 else f"signal {-code}"
            said = self._tail(event["ended"]).splitlines()
            self._gone[event["ended"]] = how + (f", {said[-1].strip()}" if said and code else "")

    def _check(self, name: str) -> None:
        if name in self._gone:
            raise DemoError(f"the demo's {name} could not be started: {self._gone[name]}", self._tail(name))

    def _tail(self, name: str) -> str:
        try:
            lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n  ".join(lines[-TAIL_LINES:])


def run_demo(*, interval_s: float, seconds: float | None) -> int:
    """The demo in the screens, to its end; the exit code."""
    from tui.app import Diagtop

    print("Starting a collector with traffic and a leak …", flush=True)
    with Demo() as demo:
        app = Diagtop(demo.connect, interval_s=interval_s, until_s=seconds, watch=demo.trouble)
        code = app.run()
        return int(code if code is not None else app.return_code or 0)
