"""The owner tree: hooks first, then who started or awaits whom; and no trust in what hooks say."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from diag import hooks
from diag.agent.runtime import tree
from diag.agent.runtime.tree import RuntimeTree
from tests.unit.agent.fakes import Node
from tests.unit.agent.test_peek import forever, settled


@pytest.fixture(autouse=True)
def _no_roots_of_others() -> Iterator[None]:
    gc.collect()  # finished tasks of other tests that are still waiting for it would be rows here
    before = dict(hooks._roots)
    hooks._roots.clear()
    yield
    hooks._roots.clear()
    hooks._roots.update(before)


def outline(built: RuntimeTree, *, without: tuple[str, ...] = ("Task-",)) -> dict[str, str]:
    """Name → parent's name, of everything but the test's own tasks."""
    return {
        label.name: built.labels[built.parent(index)].name if index else ""
        for index, label in enumerate(built.labels)
        if not label.name.startswith(without)
    }


async def test_hooks_give_the_shape_and_the_names_of_the_tree() -> None:
    task = asyncio.create_task(forever(), name="internal")
    client = Node("client:acme").runs("parser", task)
    app = Node("lmcollect", "application").over(Node("lmcollect_sup").over(client))
    hooks.register(app)
    built = tree.build("collector")
    assert outline(built) == {
        "collector": "",
        "lmcollect": "collector",
        "lmcollect_sup": "lmcollect",
        "client:acme": "lmcollect_sup",
        "parser": "client:acme",
        "event loop": "collector",
    }
    ids = [label.id for label in built.labels if label.id.startswith("app/")]
    assert ids[-1] == "app/lmcollect/lmcollect_sup/client:acme/parser"
    assert [label.kind for label in built.labels[:5]] == [
        "process",
        "application",
        "supervisor",
        "supervisor",
        "task",
    ]
    task.cancel()


async def test_tasks_of_a_supervised_task_hang_below_it_and_finished_ones_below_the_process() -> None:
    async def parent() -> None:
        await asyncio.gather(asyncio.create_task(forever(), name="child"))

    worker = asyncio.create_task(parent(), name="w")
    done = asyncio.create_task(asyncio.sleep(0), name="finished")
    await settled()
    sup = Node("sup").runs("worker", worker)
    hooks.register(sup)
    built = tree.build("p")
    assert outline(built)["child"] == "worker"
    assert outline(built)["finished"] == "p"
    assert {label.name: label.kind for label in built.labels}["finished"] == "done_task"
    assert done.done()
    worker.cancel()
    await asyncio.wait([worker])


async def test_parents_always_come_before_their_children() -> None:
    tasks = [asyncio.create_task(forever(), name="leaf")]
    for depth in range(30):

        async def wait(on: asyncio.Task[Any] = tasks[-1]) -> None:
            await on

        tasks.append(asyncio.create_task(wait(), name=f"level{depth}"))
    await settled()
    built = tree.build("p")
    assert all(built.parent(index) < index for index in range(len(built.labels)))
    assert outline(built)["leaf"] == "level0"
    assert len(built.owners.depth_first()) == len(built.labels)
    assert built.subtree(0) == list(range(len(built.labels)))
    tasks[-1].cancel()
    await asyncio.wait(tasks)


async def test_tasks_that_wait_for_each_other_do_not_hang_the_walk() -> None:
    gate = asyncio.Event()
    pair: list[asyncio.Task[None]] = []

    async def wait(other: int) -> None:
        await gate.wait()
        await asyncio.wait([pair[other]])  # awaiting directly, neither could ever be cancelled

    pair += [asyncio.create_task(wait(1), name="a"), asyncio.create_task(wait(0), name="b")]
    await settled()
    gate.set()
    await settled()
    assert {"a", "b"} <= set(outline(tree.build("p")))
    for task in pair:
        task.cancel()
    await asyncio.wait(pair)


async def test_a_subsystem_that_shows_itself_as_its_own_child_is_shown_once() -> None:
    sup = Node("sup")
    sup.over(sup)
    hooks.register(sup)
    assert list(outline(tree.build("p"))).count("sup") == 1


async def test_a_hook_that_raises_costs_its_own_row_only_and_is_named_there() -> None:
    class Broken(Node):
        def diag_children(self) -> Any:
            raise RuntimeError("secret")

        def diag_info(self) -> Any:
            return {"limit": float("nan"), "thing": object(), "state": "running"}

    broken, fine = Broken("broken"), Node("fine")
    hooks.register(broken)
    hooks.register(fine)
    built = tree.build("p")
    labels = {label.name: label for label in built.labels}
    assert "fine" in labels
    assert tree.plain_info(labels["broken"]) == {
        "limit": "nan",
        "thing": "object",
        "state": "running",
        "error": "its hook raised RuntimeError",
    }


async def test_names_that_would_break_an_id_are_escaped_and_equal_ids_told_apart() -> None:
    sup = Node("a/b\n%")
    sup.over(Node("x"))
    sup.children.append(hooks.Child("x", "x", "terminated"))
    hooks.register(sup)
    ids = [label.id for label in tree.build("p").labels]
    assert "sup/a%2Fb%0A%25" in ids
    assert "sup/a%2Fb%0A%25/x" in ids
    assert "sup/a%2Fb%0A%25/x#2" in ids


async def test_building_and_dropping_a_tree_leaves_no_reference_behind() -> None:
    task = asyncio.create_task(forever(), name="t")
    sup = Node("sup").runs("w", task)
    hooks.register(sup)
    await settled()
    references = [weakref.ref(task), weakref.ref(sup)]
    gc.disable()
    try:
        built = tree.build("p")
        assert len(built.labels) > 2
        del built
        task.cancel()
        await settled()
        del task, sup
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
