"""A real collector process under test: configure, start, ask, stop, and count what it stored.

::

    with Collector(clients=("acme", "globex"), listeners=[tcp("acme"), tcp(None)]) as collector:
        send(collector.port("acme-tcp"), b"<13>hello\\n")
        collector.wait_stored("acme", 1)
        collector.stop()                      # graceful; asserts exit code 0
        assert collector.messages("acme") == [b"<13>hello"]

Everything waits for a condition with a deadline; nothing sleeps and hopes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from collector.control import ControlError, ask
from collector.spool.reader import Batch, Damage, scan_client

__all__ = ["Collector", "need_tool", "open_connection", "run_cli", "send", "tcp", "udp", "wait_until"]

PATIENCE_S = 20.0
T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Ask until the answer is true, and return it. Fails with ``what`` after ``patience_s``."""
    deadline = time.monotonic() + patience_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience_s:g} s for {what}; last answer: {answer!r}")
        time.sleep(0.02)


def need_tool(name: str) -> str:
    """The path of an outside program; skips the test where it is missing, fails in CI."""
    path = shutil.which(name)
    if path is not None:
        return path
    missing = pytest.fail if os.environ.get("CI") else pytest.skip
    missing(f"{name} is not installed")


def tcp(client: str | None, name: str = "", **options: Any) -> dict[str, Any]:
    """A listener on a free port; without a client it routes."""
    return {
        "name": name or f"{client or 'shared'}-tcp",
        "transport": "tcp",
        "port": 0,
        "client": client,
        **options,
    }


def udp(client: str | None, name: str = "", **options: Any) -> dict[str, Any]:
    return {
        "name": name or f"{client or 'shared'}-udp",
        "transport": "udp",
        "port": 0,
        "client": client,
        **options,
    }


def run_cli(
    *args: str | Path, timeout_s: float = 60.0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``collector ARGS`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "collector.cli", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=env,
        check=False,
    )


def open_connection(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.settimeout(10)
    return sock


def send(port: int, *chunks: bytes) -> None:
    """Send over one connection, half-close it and wait until the collector has read all and closed."""
    with open_connection(port) as sock:
        for chunk in chunks:
            sock.sendall(chunk)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass


class Collector:
    """One collector with a folder of its own; a context manager that leaves nothing behind.

    spool: where to store (default: in its own folder). tables: further TOML. args: for ``collector run``.
    first: Python source to run in the process before the collector.
    """

    def __init__(
        self,
        *,
        clients: Iterable[str | dict[str, Any]] = ("acme",),
        listeners: Iterable[dict[str, Any]] | None = None,
        spool: Path | None = None,
        tables: str = "",
        allow_actions: bool = False,
        stop_timeout_s: float = 20.0,
        args: Sequence[str] = (),
        spool_options: str = "",
        first: str = "",
    ) -> None:
        # Short, because a socket's path may have 107 octets only.
        self.home = Path(tempfile.mkdtemp(prefix="lm-"))
        self.spool = spool if spool is not None else self.home / "spool"
        self.config = self.home / "collector.toml"
        self.control = self.home / "control.sock"
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(self.home / "run")}
        (self.home / "run").mkdir(mode=0o700)
        self._args = list(args)
        self._first = first
        self._stderr = self.home / "stderr"
        self.process: subprocess.Popen[bytes] | None = None
        named = [client if isinstance(client, dict) else {"name": client} for client in clients]
        if listeners is None:
            listeners = [tcp(client["name"]) for client in named]
        lines = [
            f'[collector]\ncontrol_socket = "{self.control}"\nstop_timeout_s = {stop_timeout_s}',
            f'[spool]\ndirectory = "{self.spool}"\n{spool_options}',
            '[log]\nlevel = "info"',
            f"[diag]\nallow_actions = {str(allow_actions).lower()}",
            *(_table("clients", client) for client in named),
            *(_table("listeners", listener) for listener in listeners),
            tables,
        ]
        self.config.write_text("\n\n".join(lines) + "\n")

    def __enter__(self) -> Collector:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def launch(self) -> None:
        """Start the process without waiting for anything."""
        program = ["-m", "collector.cli"]
        if self._first:
            program = ["-c", f"{self._first}\nimport sys, collector.cli\nsys.exit(collector.cli.main())"]
        command = [sys.executable, *program, "run", "-c", str(self.config), *self._args]
        with open(self._stderr, "ab") as stderr:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, env=self.env)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.launch()
        wait_until(self._serves, "the collector to serve")

    def _serves(self) -> bool:
        if not self.running:
            raise AssertionError(f"the collector ended at once: {self.log()}")
        try:
            return self.status()["application"] == "running" and "event=ready" in self.log()
        except ControlError:
            return False

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        """What it wrote to stderr."""
        return self._stderr.read_text() if self._stderr.exists() else ""

    def cli(self, *args: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """``collector ARGS --socket <this one's>``."""
        return run_cli(*args, "--socket", str(self.control), timeout_s=timeout_s, env=self.env)

    def diag(self, *args: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """``diag ARGS --json`` about this process; asserts success."""
        verb, *rest = args
        command = [sys.executable, "-m", "diag.client.cli", verb, str(self.pid), *rest, "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=self.env, check=False
        )
        assert done.returncode == 0, f"{' '.join(args)}: {done.stdout}{done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return ask(self.control, request)

    def status(self) -> dict[str, Any]:
        return self.ask({"do": "status"})

    def client(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.status()["clients"][name]
        return found

    def listener(self, name: str) -> dict[str, Any]:
        return next(listener for listener in self.status()["listeners"] if listener["name"] == name)

    def port(self, listener: str) -> int:
        port: int = self.listener(listener)["port"]
        assert port, f"listener {listener} is closed"
        return port

    def wait_client(
        self, name: str, condition: Callable[[dict[str, Any]], object], what: str
    ) -> dict[str, Any]:
        """Wait until the client's status fulfils ``condition``, and return it."""

        def look() -> dict[str, Any] | None:
            found = self.client(name)
            return found if condition(found) else None

        try:
            found = wait_until(look, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.client(name)}") from None
        assert found is not None
        return found

    def wait_stored(self, name: str, count: int) -> dict[str, Any]:
        """Wait until ``count`` messages of the client are on disk."""
        return self.wait_client(name, lambda client: client["stored"] >= count, f"{count} stored of {name}")

    def stop(self, code: int = 0) -> None:
        """SIGTERM, and wait for the end; asserts the exit code."""
        self.signal(signal.SIGTERM)
        self.wait_end(code)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait_end(self, code: int) -> None:
        assert self.process is not None
        got = self.process.wait(timeout=60)
        assert got == code, f"exit code {got}: {self.log()}"

    def items(self, client: str) -> list[Batch | Damage]:
        return list(scan_client(self.spool, client))

    def messages(self, client: str) -> list[bytes]:
        """All that is stored of a client; asserts that nothing is damaged."""
        items = self.items(client)
        assert not [item for item in items if isinstance(item, Damage)], items
        return [message for item in items if isinstance(item, Batch) for message in item.messages]

    def counts(self) -> dict[str, int]:
        """Messages in the spool, by client."""
        folders = sorted(path.name for path in self.spool.iterdir() if path.is_dir())
        return {name: len(self.messages(name)) for name in folders}

    def close(self) -> None:
        if self.process is not None and self.running:
            self.process.kill()
            self.process.wait(timeout=10)
        shutil.rmtree(self.home, ignore_errors=True)


def _table(kind: str, values: dict[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join([f"[[{kind}]]", *lines])
