"""A terminal to test in: one tmux server of our own, keys in, screen out, waiting by condition."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import pytest


def need_tmux() -> str:
    """The tmux command. Skips where it is missing, fails there in CI."""
    found = shutil.which("tmux")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("tmux is not installed, and in CI it must be")
        pytest.skip("tmux is not installed")
    return found


class Tmux:
    """One program in one terminal of ``width`` by ``height``. Ends with the ``with`` block."""

    def __init__(
        self,
        argv: Sequence[str],
        width: int = 80,
        height: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> None:
        self._tmux = need_tmux()
        self._server = f"diagtop-test-{os.getpid()}-{secrets.token_hex(4)}"
        settings = {"TERM": "xterm-256color", **(env or {})}
        # The program's own exit code is kept on the screen: the shell is gone by then.
        command = " ".join(f"{key}={shlex.quote(value)}" for key, value in settings.items())
        command = f'env {command} {shlex.join(argv)}; echo "exit code $?"'
        self._run("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
                  *(("-c", cwd) if cwd else ()), command + "; exec cat")  # fmt: skip
        self._run("set-option", "-g", "escape-time", "0")

    def __enter__(self) -> Tmux:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, *keys: str) -> None:
        """Keys by tmux's names: ``g``, ``Enter``, ``Escape``, ``C-c``."""
        self._run("send-keys", *keys)

    def type(self, text: str) -> None:
        """Text, literally."""
        self._run("send-keys", "-l", text)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, colours: bool = False) -> str:
        """What the terminal shows now."""
        return self._run("capture-pane", "-p", *(("-e",) if colours else ()))

    def wait_for(self, pattern: str, within_s: float = 30.0) -> re.Match[str]:
        """Until the screen matches; fails with the last screen."""
        deadline = time.monotonic() + within_s
        while True:
            screen = self.screen()
            if found := re.search(pattern, screen, re.M):
                return found
            assert time.monotonic() < deadline, f"never saw {pattern!r} in {within_s:g} s:\n{screen}"
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Of the shell in the terminal; the program is its child."""
        return int(self._run("display-message", "-p", "#{pane_pid}"))

    def close(self) -> None:
        """End the terminal, as if its window was closed. Idempotent."""
        subprocess.run([self._tmux, "-L", self._server, "kill-server"], capture_output=True, check=False)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._tmux, "-L", self._server, *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, f"tmux {arguments}: {done.stderr}"
        return done.stdout
