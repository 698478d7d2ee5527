"""What each figure means, shown on small heaps with real tasks and loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from diag.agent.heap import engine
from diag.agent.heap.engine import Budget, measure
from diag.agent.heap.owners import OwnerNode, OwnerTree
from diag.agent.heap.paths import paths
from diag.agent.heap.picture import Picture
from diag.wire.errors import RpcError
from tests.unit.heap.graphs import Mailbox, Plain, Registry, Root, Slotted

ENGINES = ["native", "fallback"] if engine.engine_name() == "native" else ["fallback"]
native_only = pytest.mark.skipif(
    engine.engine_name() != "native", reason=f"needs the C module: {engine.fallback_reason()}"
)
KB = 1024


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def flat(*roots: object) -> OwnerTree:
    return OwnerTree([OwnerNode(-1, "process"), *(OwnerNode(0, "task", [root]) for root in roots)])


def holding(*things: object) -> Root:
    root = Root()
    root.held.extend(things)
    return root


def test_the_engine_here_is_the_native_one_unless_it_says_why_not() -> None:
    assert (engine.engine_name() == "native") is (engine.fallback_reason() == "")


def test_builds_whose_reference_counts_say_nothing_are_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "abiflags", "t")
    with pytest.raises(RpcError, match="free-threaded") as refused:
        measure(flat(holding()), engine=name)
    assert "ordinary build" in refused.value.hint


def test_what_two_owners_share_belongs_to_their_common_supervisor(name: str) -> None:
    shared, own = bytearray(100 * KB), bytearray(10 * KB)
    left, right = holding(shared, own), holding(shared)
    del shared, own
    tree = OwnerTree(
        [
            OwnerNode(-1, "process"),
            OwnerNode(0, "supervisor"),
            OwnerNode(1, "task", [left]),
            OwnerNode(1, "task", [right]),
        ]
    )
    rows = measure(tree, engine=name).rows
    assert rows[1].own_bytes == sys.getsizeof(left.held[0])
    assert rows[2].buffer_bytes == sys.getsizeof(left.held[1])
    assert rows[3].buffer_bytes == 0
    assert rows[3].shared_bytes >= 100 * KB
    assert rows[1].retained_bytes == sum(row.own_bytes for row in rows[1:])


def test_what_somebody_unknown_also_holds_is_nobodys(name: str) -> None:
    kept = bytearray(50 * KB)
    rows = measure(flat(holding(kept, bytes(100))), engine=name).rows
    assert rows[1].buffer_bytes == sys.getsizeof(bytes(100))
    assert rows[1].shared_bytes >= len(kept)


def test_small_views_of_large_chunks_show_what_they_waste(name: str) -> None:
    chunks = [bytes(250 * KB) for _ in range(4)]
    views = [memoryview(chunk)[: 32 * (n + 1)] for n, chunk in enumerate(chunks)]
    views.append(memoryview(chunks[0])[16:64])  # overlaps the first one: 64 bytes of it are shown in all
    root = holding(*views)
    del chunks, views
    picture = measure(flat(root), engine=name)
    row = picture.rows[1]
    shown = 64 + 64 + 96 + 128
    assert row.waste_bytes == 4 * 250 * KB - shown
    (buffers,) = picture.buffers(1)
    assert (buffers.type, buffers.count, buffers.waste_bytes) == ("bytes", 4, row.waste_bytes)


def test_a_chunk_that_is_held_itself_is_not_wasted_by_its_views(name: str) -> None:
    chunk = bytes(250 * KB)
    root = holding(chunk, memoryview(chunk)[:32])
    del chunk
    assert measure(flat(root), engine=name).rows[1].waste_bytes == 0


def test_bytes_are_put_under_the_place_where_they_hang(name: str) -> None:
    table, box, queue = Registry(), Mailbox(), asyncio.Queue[Any]()
    table["a"] = [bytearray(1 * KB)]
    box.append({"b": bytearray(2 * KB)})
    queue.put_nowait((bytearray(3 * KB),))
    both = bytearray(4 * KB)
    queue.put_nowait(both)
    root = holding(table, box, queue, bytearray(5 * KB), both)
    del table, box, queue, both
    picture = measure(flat(root), engine=name)
    found = {b.holder: b.bytes // KB for b in picture.buffers(1)}
    assert found == {"registry": 1, "queue": 5, "locals": 9}, "what is also held directly is no queue's"
    assert sum(picture.rows[1].holders.values()) == picture.rows[1].retained_bytes


def test_a_cycle_that_only_one_owner_reaches_is_its_own(name: str) -> None:
    ring = [Slotted(None) for _ in range(50)]
    for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
        one.first = other
    root = holding(ring[0])
    del ring, one, other
    assert measure(flat(root), engine=name).rows[1].objects == 2 + 50


def test_a_chain_of_a_million_links_is_walked_without_recursion() -> None:
    chain: Any = None
    for _ in range(1_000_000):
        chain = [chain]
    root = holding(chain)
    del chain
    try:
        row = measure(flat(root), Budget(max_pause_ms=60_000), engine=ENGINES[0]).rows[1]
        assert row.objects == 1_000_002
    finally:
        chain = root.held
        while chain and chain[0] is not None:
            chain = chain[0]
            root.held[:] = [chain]


def test_an_owner_too_large_for_the_longest_pause_is_cut_off_and_said_to_be(name: str) -> None:
    huge = holding([[n] for n in range(200_000)])
    small = [holding(bytearray(KB)) for _ in range(10)]
    full = measure(flat(huge, *small), Budget(max_pause_ms=60_000), engine=name)
    assert full.cost.complete
    a_third = full.cost.longest_pause_ms / 3
    cut = measure(flat(huge, *small), Budget(max_pause_ms=a_third), engine=name)
    assert not cut.cost.complete
    assert "lower bound" in cut.cost.note
    assert 0 < cut.rows[1].retained_bytes < full.rows[1].retained_bytes
    assert cut.rows[2:] == full.rows[2:], "its neighbours are not cut short"


def test_a_shared_cache_is_not_entered_however_large(name: str) -> None:
    cache = [[n] for n in range(50_000)]
    roots = [holding(cache) for _ in range(20)]
    del cache
    assert measure(flat(*roots), engine=name).cost.objects < 2000


def test_a_size_written_in_python_is_never_asked_for(name: str) -> None:
    class Touchy(list[int]):
        def __sizeof__(self) -> int:
            raise AssertionError("ran the target's code")

        def __getattribute__(self, attribute: str) -> Any:
            raise AssertionError("ran the target's code")

        def __eq__(self, other: object) -> bool:
            raise AssertionError("ran the target's code")

        __hash__ = None  # type: ignore[assignment]

    root = holding(Touchy([1000, 2000]))
    row = measure(flat(root), engine=name).rows[1]
    assert row.objects >= 3
    paths(flat(root), 1)


def test_measuring_leaves_no_dict_behind_on_an_instance(name: str) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("before 3.11 every instance has its dict from the start")
    plain = Plain(bytearray(10))
    root = holding(plain)
    before = len(gc.get_referents(plain)), plain.__sizeof__()
    paths(flat(root), 1)
    measure(flat(root), engine=name)
    assert (len(gc.get_referents(plain)), plain.__sizeof__()) == before
    assert not any(type(each) is dict for each in gc.get_referents(plain))


def test_a_tree_whose_children_come_before_their_parents_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="parents must come first"):
        measure(
            OwnerTree([OwnerNode(-1, "process"), OwnerNode(2, "task"), OwnerNode(0, "task")]), engine=name
        )


def test_weak_references_and_their_callbacks_are_left_alone(name: str) -> None:
    died: list[str] = []
    thing = Plain(None)
    ref = weakref.ref(thing, lambda _: died.append("now"))
    root = holding(thing)
    del thing
    measure(flat(root), Budget(first_slice=1, largest_slice=1), engine=name)
    assert ref() is not None
    root.held.clear()
    assert died == ["now"]


# -- with a running loop


def _from_a_thread(measured: Callable[[], Any]) -> Awaitable[Any]:
    return asyncio.get_running_loop().run_in_executor(None, measured)


async def _look(tree: OwnerTree, name: str) -> Picture:
    picture = await _from_a_thread(lambda: measure(tree, engine=name))
    assert isinstance(picture, Picture)
    return picture


def _with_loop(*tasks: object) -> OwnerTree:
    nodes = [OwnerNode(-1, "process"), OwnerNode(0, "loop")]
    nodes += [OwnerNode(0, "task", [task]) for task in tasks]
    return OwnerTree(nodes, [asyncio.get_running_loop()], 1)


@contextlib.asynccontextmanager
async def running(*coroutines: Any) -> AsyncIterator[list[asyncio.Task[Any]]]:
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_locals_of_a_sleeping_task_are_its_own_through_every_await(name: str) -> None:
    async def inner(kept: bytearray) -> None:
        deeper = bytearray(20 * KB)
        await asyncio.sleep(1000)
        del kept, deeper

    async def outer() -> None:
        await inner(bytearray(10 * KB))

    async with running(outer()) as tasks:
        row = (await _look(_with_loop(*tasks), name)).rows[2]
        assert 30 * KB <= row.buffer_bytes < 31 * KB
        assert 0 < row.loop_bytes < 2 * KB, "its timer is the loop's as well"


async def test_awaiting_a_task_does_not_make_its_memory_mine(name: str) -> None:
    async def child() -> None:
        kept = bytearray(40 * KB)
        await asyncio.sleep(1000)
        del kept

    async def parent(other: asyncio.Task[None]) -> None:
        await other

    other = asyncio.ensure_future(child())
    async with running(parent(other)) as tasks:
        rows = (await _look(_with_loop(tasks[0], other), name)).rows
        assert rows[2].buffer_bytes == 0
        assert rows[3].buffer_bytes >= 40 * KB
    assert other.cancelled()


async def test_a_timer_that_nobody_else_knows_belongs_to_the_loop(name: str) -> None:
    loop = asyncio.get_running_loop()
    handle = loop.call_later(1000, lambda kept: None, bytearray(30 * KB))
    weak = weakref.ref(handle)
    del handle
    rows = (await _look(_with_loop(), name)).rows
    assert rows[1].own_bytes >= 30 * KB
    timer = weak()
    assert timer is not None
    timer.cancel()


async def test_a_stalled_peer_shows_as_bytes_in_the_transport_that_closing_would_free(name: str) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def sender() -> None:
        _reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(bytes(4 * KB * KB))
        await asyncio.sleep(1000)
        writer.close()

    async with running(sender()) as tasks:
        for _ in range(5):
            await asyncio.sleep(0)
        picture = await _look(_with_loop(*tasks), name)
        row = picture.rows[2]
        assert row.holders["transport"] > 3 * KB * KB
        assert row.loop_bytes > 3 * KB * KB
    theirs.close()


@native_only
async def test_a_task_caught_in_the_middle_of_its_work_still_shows_its_locals() -> None:
    seen: list[Picture] = []
    entered, done = threading.Event(), threading.Event()

    def work(block: bytearray) -> None:
        mine = bytearray(30 * KB)
        entered.set()
        while not done.is_set():  # runs Python code, never lets go of the loop
            sum(range(50))
        del mine, block

    async def busy() -> None:
        kept = bytearray(20 * KB)
        work(bytearray(10 * KB))
        del kept

    task = asyncio.ensure_future(busy())
    tree = _with_loop(task)

    def look() -> None:
        entered.wait(30)
        seen.append(measure(tree, engine="native"))
        done.set()

    looker = threading.Thread(target=look)
    looker.start()
    await task
    looker.join()
    # 3.10 keeps a caller's arguments on its value stack during a call, where they cannot be read.
    least = 50 if sys.version_info < (3, 11) else 60
    assert least * KB <= seen[0].rows[2].buffer_bytes < 61 * KB


async def test_a_supervisor_with_more_tasks_than_a_slice_still_owns_what_they_share(name: str) -> None:
    shared = deque(bytearray(KB) for _ in range(100))

    async def worker(common: Any) -> None:
        await asyncio.sleep(1000)
        del common

    async with running(*(worker(shared) for _ in range(40))) as tasks:
        del shared
        nodes = [OwnerNode(-1, "process"), OwnerNode(0, "loop"), OwnerNode(0, "supervisor")]
        nodes += [OwnerNode(2, "task", [task]) for task in tasks]
        tree = OwnerTree(nodes, [asyncio.get_running_loop()], 1)
        budget = Budget(first_slice=7, largest_slice=7)
        picture = await _from_a_thread(lambda: measure(tree, budget, engine=name))
        assert picture.cost.slices > 5
        assert picture.rows[2].own_bytes >= 100 * KB


async def test_the_path_to_the_memory_is_told_with_the_names_people_gave() -> None:
    class App:
        def __init__(self) -> None:
            self.kept: list[memoryview] = []

        def keep(self) -> None:
            self.kept.append(memoryview(bytes(100 * KB))[:10])

    async def leaky() -> None:
        app = App()
        for _ in range(20):
            app.keep()
        await asyncio.sleep(1000)

    async with running(leaky()) as tasks:
        tree = _with_loop(*tasks)
        found, complete, note = await _from_a_thread(lambda: paths(tree, 2))
    assert complete, note
    assert (found[0].type, found[0].count, found[0].holder) == ("bytes", 20, "locals")
    assert found[0].bytes == 20 * sys.getsizeof(bytes(100 * KB))
    edges = [step.edge for step in found[0].steps]
    if engine.engine_name() == "native":
        assert "local app" in edges
    assert "backed by" in edges
    assert "[*]" in edges
