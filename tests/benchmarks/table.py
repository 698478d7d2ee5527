"""How long the table of owners takes, beside what else can look at the same heap.

    python -m tests.benchmarks.table [--tasks 1000 10000] [--rounds 5] [--write]

Every figure of a row comes from the same process and the same heap: N tasks with about a hundred
objects each (ten buffers, a queue, nested containers, a sleeping timer). The ratios are what to
compare; the milliseconds are this machine's on this day. ``--write`` puts the result beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diag.agent import manners
from diag.agent.heap import engine as under_test
from diag.agent.heap.engine import engine_name, frame_locals, measure
from diag.agent.heap.owners import OwnerNode, OwnerTree
from diag.agent.heap.picture import Picture

RESULTS = Path(__file__).with_name("table.md")


class Session:
    def __init__(self, n: int) -> None:
        self.name = f"session {n}"
        self.events = [{"id": n * 1000 + k, "text": f"event {k}", "tags": [k, str(n)]} for k in range(10)]
        self.counters = dict.fromkeys(f"counter {n} {k}" for k in range(8))


async def worker(n: int) -> None:
    session = Session(n)
    buffers = [bytes(200 + k) for k in range(8)]
    views = [memoryview(bytes(4096))[:32] for _ in range(2)]
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    queue.put_nowait(bytes(300))
    await asyncio.sleep(3600)
    del session, buffers, views


def best_of(rounds: int, call: Callable[[], Any]) -> tuple[float, Any]:
    """Median milliseconds, and the last answer."""
    took, answer = [], None
    for _ in range(rounds):
        answer = None
        start = time.perf_counter()
        answer = call()
        took.append((time.perf_counter() - start) * 1e3)
    return statistics.median(took), answer


def pauses(rounds: int, tree: OwnerTree) -> tuple[float, float, Picture]:
    """Median over the rounds of the median slice, and of the longest one."""
    medians, longest, picture = [], [], None
    original = under_test._Measurement._timed
    for _ in range(rounds):
        seen: list[float] = []

        def timed(self: Any, call: Callable[[], Any], seen: list[float] = seen) -> Any:
            answer = original(self, call)
            seen.append(self.held * 1e3)
            return answer

        under_test._Measurement._timed = timed  # type: ignore[method-assign]
        try:
            picture = measure(tree)
        finally:
            under_test._Measurement._timed = original  # type: ignore[method-assign]
        medians.append(statistics.median(seen))
        longest.append(max(seen))
    assert picture is not None
    return statistics.median(medians), statistics.median(longest), picture


def run(tasks: int, rounds: int) -> list[str]:
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    held: list[asyncio.Task[None]] = []

    async def main() -> None:
        held.extend(asyncio.ensure_future(worker(n)) for n in range(tasks))
        await asyncio.sleep(0.1)
        ready.set()
        await asyncio.gather(*held, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    ready.wait()
    nodes = [OwnerNode(-1, "process"), OwnerNode(0, "loop")]
    nodes += [OwnerNode(0, "task", [task]) for task in held]
    tree = OwnerTree(nodes, [loop], 1)
    gc.collect()

    rows: list[tuple[str, float, str]] = []
    if engine_name() == "native":
        with manners.no_collections():  # as the agent does while it takes a picture
            median_ms, _ = best_of(rounds, lambda: measure(tree, engine="native"))
            slice_ms, longest_ms, picture = pauses(rounds, tree)
        per_object = picture.cost.objects / tasks
        note = f"slices {slice_ms:.1f} ms median, {longest_ms:.1f} ms longest"
        rows.append(("table, native", median_ms, note))
    fallback_ms, fallback = best_of(1, lambda: measure(tree, engine="fallback"))
    per_object = fallback.cost.objects / tasks
    note = f"longest slice {fallback.cost.longest_pause_ms:.0f} ms, on the loop"
    rows.append(("table, fallback", fallback_ms, note))
    rows.append(("gc.collect()", best_of(rounds, gc.collect)[0], "one pause; says nothing of owners"))
    try:
        from pympler import asizeof

        # It cannot see into a suspended coroutine, so it is handed what each task's coroutine holds.
        contents = [dict(frame_locals(task.get_coro())) for task in held]
        took, _ = best_of(1, lambda: asizeof.asizesof(*contents))
        rows.append(("pympler asizesof", took, "one pause; given each task's locals, which it cannot find"))
        contents.clear()
    except ImportError:
        rows.append(("pympler asizesof", float("nan"), "not installed"))
    try:
        from guppy import hpy

        took, _ = best_of(1, lambda: hpy().heap())
        rows.append(("guppy3 heap()", took, "one pause; by type, no owners"))
    except ImportError:
        rows.append(("guppy3 heap()", float("nan"), "not installed"))

    for task in held:
        loop.call_soon_threadsafe(task.cancel)
    thread.join()
    loop.close()
    base = rows[0][1]
    lines = [
        f"### {tasks:,} tasks, about {per_object:.0f} objects each",
        "",
        "| what | ms | against the first row | |",
        "|---|---:|---:|---|",
    ]
    lines += [f"| {what} | {ms:.1f} | {ms / base:.1f}x | {note} |" for what, ms, note in rows]
    return [*lines, ""]


def main() -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"keep the result in {RESULTS.name}")
    options = parser.parse_args()
    lines = [
        "## The table of owners",
        "",
        f"`make bench`; CPython {platform.python_version()}, {sys.platform}, {platform.machine()}; medians.",
        "",
    ]
    for tasks in options.tasks:
        lines += run(tasks, options.rounds)
    text = "\n".join(lines)
    print(text)
    if options.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
