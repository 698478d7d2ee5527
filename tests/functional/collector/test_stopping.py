"""A stop loses nothing that was accepted, whichever way it is asked for."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from collector.control import ControlError
from collector.spool.reader import Damage
from tests.functional.collector.harness import Collector, open_connection, run_cli, tcp, udp, wait_until

CLIENTS = ("acme", "globex", "initech")
LISTENERS = [tcp("acme"), tcp(None), udp("initech")]


def start_load(collector: Collector, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "collector.cli",
        "load",
        "--socket",
        str(collector.control),
        "--json",
        *options,
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=collector.env
    )


def finished(load: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = load.communicate(timeout=60)
    assert load.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    return {**report, "stderr": err}


def sequences(collector: Collector) -> dict[str, Any]:
    done = run_cli("spool", "verify", collector.spool, "--sequences", "--json")
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)["clients"]
    return found


def test_all_that_the_load_generator_sent_is_stored_once() -> None:
    with Collector(clients=CLIENTS, listeners=LISTENERS) as collector:
        report = finished(start_load(collector, "--seconds", "2", "--rate", "3000", "--connections", "3"))
        assert report["sent"] > 0
        assert report["unsure"] == 0
        for name, client in report["clients"].items():
            collector.wait_stored(name, client["sent"])
        collector.stop()
        for name, seen in sequences(collector).items():
            ((run, marks),) = seen["sequences"].items()
            assert run == report["run"]
            assert (marks["missing"], marks["duplicates"]) == (0, 0)
            assert marks["highest"] == report["clients"][name]["last_seq"] == report["clients"][name]["sent"]


def test_a_graceful_stop_in_full_traffic_stores_all_that_was_accepted() -> None:
    with Collector(clients=CLIENTS, listeners=LISTENERS) as collector:
        load = start_load(collector, "--seconds", "20", "--rate", "4000", "--connections", "2")
        for name in CLIENTS:
            collector.wait_stored(name, 2000)
        collector.stop()
        load.send_signal(signal.SIGINT)
        finished(load)
        last = collector.log().splitlines()[-1]
        totals = dict(field.split("=", 1) for field in last.split() if "=" in field)
        assert totals["event"] == "stopped"
        assert totals["accepted"] == totals["stored"] == str(sum(collector.counts().values()))
        for name, seen in sequences(collector).items():
            ((_, marks),) = seen["sequences"].items()
            # A message may be cut in the middle by the end of its connection, and two connections end
            # at different numbers: but there is no hole in what came before.
            assert all(first > marks["highest"] - 1000 for first, _ in marks["first_gaps"]), (name, marks)
            assert marks["duplicates"] == 0


def test_what_the_kernel_has_acknowledged_is_taken_over_when_we_stop() -> None:
    with Collector() as collector, open_connection(collector.port("acme-tcp")) as sock:
        sock.sendall(b"<13>first\n")
        collector.wait_stored("acme", 1)
        collector.signal(signal.SIGSTOP)  # it cannot read now
        sock.sendall(b"".join(b"<13>number %d\n" % number for number in range(5000)) + b"<13>the unfinished")
        collector.signal(signal.SIGTERM)
        collector.signal(signal.SIGCONT)
        collector.wait_end(0)
        stored = collector.messages("acme")
        assert len(stored) == 5002
        assert stored[-1] == b"<13>the unfinished"


def test_collector_stop_waits_until_all_is_stored_and_the_process_is_gone() -> None:
    with Collector() as collector, open_connection(collector.port("acme-tcp")) as sock:
        sock.sendall(b"<13>hello\n" * 1000)
        collector.wait_client("acme", lambda client: client["accepted"] == 1000, "1000 accepted")
        done = collector.cli("stop")
        assert done.returncode == 0, done.stderr
        assert "has stopped" in done.stdout
        collector.wait_end(0)
        assert not collector.control.exists()
        assert "level=error" not in collector.log()
        assert collector.counts() == {"acme": 1000}
        assert collector.cli("status").returncode == 3


def test_clients_stop_side_by_side_and_the_status_is_told_meanwhile() -> None:
    """A client that cannot store does not keep the next one from beginning to."""
    with Collector(clients=("acme", "globex"), stop_timeout_s=60) as collector:
        for name in ("acme", "globex"):
            (collector.spool / name).write_text("in the way")
            with open_connection(collector.port(f"{name}-tcp")) as sock:
                sock.sendall(b"<13>hello\n" * 10)
            collector.wait_client(name, lambda client: client["store_failures"] > 0, "a failed write")
        with ThreadPoolExecutor(1) as other:
            stopping = other.submit(collector.cli, "stop")
            for name in ("acme", "globex"):
                collector.wait_client(
                    name, lambda client: client["state"] == "stopped", "it to close its door"
                )
            assert collector.status()["application"] == "stopping"
            assert not stopping.done()
            for name in ("acme", "globex"):
                (collector.spool / name).unlink()
            assert "has stopped" in stopping.result().stdout
        collector.wait_end(0)
        assert collector.counts() == {"acme": 10, "globex": 10}


def test_a_kill_leaves_whole_frames_that_hold_all_that_was_reported_as_stored() -> None:
    with Collector(clients=CLIENTS, listeners=LISTENERS) as collector:
        load = start_load(collector, "--seconds", "20", "--rate", "4000")
        collector.wait_stored("acme", 5000)
        reported = {name: collector.client(name)["stored"] for name in CLIENTS}
        collector.signal(signal.SIGKILL)
        load.send_signal(signal.SIGINT)
        finished(load)
        for name in CLIENTS:
            items = collector.items(name)
            assert all(item.kind == "truncated" for item in items if isinstance(item, Damage))
            assert sum(len(item.messages) for item in items if not isinstance(item, Damage)) >= reported[name]
        # and the next run starts beside it, stale control socket and lock notwithstanding
        collector.start()
        collector.stop()


def test_a_second_signal_ends_at_once_and_says_what_that_lost() -> None:
    with Collector(stop_timeout_s=60) as collector:
        port = collector.port("acme-tcp")
        # A file where the segment should be made: nothing can be stored.
        (collector.spool / "acme").write_text("in the way")
        with open_connection(port) as sock:
            sock.sendall(b"<13>hello\n" * 10)
            collector.wait_client("acme", lambda client: client["store_failures"] > 0, "a failed write")
            collector.signal(signal.SIGTERM)
            wait_until(lambda: "event=stopping" in collector.log(), "the stop to begin")
            began = time.monotonic()
            while collector.running:  # a signal within half a second counts as the same one
                collector.signal(signal.SIGTERM)
                assert time.monotonic() - began < 10
                time.sleep(0.1)
        collector.wait_end(1)
        assert "event=stopped_at_once" in collector.log()
        assert "not_stored=10" in collector.log()


def test_a_stop_that_cannot_store_gives_up_after_its_time_and_counts_the_loss() -> None:
    with Collector(stop_timeout_s=1.0) as collector:
        (collector.spool / "acme").write_text("in the way")
        with open_connection(collector.port("acme-tcp")) as sock:
            sock.sendall(b"<13>hello\n" * 10)
            collector.wait_client("acme", lambda client: client["store_failures"] > 0, "a failed write")
            collector.stop(code=1)
        assert "event=messages_lost client=acme count=10" in collector.log()


def test_a_disk_that_hangs_does_not_keep_a_collector_alive_that_has_given_up() -> None:
    hang = (
        "import threading\n"
        "from collector.spool.segment import SegmentWriter\n"
        "SegmentWriter.write = lambda *args: threading.Event().wait()\n"
    )
    with Collector(stop_timeout_s=0.5, first=hang) as collector:
        with open_connection(collector.port("acme-tcp")) as sock:
            sock.sendall(b"<13>hello\n" * 10)
        collector.wait_client("acme", lambda client: client["queued"] == 10, "10 accepted")
        collector.stop(code=1)
        assert "event=messages_lost client=acme count=10" in collector.log()


def test_the_control_socket_is_private_and_answers_bad_requests_with_reasons() -> None:
    with Collector() as collector:
        assert collector.control.stat().st_mode & 0o777 == 0o600
        for request, said in (
            ({"do": "dance"}, "cannot do 'dance'"),
            ({"do": "fault_on", "kind": "x"}, "kind must be one of sub-binary, got 'x'"),
            (
                {"do": "fault_on", "kind": "sub-binary", "holder": "queue", "client": "x"},
                "no client named 'x'",
            ),
        ):
            with pytest.raises(ControlError, match=re.escape(said)):
                collector.ask(request)
        for junk in (b"\x00\xff\n", b"[1]\n", b"{" * 200_000, b'{"do"', b""):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(collector.control))
                with contextlib.suppress(BrokenPipeError):
                    sock.sendall(junk)
                if junk.endswith(b"\n"):
                    assert b'"ok": false' in sock.recv(4096)
        assert "Traceback" not in collector.log()
        status = collector.cli("status")
        assert status.returncode == 0
        assert str(collector.spool) in status.stdout
