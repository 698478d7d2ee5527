"""The headless core against a fake target."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from diag.wire.errors import RpcError
from diag.wire.model import JournalEntry
from tests.unit.tui.fake import STEP_BYTES, Fake, World
from tui.events import Done, Event, Journal, Link, Sample, Started
from tui.session import Session, explain

E = TypeVar("E")


class Ear:
    """Keeps every event, and waits for the one a test needs."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._more:
            self.events.append(event)
            self._more.notify_all()

    def wait_for(self, kind: type[E], test: Callable[[E], bool] = lambda _: True, within_s: float = 10) -> E:
        deadline = time.monotonic() + within_s
        with self._more:
            while True:
                for event in self.events:
                    if isinstance(event, kind) and test(event):
                        return event
                left = deadline - time.monotonic()
                assert left > 0, f"no {kind.__name__} among {self.events}"
                self._more.wait(left)

    def forget(self) -> None:
        with self._more:
            self.events.clear()


@contextmanager
def watching(world: World, interval_s: float = 0.01) -> Iterator[tuple[Session, Ear]]:
    ear = Ear()
    session = Session(world.connect, ear, interval_s=interval_s)
    session.start()
    try:
        yield session, ear
    finally:
        session.close()


def row(sample: Sample, name: str):  # type: ignore[no-untyped-def]
    return next(owner for owner in sample.table.owners if owner.name == name)


def test_samples_come_on_a_beat_and_show_growth() -> None:
    with watching(World()) as (_, ear):
        sample = ear.wait_for(Sample, lambda s: s.number >= 4)
    acme = row(sample, "alcollect_client_sup:acme")
    growth = acme.growth_bytes_per_s
    assert growth is not None
    assert growth > STEP_BYTES, "a step every hundredth of a second"
    assert row(sample, "heartbeat").growth_bytes_per_s == 0
    assert list(sample.rss_bytes) == sorted(sample.rss_bytes)
    assert sample.owner(acme.id) is acme
    assert sample.owner(None) is None


def test_the_first_sample_claims_no_growth() -> None:
    with watching(World(), interval_s=60) as (_, ear):
        sample = ear.wait_for(Sample)
    assert {owner.growth_bytes_per_s for owner in sample.table.owners} == {None}


def test_the_order_asked_for_is_the_targets_own() -> None:
    world = World()
    with watching(world) as (session, ear):
        session.set_order("waste")
        assert ear.wait_for(Sample, lambda s: s.order == "waste").table.owners[0].name.endswith(":acme")
        session.set_order("growth")
        fastest = ear.wait_for(Sample, lambda s: s.order == "growth").table.owners[0]
        assert fastest.name.endswith(":acme")
        with pytest.raises(ValueError, match="must be one of buffers, retained"):
            session.set_order("colour")
    asked = [call[1] for call in world.calls if call[0] == "top"]
    assert "waste" in asked
    assert "growth" not in asked, "one picture has no growth: it is ranked here"


def test_a_collection_says_what_was_held_before() -> None:
    with watching(World()) as (session, ear):
        session.collect()
        started = ear.wait_for(Started)
        done = ear.wait_for(Done)
        journal = ear.wait_for(Journal, lambda j: any(line.action == "collect" for line in j.lines))
    assert started.action == "collect"
    assert done.collected is not None
    assert done.held_bytes
    assert done.held_bytes > 400_000_000
    assert journal.lines[-1].caller_pid == 77


def test_collect_and_rank_names_owners_by_their_own_share() -> None:
    world = World()
    with watching(world, interval_s=60) as (session, ear):
        ear.wait_for(Sample)
        session.collect_and_rank()
        done = ear.wait_for(Done)
    assert done.released == ()
    assert done.complete
    assert done.collected is not None


def test_what_a_collection_released_is_ranked_and_the_ended_are_said_so() -> None:
    from dataclasses import replace

    from diag.wire.model import Cost, Table
    from tests.unit.tui.fake import TARGET, owner
    from tui.session import released

    cost = Cost("local", "native", 1, 1, 1, 1, True)
    a, b, c = owner("a", retained=100), owner("b", retained=500), owner("c", retained=50)
    before = Table(TARGET, cost, (a, b, c), 3)
    after = Table(TARGET, cost, (replace(a, own_bytes=10), c), 2)
    found = released(before, after)
    assert [(each.owner.name, each.released_bytes, each.ended) for each in found] == [
        ("b", 500, True),
        ("a", 90, False),
    ]
    cut = replace(after, total_owners=40)
    assert [each.owner.name for each in released(before, cut)] == ["a"], "b may just not be listed"


def test_an_action_carries_the_identity_that_was_seen() -> None:
    world = World()
    with watching(world) as (session, ear):
        acme = row(ear.wait_for(Sample), "alcollect_client_sup:acme")
        session.act("stop", acme)
        done = ear.wait_for(Done)
        ear.wait_for(Sample, lambda s: all(owner.name != acme.name for owner in s.table.owners))
    assert done.stopped is not None
    assert done.stopped.stopped[0] == acme.name
    assert ("stop", acme.id, acme.incarnation) in world.calls
    assert world.running == {"acme": False, "globex": True, "initech": True, "umbrella": True}


def test_an_action_on_somebody_who_is_gone_fails_clearly_and_is_written_down() -> None:
    world = World()
    with watching(world) as (session, ear):
        acme = row(ear.wait_for(Sample), "alcollect_client_sup:acme")
        world.running["acme"] = False
        session.act("stop", acme)
        done = ear.wait_for(Done)
        journal = ear.wait_for(Journal, lambda j: any("failed" in line.outcome for line in j.lines))
    assert "no owner" in done.error
    assert done.hint == "refresh and look again"
    assert [line.victim for line in journal.lines if "failed" in line.outcome] == [acme.name]


def test_an_unknown_action_is_a_mistake_of_the_caller() -> None:
    world = World()
    with watching(world) as (session, ear):
        anybody = ear.wait_for(Sample).table.owners[0]
        with pytest.raises(ValueError, match="must be stop, restart, start or cancel"):
            session.act("obliterate", anybody)


def test_a_lost_target_is_said_and_tried_again_until_it_is_back() -> None:
    world = World()
    with watching(world) as (session, ear):
        ear.wait_for(Sample)
        world.alive = False
        lost = ear.wait_for(Link, lambda link: link.state == "lost")
        assert lost.text == "the target went away"
        assert lost.retry_s
        assert lost.hello is not None
        assert lost.hello.target.pid == world.pid
        ear.forget()
        world.alive = True
        session.refresh()
        ear.wait_for(Link, lambda link: link.state == "live")
        journal = ear.wait_for(Journal, lambda j: any(line.outcome == "back" for line in j.lines))
    assert [line.outcome for line in journal.lines if line.action == "link"] == [
        "lost: the target went away",
        "back",
    ]


def test_a_target_that_answers_but_refuses_is_not_lost() -> None:
    world = World()
    with watching(world) as (session, ear):
        ear.wait_for(Sample)
        connections = world.connections
        world.refuses = "another picture is being taken"
        refused = ear.wait_for(Link, lambda link: link.state == "refused")
        assert refused.text == "another picture is being taken"
        assert refused.hint == "try again in a moment"
        ear.forget()
        world.refuses = ""
        session.refresh()
        ear.wait_for(Link, lambda link: link.state == "live")
        assert world.connections == connections, "the connection was kept"


def test_an_agent_without_a_journal_can_still_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_journal(self: Fake) -> tuple[JournalEntry, ...]:
        raise RpcError(-32601, "no method journal")

    monkeypatch.setattr(Fake, "journal", no_journal)
    with watching(World()) as (session, ear):
        ear.wait_for(Sample, lambda s: s.number >= 3)
        session.collect()
        assert ear.wait_for(Done).collected is not None


def test_another_process_in_its_place_starts_with_a_clean_past() -> None:
    world = World()
    with watching(world) as (session, ear):
        ear.wait_for(Sample, lambda s: s.number > 3)
        world.alive = False
        ear.wait_for(Link, lambda link: link.state == "lost")
        ear.forget()
        world.pid, world.started, world.alive = 4343, 2000.0, True
        session.refresh()
        sample = ear.wait_for(Sample)
        ear.wait_for(Journal, lambda j: any(line.outcome == "restarted: pid 4242 → 4343" for line in j.lines))
    assert len(sample.rss_bytes) == 1
    assert {owner.growth_bytes_per_s for owner in sample.table.owners} == {None}


def test_a_target_that_never_was_is_said_with_what_to_try() -> None:
    world = World()
    world.alive = False
    with watching(world) as (_, ear):
        lost = ear.wait_for(Link, lambda link: link.state == "lost")
    assert lost.hello is None
    assert lost.hint == "diag ls shows what can be attached"


def test_a_stalled_target_neither_hides_nor_holds_up_the_exit() -> None:
    world = World()
    with watching(world) as (session, ear):
        ear.wait_for(Sample)
        world.stalled.clear()
        deadline = time.monotonic() + 10
        while session.waiting_s() < 0.05 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert session.waiting_s() >= 0.05
        session.close(wait_s=0.01)
    world.stalled.set()


def test_closing_lets_go_of_every_connection() -> None:
    world = World()
    with watching(world) as (session, ear):
        session.collect()
        ear.wait_for(Done)
    assert world.connections >= 2
    assert world.closed >= world.connections
    session.close()


def test_notes_are_bounded_and_in_order() -> None:
    with watching(World(), interval_s=60) as (session, ear):
        for number in range(600):
            session.note("mark", str(number), "done")
        journal = ear.wait_for(Journal, lambda j: bool(j.lines) and j.lines[-1].victim == "599")
    assert len(journal.lines) == 500


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "does not answer"),
        (ConnectionRefusedError(), "nobody listens"),
        (FileNotFoundError(), "nobody listens"),
        (BrokenPipeError(), "closed the connection"),
        (ValueError("odd"), "odd"),
        (KeyError(), "KeyError"),
    ],
)
def test_every_error_becomes_a_sentence(error: Exception, said: str) -> None:
    assert said in explain(error)[0]
