"""Actions hit what was meant, free it, and say what they did; or refuse and do nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from diag import hooks
from diag.agent.actions import Actions
from diag.agent.journal import Caller, Journal
from diag.agent.runtime.identity import Identities
from diag.agent.table import Look, table
from diag.wire.errors import NOT_ALLOWED, OWNER_GONE, UNSUPPORTED, RpcError
from diag.wire.model import Owner, Stopped, Target
from tests.unit.agent.fakes import Node
from tests.unit.agent.test_peek import forever, settled

CALLER = Caller(uid=1000, pid=4242)


class Operator:
    """Calls the agent's actions from a thread of its own, as the agent does."""

    def __init__(self, allowed: bool = True) -> None:
        self.journal = Journal()
        self.identities = Identities()
        self.actions = Actions(allowed, self.journal, self.identities, lambda: Look.take("p"))

    async def rows(self) -> dict[str, Owner]:
        def look() -> dict[str, Owner]:
            with Look.take("p") as seen:
                made = table(seen, Target(1, "p", "3"), self.identities)
            return {row.name: row for row in made.owners}

        return await asyncio.to_thread(look)

    async def act(
        self, action: str, owner_id: str, expect: str | None = None, deadline_s: float = 10.0
    ) -> Stopped:
        return await asyncio.to_thread(self.actions.on_owner, CALLER, action, owner_id, expect, deadline_s)


@pytest.fixture(autouse=True)
def _no_roots_of_others() -> Iterator[None]:
    before = dict(hooks._roots)
    hooks._roots.clear()
    yield
    hooks._roots.clear()
    hooks._roots.update(before)


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    yield Operator()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def hoard(count: int) -> None:
    _kept = [bytearray(100_000) for _ in range(count)]
    await asyncio.sleep(999)


async def test_cancelling_a_task_frees_what_was_predicted(operator: Operator) -> None:
    task = asyncio.create_task(hoard(50), name="leaker")
    await settled()
    row = (await operator.rows())["leaker"]
    done = await operator.act("cancel", row.id, row.incarnation)
    assert done.stopped == ("leaker",)
    assert done.predicted_bytes == pytest.approx(5_000_000, rel=0.01)
    # The test still refers to the task: its frames go all the same.
    assert done.freed_bytes > 0.9 * done.predicted_bytes
    assert task.cancelled()


async def test_a_task_that_swallows_its_cancellation_is_said_to_be_still_running(operator: Operator) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(999)
            except asyncio.CancelledError:
                if released:
                    raise

    released: list[int] = []
    task = asyncio.create_task(stubborn(), name="stubborn")
    await settled()
    row = (await operator.rows())["stubborn"]
    done = await operator.act("stop", row.id, deadline_s=0.3)
    assert done.stopped == ()
    assert "swallowed" in done.note
    assert "stubborn" in done.note
    released.append(1)
    task.cancel()
    await asyncio.wait([task])


async def test_stopping_a_task_stops_what_it_only_waits_for_and_spares_what_it_shields(
    operator: Operator,
) -> None:
    async def boss() -> None:
        shielded = asyncio.shield(kept)
        await asyncio.wait([*gone, shielded])

    gone = [asyncio.create_task(hoard(5), name=f"gone{at}") for at in range(2)]
    kept = asyncio.create_task(hoard(1), name="kept")
    asyncio.create_task(boss(), name="boss").add_done_callback(lambda _: None)
    await settled()
    row = (await operator.rows())["boss"]
    done = await operator.act("stop", row.id, row.incarnation)
    assert done.stopped[0] == "boss"
    assert sorted(done.stopped) == ["boss", "gone0", "gone1"]
    assert all(task.cancelled() for task in gone)
    assert not kept.done()
    assert "kept" in done.note
    assert "shielded" in done.note


async def test_cancelling_a_task_spares_what_it_only_waits_for_and_says_so(operator: Operator) -> None:
    child = asyncio.create_task(hoard(5), name="child")
    boss = asyncio.create_task(asyncio.wait([child]), name="boss")
    await settled()
    row = (await operator.rows())["boss"]
    done = await operator.act("cancel", row.id, row.incarnation)
    assert done.stopped == ("boss",)
    assert boss.cancelled()
    assert not child.done()
    assert "go on" in done.note


async def test_a_child_of_a_gather_takes_its_awaiters_with_it_which_is_said_before_and_after(
    operator: Operator,
) -> None:
    leaker, quiet = (asyncio.create_task(hoard(count), name=f"h{count}") for count in (50, 1))

    async def gathering() -> None:
        await asyncio.gather(leaker, quiet)

    boss = asyncio.create_task(gathering(), name="boss")
    await settled()
    row = (await operator.rows())["h50"]
    assert row.info["awaited_by"] == "boss"
    done = await operator.act("stop", row.id, row.incarnation)
    assert done.stopped == ("h50", "boss")
    assert "ended with it, for they awaited it: boss" in done.note
    # The exception that went from one to the other keeps none of what was predicted to go.
    assert done.freed_bytes > 0.9 * done.predicted_bytes
    assert boss.cancelled()
    assert not quiet.done()


async def test_an_awaiter_that_lives_on_is_not_said_to_have_ended(operator: Operator) -> None:
    async def forgiving() -> None:
        try:
            await leaker
        except asyncio.CancelledError:
            await asyncio.sleep(999)

    leaker = asyncio.create_task(hoard(50), name="leaker")
    asyncio.create_task(forgiving(), name="boss").add_done_callback(lambda _: None)
    await settled()
    row = (await operator.rows())["leaker"]
    done = await operator.act("stop", row.id, row.incarnation)
    assert done.stopped == ("leaker",)
    assert "ended with it" not in done.note


async def test_stopping_a_supervised_child_goes_through_its_supervisor(operator: Operator) -> None:
    sup = Node("sup").runs("w", asyncio.create_task(hoard(10)), initial_call="app.Worker.run")
    hooks.register(sup)
    await settled()
    row = (await operator.rows())["w"]
    assert (row.kind, row.ancestors, row.actions) == ("task", ("sup",), ("stop", "restart"))
    assert row.initial_call == "app.Worker.run"
    done = await operator.act("stop", row.id, row.incarnation)
    assert sup.asked == [("stop", "w")]
    assert done.stopped == ("w",)
    assert done.freed_bytes > 0.9 * done.predicted_bytes
    after = (await operator.rows())["w"]
    assert (after.state, after.actions, after.incarnation) == ("terminated", ("restart",), "")


async def test_an_application_is_stopped_as_a_whole_and_can_be_started_again(operator: Operator) -> None:
    app = Node("app", "application", state="running").over(Node("top"))
    hooks.register(app)
    row = (await operator.rows())["app"]
    assert (row.id, row.actions) == ("app/app", ("stop", "restart"))
    done = await operator.act("stop", row.id, row.incarnation)
    assert done.stopped[0] == "app"
    assert (await operator.rows())["app"].actions == ("start",)
    done = await operator.act("start", row.id)
    assert (done.stopped, done.predicted_bytes) == ((), 0)
    assert app.asked == [("stop", ""), ("start", "")]
    await operator.act("restart", row.id)
    assert app.asked[2:] == [("stop", ""), ("start", "")]


async def test_a_successor_under_the_same_name_is_not_hit(operator: Operator) -> None:
    sup = Node("sup").runs("w", asyncio.create_task(forever()))
    hooks.register(sup)
    await settled()
    seen = (await operator.rows())["w"]
    sup.children.clear()
    sup.runs("w", asyncio.create_task(forever()))
    await settled()
    assert (await operator.rows())["w"].id == seen.id
    with pytest.raises(RpcError) as caught:
        await operator.act("stop", seen.id, seen.incarnation)
    assert caught.value.code == OWNER_GONE
    assert sup.asked == []


async def test_a_child_that_is_replaced_after_we_looked_is_not_hit_in_its_stead(operator: Operator) -> None:
    first, second = (asyncio.create_task(hoard(1)) for _ in range(2))
    sup = Node("sup").runs("w", first)
    hooks.register(sup)
    await settled()
    row = (await operator.rows())["w"]

    def look() -> Look:
        seen = Look.take("p")
        sup.children[0] = hooks.Child("w", "w", "running", task=second)
        return seen

    operator.actions = Actions(True, operator.journal, operator.identities, look)
    with pytest.raises(RpcError, match="not the one that was shown") as caught:
        await operator.act("stop", row.id, row.incarnation)
    assert caught.value.code == OWNER_GONE
    assert sup.asked == []
    assert not second.done()


async def test_the_id_of_a_task_that_ended_names_nobody(operator: Operator) -> None:
    task = asyncio.create_task(forever(), name="short")
    await settled()
    row = (await operator.rows())["short"]
    task.cancel()
    await settled()
    del task
    for _ in range(50):  # likely to take its address
        asyncio.create_task(forever(), name="short")  # noqa: RUF006
    await settled()
    with pytest.raises(RpcError) as caught:
        await operator.act("cancel", row.id)
    assert caught.value.code == OWNER_GONE


async def test_what_cannot_be_done_is_refused_with_what_can(operator: Operator) -> None:
    task = asyncio.create_task(forever(), name="plain")
    finished = asyncio.create_task(asyncio.sleep(0), name="finished")
    await finished
    rows = await operator.rows()
    for owner_id, action in (
        (rows["plain"].id, "restart"),
        (rows["finished"].id, "cancel"),
        ("process", "stop"),
        ("loop", "stop"),
    ):
        with pytest.raises(RpcError) as caught:
            await operator.act(action, owner_id)
        assert caught.value.code == UNSUPPORTED
        assert caught.value.hint
    assert not task.done()


async def test_a_caller_who_hung_up_while_another_action_was_under_way_is_not_served(
    operator: Operator,
) -> None:
    task = asyncio.create_task(hoard(1), name="victim")
    await settled()
    row = (await operator.rows())["victim"]
    left = Caller(uid=1000, pid=4242, gone=lambda: True)
    with pytest.raises(RpcError, match="hung up"):
        await asyncio.to_thread(operator.actions.on_owner, left, "stop", row.id, None, 5.0)
    assert not task.done()
    assert "hung up" in operator.journal.entries()[-1].outcome


async def test_a_read_only_agent_refuses_every_action_and_writes_it_down(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(allowed=False)
    task = asyncio.create_task(forever(), name="t")
    await settled()
    row = (await operator.rows())["t"]
    with caplog.at_level(logging.INFO, "diag"):
        for action in ("stop", "restart", "start", "cancel"):
            with pytest.raises(RpcError) as caught:
                await operator.act(action, row.id)
            assert caught.value.code == NOT_ALLOWED
            assert "allow_actions" in caught.value.hint
        for call in (operator.actions.collect, operator.actions.trim):
            with pytest.raises(RpcError):
                await asyncio.to_thread(call, CALLER)
    assert [entry.outcome for entry in operator.journal.entries()] == ["refused: read-only"] * 6
    assert len(caplog.records) == 6
    assert "uid=1000 pid=4242" in caplog.text
    assert not task.done()


async def test_every_action_is_in_the_journal_with_its_figures_and_in_the_log_with_its_caller(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    task = asyncio.create_task(hoard(5), name="t\nforged line")
    await settled()
    row = (await operator.rows())["t\nforged line"]
    with caplog.at_level(logging.INFO, "diag"):
        done = await operator.act("cancel", row.id)
        with pytest.raises(RpcError):
            await operator.act("cancel", "task:nobody@1.1")
    first, second = operator.journal.entries()
    assert (first.action, first.victim, first.uid, first.caller_pid) == (
        "cancel",
        "t\nforged line",
        1000,
        4242,
    )
    assert (first.predicted_bytes, first.freed_bytes) == (done.predicted_bytes, done.freed_bytes)
    assert first.outcome.startswith("done")
    assert second.outcome.startswith("failed: there is no owner")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert task.cancelled()


async def test_a_failing_stop_of_the_application_is_reported_and_not_raised_into_it(
    operator: Operator,
) -> None:
    class Broken(Node):
        async def diag_stop_child(self, child_id: str) -> None:
            raise RuntimeError("cannot")

    sup = Broken("sup").runs("w", asyncio.create_task(forever()))
    hooks.register(sup)
    await settled()
    with pytest.raises(RpcError, match="RuntimeError: cannot"):
        await operator.act("stop", (await operator.rows())["w"].id)


async def test_collecting_says_how_many_unreachable_objects_there_were(operator: Operator) -> None:
    class Node_:
        other: Any
        load: bytearray

    gc.collect()
    gc.disable()
    try:
        a, b = Node_(), Node_()
        a.other, b.other, a.load = b, a, bytearray(5_000_000)
        del a, b
        done = await asyncio.to_thread(operator.actions.collect, CALLER)
    finally:
        gc.enable()
    assert done.collected_objects >= 2
    assert done.freed_bytes > 4_500_000
    assert done.predicted_bytes is None or done.predicted_bytes > 4_500_000


async def test_neither_a_picture_nor_an_action_keeps_a_task_alive(operator: Operator) -> None:
    task = asyncio.create_task(forever(), name="t")
    other = asyncio.create_task(forever(), name="other")
    await settled()
    references = [weakref.ref(task), weakref.ref(other)]
    gc.collect()
    gc.disable()
    try:
        row = (await operator.rows())["t"]
        with pytest.raises(RpcError):
            await operator.act("restart", row.id)
        await operator.act("cancel", row.id)
        other.cancel()
        del task, other
        await settled()
        alive = [reference() is not None for reference in references]
        assert alive == [False, False]
    finally:
        gc.enable()


def test_the_journal_is_bounded_and_gives_the_latest() -> None:
    from diag.agent.journal import Aim

    journal = Journal()
    logging.getLogger("diag").disabled = True
    try:
        for number in range(500):
            journal.add(CALLER, "trim", Aim("process", str(number)), "done")
    finally:
        logging.getLogger("diag").disabled = False
    assert len(journal.entries()) == 200
    assert [entry.victim for entry in journal.entries(2)] == ["498", "499"]
    assert journal.entries(0) == []
