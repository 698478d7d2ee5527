from __future__ import annotations

import logging
import os
import select
import socket
from pathlib import Path

import pytest

from collector.config import Log
from collector.ingest.syslog import parse
from collector.logs import Throttle, event, set_up


def test_what_could_happen_for_each_message_is_said_once_and_then_summed_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("collector.logs.time.monotonic", lambda: now[0])
    throttle = Throttle(logging.getLogger("test"), period_s=60)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            throttle.warning("unknown_client", count=2, source="10.0.0.1")
        now[0] += 61
        throttle.warning("unknown_client", source="10.0.0.1")
    assert [record.getMessage() for record in caplog.records] == [
        "unknown_client count=2 source=10.0.0.1",
        "unknown_client count=1999 source=10.0.0.1",
    ]


def test_an_event_is_one_line_of_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        event(logging.getLogger("test"), logging.INFO, "listening", port=514, problem="two words\nand lines")
    assert caplog.records[0].getMessage() == 'listening port=514 problem="two words\\nand lines"'


def test_the_log_goes_to_syslog_as_one_datagram_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "getLogger", lambda name=None: root)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        set_up(Log(stderr=False, syslog=f"udp://127.0.0.1:{sock.getsockname()[1]}"), "north")
        event(root, logging.INFO, "too quiet to be said")
        event(root, logging.ERROR, "spool_failed", client="acme", problem="disk full")
        message = parse(sock.recv(4096))
    for handler in root.handlers:
        handler.close()
    assert (message.facility, message.severity) == ("daemon", "err")
    assert message.text == (
        'north: level=error logger=root event=spool_failed client=acme problem="disk full"'
    )


def test_a_syslog_daemon_that_does_not_read_or_is_gone_stops_nobody_and_what_it_missed_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "getLogger", lambda name=None: root)
    place = str(tmp_path / "log")

    def say(count: int) -> None:
        for _ in range(count):
            event(root, logging.ERROR, "spool_failed")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(place)
        set_up(Log(stderr=False, syslog=place), "north")
        say(5000)  # far more than its socket takes: a handler that waits would wait here for ever
        read = 0
        while select.select([daemon], [], [], 0)[0]:
            daemon.recv(4096)
            read += 1
        assert 0 < read < 5000
        say(1)
        assert f"event=spool_failed dropped={5000 - read}" in daemon.recv(4096).decode()
    os.unlink(place)
    say(2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(place)
        daemon.settimeout(10)
        say(1)
        assert daemon.recv(4096).decode().endswith("event=spool_failed dropped=2")
    for handler in root.handlers:
        handler.close()
    assert capsys.readouterr().err == ""
