"""What goes wrong is said clearly, and nothing that was accepted is lost by it."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.config import demo_path
from tests.functional.collector.harness import Collector, open_connection, run_cli, send, tcp, udp, wait_until


def refused(collector: Collector, code: int, *said: str) -> None:
    """It ends by itself with ``code`` and says so in a few lines, without a traceback."""
    try:
        collector.launch()
        collector.wait_end(code)
        problem = collector.log()
        for words in said:
            assert words in problem, problem
        assert "Traceback" not in problem
    finally:
        collector.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], capture_output=True
    )
    if not done or done.returncode:
        problem = "mounting a small file system needs root and mount"
        pytest.fail(problem) if os.environ.get("CI") and os.geteuid() == 0 else pytest.skip(problem)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> Path:
    path = disk / "filler"
    with open(path, "wb", buffering=0) as filler:
        try:
            while filler.write(bytes(65536)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return path


def test_a_configuration_with_mistakes_names_them_all() -> None:
    tables = '[[listeners]]\nname = "x"\ntransport = "tpc"\nprot = 1'
    collector = Collector(tables=tables)
    where = f"collector: {collector.config}: [[listeners]] 'x'"
    refused(
        collector,
        2,
        f"{where} transport: must be one of tcp, udp, got 'tpc' (did you mean 'tcp'?)",
        f"{where} port: is required",
        f"{where} prot: is not a key known here (did you mean 'port'?)",
    )


def test_check_says_whether_a_configuration_is_good_and_touches_nothing(tmp_path: Path) -> None:
    good = run_cli("run", "-c", demo_path(), "--check", "--spool", tmp_path / "spool")
    assert good.returncode == 0
    assert "ok (4 clients, 4 listeners)" in good.stdout
    assert not (tmp_path / "spool").exists()
    missing = run_cli("run", "-c", tmp_path / "nowhere.toml", "--check")
    assert missing.returncode == 2
    assert "cannot be read: No such file or directory" in missing.stderr


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("client", ["acme", None])
def test_a_port_in_use_is_named_with_how_to_find_its_owner(transport: str, client: str | None) -> None:
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if transport == "tcp":
            taken.listen()
        port = taken.getsockname()[1]
        listener = {**(tcp if transport == "tcp" else udp)(client), "port": port}
        collector = Collector(listeners=[listener])
        name = listener["name"]
        refused(
            collector,
            1,
            f"listener '{name}' cannot listen on {transport} 127.0.0.1:{port}: Address already in use",
            f"sport = :{port}",
        )


def test_an_address_that_is_not_here_is_named() -> None:
    listener = {**tcp("acme"), "host": "192.0.2.1", "port": 5514}
    refused(Collector(listeners=[listener]), 1, "this machine has no such address")


def test_a_spool_that_cannot_be_a_folder_is_refused_before_anything_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(Collector(spool=tmp_path / "file" / "spool"), 1, "a part of that path is a file; choose another")


def test_a_full_spool_is_refused_before_anything_is_accepted(small_disk: Path) -> None:
    fill(small_disk)
    refused(Collector(spool=small_disk / "spool"), 1, "No space left on device; free some space")


def test_a_read_only_spool_is_refused_before_anything_is_accepted(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(Collector(spool=small_disk / "spool"), 1, "Read-only file system; ", "mounted read-only")


def test_a_spool_in_use_names_the_collector_that_has_it(tmp_path: Path) -> None:
    with Collector(spool=tmp_path / "spool") as first:
        said = f"in use by another collector (pid {first.pid})"
        refused(Collector(spool=tmp_path / "spool"), 1, said)


def test_a_second_collector_does_not_take_the_first_ones_control_socket(tmp_path: Path) -> None:
    with Collector() as first:
        second = Collector(args=["--socket", str(first.control)])
        refused(second, 1, "another collector answers there")
        assert first.status()["application"] == "running"


def test_when_the_disk_fills_up_senders_wait_and_nothing_is_lost(small_disk: Path) -> None:
    budget = 512 * 1024
    clients = [{"name": "acme", "queue_budget_bytes": budget}]
    with Collector(spool=small_disk / "spool", clients=clients) as collector:
        port = collector.port("acme-tcp")
        send(port, b"<13>before\n")
        collector.wait_stored("acme", 1)
        filler = fill(small_disk)
        with open_connection(port) as sock:
            sock.settimeout(1.0)
            lines = b"".join(b"<13>%s\n" % os.urandom(400).hex().encode() for _ in range(250))
            with pytest.raises(TimeoutError):  # in the end nobody reads any more
                sock.sendall(lines * 100)
            held = collector.wait_client("acme", lambda client: client["pauses"] > 0, "reading to pause")
            assert held["stored"] == 1
            assert held["store_failures"] > 0
            assert budget < held["queued_bytes"] < budget + 300 * 1024, "bounded: the budget and one read"
            assert "No space left on device" in collector.log()
            filler.unlink()
            accepted = collector.wait_client("acme", lambda client: client["stored"] >= 500, "storing again")
            assert accepted["lost"] == 0
        assert "event=spool_recovered" in collector.log()
        wait_until(lambda: collector.client("acme")["connections"] == 0, "the sender's end to be seen")
        collector.stop()
        final = collector.messages("acme")
        assert f"accepted={len(final)} stored={len(final)}" in collector.log()


def test_when_the_disk_becomes_read_only_nothing_is_lost(small_disk: Path) -> None:
    with Collector(spool=small_disk / "spool") as collector:
        port = collector.port("acme-tcp")
        # While a segment is open for writing the file system cannot be made read-only: before the first.
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True, capture_output=True)
        send(port, b"<13>one\n<13>two\n")
        held = collector.wait_client("acme", lambda client: client["store_failures"] > 0, "a failed write")
        assert (held["accepted"], held["stored"]) == (2, 0)
        assert "mounted read-only" in collector.log()
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        collector.wait_stored("acme", 2)
        collector.stop()
        assert collector.messages("acme") == [b"<13>one", b"<13>two"]


def test_a_folder_without_segments_is_not_called_whole(tmp_path: Path) -> None:
    (tmp_path / "not-a-client").mkdir()
    for action in ("verify", "cat"):
        done = run_cli("spool", action, tmp_path)
        assert done.returncode == 1
        assert f"spool {tmp_path} holds no segments" in done.stderr


def test_a_load_that_reaches_nobody_fails_with_the_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        done = run_cli("load", "--to", f"127.0.0.1:{taken.getsockname()[1]}", "--seconds", "0.2")
    assert done.returncode == 1
    assert "cannot connect: Connection refused" in done.stderr


def test_verify_names_damage_and_cat_gives_what_is_whole() -> None:
    with Collector() as collector:
        send(collector.port("acme-tcp"), b"<13>one\n")
        collector.wait_stored("acme", 1)
        send(collector.port("acme-tcp"), b"<13>two\n")
        collector.wait_stored("acme", 2)
        collector.stop()
        spool = collector.spool
        assert run_cli("spool", "verify", spool).returncode == 0
        (path,) = (spool / "acme").glob("*.seg")
        os.truncate(path, path.stat().st_size - 1)
        verify = run_cli("spool", "verify", spool)
        assert verify.returncode == 1
        assert f"{path}: offset " in verify.stdout
        assert "truncated: frame of 1 messages has" in verify.stdout
        cat = run_cli("spool", "cat", spool, "--client", "acme")
        assert (cat.returncode, cat.stdout) == (1, "<13>one\n")
        assert "truncated" in cat.stderr
        wrong = run_cli("spool", "cat", spool, "--client", "acne")
        assert wrong.returncode == 1
        assert "did you mean 'acme'?" in wrong.stderr
