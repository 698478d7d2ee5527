"""Rows: what a limit leaves, what a tree still needs, and that the figures of one row belong together."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from diag import hooks
from diag.agent.runtime.identity import Identities
from diag.agent.table import Look, table
from diag.wire import model
from tests.unit.agent.fakes import Node
from tests.unit.agent.test_actions import hoard
from tests.unit.agent.test_peek import settled


@pytest.fixture(autouse=True)
def _no_roots_of_others() -> Iterator[None]:
    before = dict(hooks._roots)
    hooks._roots.clear()
    yield
    hooks._roots.clear()
    hooks._roots.update(before)


@pytest.fixture
async def app() -> Any:
    """An application with two clients of which acme holds 5 MB in several tasks."""
    gc.collect()  # finished tasks of other tests would be rows that vanish at any moment
    tasks = {name: asyncio.create_task(hoard(count), name=name) for name, count in SIZES.items()}
    acme, globex = Node("acme_sup", strategy="one_for_all"), Node("globex_sup")
    for name, task in tasks.items():
        (acme if name.startswith("acme") else globex).runs(name, task, restarts=2)
    root = Node("lmcollect", "application").over(Node("lmcollect_sup").over(acme, globex))
    hooks.register(root)
    await settled()
    yield root
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())


SIZES = {"acme_parser": 20, "acme_batcher": 18, "acme_writer": 17, "globex_parser": 3}


async def taken(**asked: Any) -> model.Table:
    def look() -> model.Table:
        with Look.take("collector") as seen:
            return table(seen, model.Target(1, "collector", "3"), Identities(), **asked)

    return await asyncio.to_thread(look)


async def test_the_leaking_client_supervisor_comes_first_with_its_names_and_its_ancestors(app: Node) -> None:
    first = (await taken(limit=1)).owners[0]
    assert (first.name, first.kind) == ("acme_sup", "supervisor")
    assert first.ancestors == ("lmcollect_sup", "lmcollect")
    assert first.id == "app/lmcollect/lmcollect_sup/acme_sup"
    assert first.info["strategy"] == "one_for_all"
    assert first.buffer_bytes > 5_400_000
    assert set(first.holders) == set(model.HOLDERS)


async def test_a_limit_cuts_rows_and_says_how_many_there_were(app: Node) -> None:
    everything, some = await taken(), await taken(limit=3)
    assert len(some.owners) == 3
    assert some.total_owners == everything.total_owners == len(everything.owners)
    assert [row.name for row in some.owners] == [row.name for row in everything.owners[:3]]


async def test_with_ancestors_every_parent_of_a_shown_row_is_there(app: Node) -> None:
    made = await taken(limit=2, kinds=["task"], with_ancestors=True)
    assert [row.kind for row in made.owners[:2]] == ["task", "task"]
    shown = {row.id for row in made.owners}
    assert all(row.parent is None or row.parent in shown for row in made.owners)
    assert made.owners[-1].kind == "process"


async def test_kinds_leave_only_those_rows(app: Node) -> None:
    made = await taken(kinds=["supervisor"])
    assert {row.kind for row in made.owners} == {"supervisor"}
    assert made.total_owners == 3


async def test_own_bytes_of_all_rows_add_up_to_what_the_process_retains(app: Node) -> None:
    rows = (await taken()).owners
    process = next(row for row in rows if row.kind == "process")
    assert sum(row.own_bytes for row in rows) == process.retained_bytes
    children: dict[str | None, int] = {}
    for row in rows:
        children[row.parent] = children.get(row.parent, 0) + row.retained_bytes
    for row in rows:
        assert row.retained_bytes == row.own_bytes + children.get(row.id, 0)


async def test_a_row_survives_the_wire_unchanged(app: Node) -> None:
    made = await taken(by="retained")
    assert model.from_json(model.Table, model.to_json(made)) == made


async def test_what_the_application_drops_during_a_picture_is_destroyed_on_its_own_thread() -> None:
    class Thing:
        def __del__(self) -> None:
            where.append(threading.get_ident())

    async def work() -> Thing:
        return Thing()

    async def hold() -> None:
        _held = Thing()
        await asyncio.Event().wait()

    where: list[int] = []
    done, pending = asyncio.create_task(work()), asyncio.create_task(hold())
    await settled()

    def look() -> Look:
        return Look.take("p").__enter__()

    seen = await asyncio.to_thread(look)
    del done
    pending.cancel()
    await asyncio.wait([pending])
    del pending
    await settled()
    let_go = functools.partial(seen.__exit__, None, None, None)
    del seen
    await asyncio.to_thread(let_go)
    del let_go
    await settled()
    assert where == [threading.get_ident()] * 2
