"""Runs helper processes that must not outlive the program that asked for them.

``python -m tui.guard FOLDER`` starts what it is told on its standard input, one JSON object a line
(``{"start": NAME, "argv": [...]}``), and says on its standard output what became of it
(``{"started": NAME, "pid": N}``, ``{"ended": NAME, "code": N}``, ``{"failed": NAME, "error": TEXT}``).
When its input closes, for whatever reason (the caller left, crashed or was killed outright), it ends
everything it started, latest first, removes FOLDER and leaves. It has a session of its own, so that
neither Ctrl-C nor the terminal's hang-up reaches it or them before that. Should the guard itself be
killed, the kernel tells its children to stop (Linux).

Standard library only and a single thread, so that it has no reason to fail.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

GRACE_S = 8.0
"""What a helper gets to end by itself after SIGTERM, before SIGKILL."""
PR_SET_PDEATHSIG = 1


def main(argv: list[str] | None = None) -> int:
    folder = (sys.argv[1:] if argv is None else argv)[0]
    if os.getsid(0) != os.getpid():
        os.setsid()
    wake, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for name in (signal.SIGINT, signal.SIGHUP):
        # Handled, not ignored: what is ignored would stay so in the helpers.
        signal.signal(name, lambda *_: None)
    leaving: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: leaving.append(number))
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        _serve(folder, children, wake, leaving)
    finally:
        end(list(children.values()))
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _serve(folder: str, children: dict[str, subprocess.Popen[bytes]], wake: int, leaving: list[int]) -> None:
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    after_death = _tie_to_parent()
    pending = b""
    while not leaving:
        ready = {key.fd for key, _ in selector.select()}
        if wake in ready:
            os.read(wake, 4096)
            for name, child in list(children.items()):
                if child.poll() is not None:
                    del children[name]
                    say(ended=name, code=child.returncode)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if line.strip():
                    _start(json.loads(line), folder, children, after_death)


def _start(
    order: dict[str, Any],
    folder: str,
    children: dict[str, subprocess.Popen[bytes]],
    after_death: Callable[[], None] | None,
) -> None:
    name = order["start"]
    try:
        with open(os.path.join(folder, f"{name}.log"), "ab") as log:
            children[name] = subprocess.Popen(
                order["argv"],
                cwd=folder,
                env={**os.environ, **order.get("env", {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=after_death,
            )
    except (OSError, ValueError) as error:
        say(failed=name, error=str(error))
    else:
        say(started=name, pid=children[name].pid)


def say(**event: object) -> None:
    """One line to whoever started us; it may be gone."""
    try:
        os.write(1, json.dumps(event).encode() + b"\n")
    except OSError:
        pass


def end(children: list[subprocess.Popen[bytes]], grace_s: float = GRACE_S) -> None:
    """SIGTERM to all, latest first; SIGKILL to those still there after ``grace_s``; all are reaped."""
    for child in reversed(children):
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + grace_s
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _tie_to_parent() -> Callable[[], None] | None:
    """What a child calls to be sent SIGTERM when the guard dies; None where the platform has no such thing.

    The library is loaded here, before any fork, and the guard has one thread: the call is safe there."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None
    guard = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)  # it died in between

    return tie


if __name__ == "__main__":
    sys.exit(main())
