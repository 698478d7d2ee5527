from __future__ import annotations

import logging

import pytest

from collector.config import Log
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


def test_a_syslog_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="must be udp://HOST:PORT"):
        set_up(Log(stderr=False, syslog="udp://nowhere"), "collector")
