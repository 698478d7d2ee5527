"""What is accepted stays until it is stored or is counted as lost, and the budget is watched."""

from __future__ import annotations

import gc
import tracemalloc
from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from collector.counters import ClientCounters
from collector.ingest import inbox as inbox_module
from collector.ingest.inbox import DELIVERY_BYTES, MORE, OVERHEAD_BYTES, Inbox, Room


def make(budget_bytes: int = 10_000, batch_bytes: int = 4000, batch_age_s: float = 60.0) -> Inbox:
    return Inbox(
        "acme",
        "parser",
        ClientCounters(),
        budget_bytes=budget_bytes,
        batch_bytes=batch_bytes,
        batch_age_s=batch_age_s,
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, object]]:
    """What the inbox sends, instead of sending it."""
    sent: list[tuple[object, object]] = []
    monkeypatch.setattr(inbox_module, "cast", lambda ref, message: sent.append((ref, message)))
    monkeypatch.setattr(inbox_module, "send", lambda ref, message: sent.append((ref, message)))
    return sent


class InboxMachine(RuleBasedStateMachine):
    """Against a plain list: every message is waiting, in flight or stored, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox = make()
        self.sent = 0
        self.waiting: deque[bytes] = deque()
        self.flying: list[bytes] = []
        self.stored: list[bytes] = []

    @rule(count=st.integers(1, 5), size=st.integers(1, 2000))
    def put(self, count: int, size: int) -> None:
        messages = [b"%d" % (self.sent + number) for number in range(count)]
        self.sent += count
        self.waiting.extend(messages)
        self.inbox.put(messages, sum(map(len, messages)) + size, "here")

    @rule()
    def take(self) -> None:
        batch = self.inbox.take()
        if self.flying or not self.waiting:
            assert batch is None
            return
        assert batch is not None
        self.flying = batch.messages
        assert self.flying == [self.waiting.popleft() for _ in batch.messages]
        assert sum(batch.sources.values()) == len(batch.messages)

    @rule()
    def store(self) -> None:
        self.inbox.stored()
        self.stored += self.flying
        self.flying = []

    def teardown(self) -> None:
        self.inbox.stored()
        while self.inbox.take():
            self.inbox.stored()

    @invariant()
    def nothing_is_lost_or_out_of_order(self) -> None:
        assert self.inbox.queued == len(self.waiting) + len(self.flying)
        assert [*self.stored, *self.flying, *self.waiting] == [b"%d" % number for number in range(self.sent)]
        assert (self.inbox.queued_bytes == 0) == (self.inbox.queued == 0)
        assert self.inbox.over_budget == (self.inbox.queued_bytes > 10_000)


TestInbox = InboxMachine.TestCase


def test_the_parser_is_told_once_that_there_is_something_and_once_that_there_is_enough(
    told: list[tuple[object, object]],
) -> None:
    inbox = make(batch_bytes=4000)
    for _ in range(10):
        inbox.put([b"x"], 1, "here")
    assert told == [("parser", MORE), ("parser", MORE)]
    inbox.take()
    inbox.put([b"x"], 1, "here")
    assert len(told) == 3


def test_a_batch_is_due_at_once_when_it_is_large_enough(told: list[tuple[object, object]]) -> None:
    inbox = make(batch_bytes=4000, batch_age_s=60.0)
    assert inbox.due_in_s is None
    inbox.put([b"x"], 1, "here")
    due_in_s = inbox.due_in_s
    assert due_in_s is not None
    assert 50 < due_in_s <= 60
    inbox.put([b"x"], 4000, "here")
    assert inbox.due_in_s == 0


def test_a_batch_is_due_at_once_when_there_is_no_room_for_more(told: list[tuple[object, object]]) -> None:
    inbox = make(budget_bytes=1000, batch_bytes=4000, batch_age_s=60.0)
    inbox.put([b"x"], 1, "here")
    assert inbox.due_in_s != 0
    inbox.put([b"x"], 100, "here")
    assert inbox.due_in_s == 0
    assert told == [("parser", MORE), ("parser", MORE)]


def test_an_inbox_that_goes_counts_what_was_in_it_as_lost_and_says_so(
    told: list[tuple[object, object]], caplog: pytest.LogCaptureFixture
) -> None:
    counters = ClientCounters()
    inbox = Inbox("acme", "parser", counters, budget_bytes=1000, batch_bytes=1, batch_age_s=1.0)
    inbox.put([b"x"] * 3, 3, "here")
    inbox.take()
    inbox.put([b"x"] * 2, 2, "here")
    inbox.stored()
    del inbox
    assert counters.lost == 2
    assert [record.getMessage() for record in caplog.records] == ["messages_lost client=acme count=2"]


def test_the_budget_counts_what_small_deliveries_really_take() -> None:
    """A datagram of one octet from each of many senders: the objects around it are the memory."""
    inbox = make(budget_bytes=1 << 30, batch_bytes=1 << 30)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1000):
            inbox.put([b"%d" % number], 1, f"192.0.2.{number}")
        really, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert really * 0.7 < inbox.queued_bytes < really * 1.6
    inbox.take()
    inbox.stored()


def test_those_who_wait_for_room_are_called_at_half_the_budget(told: list[tuple[object, object]]) -> None:
    inbox = make(budget_bytes=10_000, batch_bytes=1000)
    for _ in range(3):
        inbox.put([b"x"], 4000 - OVERHEAD_BYTES - DELIVERY_BYTES, "here")
    assert inbox.over_budget
    inbox.call_when_room("receiver")  # type: ignore[arg-type]
    told.clear()
    inbox.take()
    inbox.stored()
    assert not inbox.over_budget
    assert told == [], "still over half of it"
    inbox.take()
    inbox.stored()
    assert told == [("receiver", Room("acme"))]
