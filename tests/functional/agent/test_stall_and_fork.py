"""A loop that does not answer, a process that forks, a server that comes and goes: no harm in any of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import pytest

from diag.agent.heap import engine
from diag.client.connection import Connection
from diag.wire.errors import LOOP_STALLED, RpcError
from tests.functional.agent.harness import Target, wait_until

Start = Callable[..., Target]

STALLING = """
async def victim():
    block = bytearray(1_000_000)
    await asyncio.sleep(9999)

def blocking_call():
    while told() != "wake":
        pass

async def main():
    diag.serve(name="stalling", allow_actions=True)
    tasks = [asyncio.create_task(victim(), name="victim"), asyncio.create_task(beat(), name="beat")]
    await asyncio.sleep(0.05)
    ready()
    blocking_call()
    ready()
    await asyncio.sleep(9999)

asyncio.run(main())
"""


def test_a_stalled_loop_is_still_looked_into_and_the_culprit_named(target: Start) -> None:
    running = target(STALLING)
    with Connection(running.path) as connection:
        rows = {row.name: row for row in connection.top().owners}
        assert rows["victim"].retained_bytes > 1_000_000
        main = rows["Task-1"]
        assert main.state == "running"
        assert main.current_function.startswith("__main__.told:")
        assert connection.memory().tasks == 3


def test_an_action_on_a_stalled_loop_is_withdrawn_and_does_not_happen_later(target: Start) -> None:
    running = target(STALLING)
    with Connection(running.path) as connection, Connection(running.path) as other:
        victim = next(row for row in connection.top().owners if row.name == "victim")
        with pytest.raises(RpcError) as caught:
            connection.cancel(victim.id, victim.incarnation, deadline_s=0.3)
        assert caught.value.code == LOOP_STALLED
        assert "withdrawn" in caught.value.message
        running.tell("wake")
        running.expect("ready")
        running.goes_on()
        assert any(row.name == "victim" for row in other.top().owners)
        assert "failed" in other.journal()[-1].outcome
        assert connection.cancel(victim.id, victim.incarnation).stopped == ("victim",)


def test_while_an_action_waits_for_a_stalled_loop_other_clients_are_served(target: Start) -> None:
    import threading

    running = target(STALLING)
    with Connection(running.path) as connection, Connection(running.path) as other:
        victim = next(row for row in connection.top().owners if row.name == "victim")
        refused = threading.Event()

        def acts() -> None:
            try:
                connection.cancel(victim.id, deadline_s=60.0)
            except RpcError:
                refused.set()

        actor = threading.Thread(target=acts)
        actor.start()
        for _ in range(20):
            assert other.journal() == ()
            assert other.memory().tasks == 3
        assert not refused.is_set()
        actor.join()
        assert refused.is_set()
        assert len(other.journal()) == 1


FORKING = """
async def main():
    server = diag.serve(name="parent")
    tasks = [asyncio.create_task(beat(), name="beat")]
    await asyncio.sleep(0.05)
    ready()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, told)
    child = os.fork()
    if child == 0:
        sockets = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                continue
            if target.startswith("socket:") or "eventpoll" in target:
                sockets.append(target)
        own = diag.serve(name="child")
        # In one write each: parent and child share this pipe.
        os.write(1, f"child {len(sockets)} {own is not server} {own.path}\\n".encode())
        told()
        own.close()
        sys.exit(0)
    os.write(1, f"parent {child}\\n".encode())
    await loop.run_in_executor(None, os.waitpid, child, 0)
    print("reaped", flush=True)
    await asyncio.sleep(9999)

asyncio.run(main())
"""


@pytest.mark.filterwarnings("ignore")
def test_a_forked_child_lets_go_of_the_parents_agent_and_may_have_its_own(target: Start) -> None:
    running = target(FORKING)
    with Connection(running.path) as connection:
        assert connection.hello().target.name == "parent"
        inherited = {
            os.readlink(f"/proc/{running.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{running.pid}/fd")
        }
        running_path = running.path
        running.tell("fork")
        assert running.process.stdout is not None
        said = dict(running.process.stdout.readline().strip().split(" ", 1) for _ in range(2))
        pid = said["parent"]
        count, fresh, child_path = said["child"].split(" ")
        assert fresh == "True"
        assert child_path != running_path
        ours = {name for name in inherited if name.startswith("socket:") or "eventpoll" in name}
        # What is left in the child is the loop's own: its epoll and its self-pipe.
        assert int(count) == 3, (count, ours)
        with Connection(child_path) as child:
            assert child.hello().target.pid == int(pid)
        assert connection.memory().rss_bytes > 0
        running.goes_on()
        running.tell("end")
        running.expect("reaped")
        assert not os.path.exists(child_path)
        assert connection.memory().rss_bytes > 0
    with Connection(running.path) as again:
        assert again.hello().target.pid == running.pid


LIFE = """
import concurrent.futures

def there():
    return (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), threading.active_count())

async def main():
    tasks = [asyncio.create_task(beat(), name="beat")]
    reader = concurrent.futures.ThreadPoolExecutor(1)
    await asyncio.get_running_loop().run_in_executor(reader, len, "")
    before = there()
    for turn in range(5):
        server = diag.serve(name="life", allow_actions=True)
        assert diag.serve(name="other") is server
        ready()
        await asyncio.get_running_loop().run_in_executor(reader, told)
        server.close()
        server.close()
        assert not os.path.exists(server.path)
    for _ in range(500):
        if there() == before:
            break
        await asyncio.sleep(0.01)
    print("clean" if there() == before else f"{before} became {there()}", flush=True)
    print([thread.name for thread in threading.enumerate() if "Dummy" in thread.name], flush=True)

asyncio.run(main())
"""


def test_closing_leaves_no_thread_no_descriptor_and_no_socket_and_it_can_be_opened_again(
    target: Start,
) -> None:
    running = target(LIFE)
    for turn in range(5):
        if turn:
            running.expect("ready")
        with Connection(running.path) as connection:
            connection.top()
            connection.collect()
            connection.trim()
        running.tell("next")
    running.expect("clean")
    running.expect("[]")
    running.process.wait(20)
    assert "Traceback" not in running.stderr
    assert running.stderr.count("called again with other arguments: it goes on as 'life'") == 5


def test_many_pictures_leave_nothing_behind(target: Start) -> None:
    # The Python engine is so much slower that fewer must do; each leaves more to leave behind.
    pictures = 2000 if engine.engine_name() == "native" else 300
    running = target("""
    import gc
    async def work():
        kept = [bytearray(100) for _ in range(20)]
        await asyncio.sleep(9999)
    async def churn():
        while True:
            await asyncio.gather(*[asyncio.create_task(asyncio.sleep(0.001)) for _ in range(20)])
    async def main():
        diag.serve(name="looked-at")
        tasks = [asyncio.create_task(work(), name=f"w{i}") for i in range(50)]
        tasks += [asyncio.create_task(churn()), asyncio.create_task(beat())]
        ready()
        while True:
            await asyncio.get_running_loop().run_in_executor(None, told)
            gc.collect()
            print(sys.getallocatedblocks(), flush=True)
    asyncio.run(main())
    """)

    def blocks() -> int:
        """The fewest of several counts: the churning tasks come and go, what is left behind stays."""
        counts = []
        for _ in range(15):
            running.tell("count")
            assert running.process.stdout is not None
            counts.append(int(running.process.stdout.readline()))
        return min(counts)

    with Connection(running.path) as connection:
        for _ in range(pictures // 7):
            connection.top()
        connection.memory()  # loads what it needs once
        wait_until(lambda: running.beats > 20, "the loop")
        before = blocks()
        for _ in range(pictures):
            connection.top(limit=5)
        connection.memory()
        after = blocks()
    # A single block left behind by each picture would be too many.
    assert abs(after - before) < pictures, (before, after)
    running.goes_on()
    assert running.stderr == ""


def test_nothing_is_imported_into_the_target_but_the_standard_library(target: Start) -> None:
    running = target("""
    async def main():
        diag.serve(name="clean", allow_actions=True)
        ready()
        await asyncio.get_running_loop().run_in_executor(None, told)
        known = set(sys.stdlib_module_names) | {"diag", "__main__"}
        print(sorted({name.split(".")[0] for name in sys.modules} - known), flush=True)
    asyncio.run(main())
    """)
    with Connection(running.path) as connection:
        connection.top()
        connection.memory()
        connection.collect()
    running.tell("list")
    assert running.process.stdout is not None
    foreign = json.loads(running.process.stdout.readline().replace("'", '"'))
    # What this interpreter's own start-up brings (editable installs, a distribution's hooks) is not ours.
    site = {
        name
        for name in foreign
        if name.startswith(("_distutils", "__editable__", "sitecustomize", "_virtualenv"))
    }
    assert set(foreign) == site
    assert sys.version_info >= (3, 10)
