"""A plain asyncio program that knows nothing of supervisors: found, ranked, explained, stopped."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from diag.client.connection import Connection
from diag.wire.errors import TargetError
from tests.functional.agent.harness import Target, wait_until

Start = Callable[..., Target]

LEAKY = """
async def pump(views):
    # The talk's leak: a few bytes shown, the whole block pinned.
    while len(views) < 100:
        views.append(memoryview(bytearray(256 * 1024))[:32])
        await asyncio.sleep(0)
    await asyncio.sleep(999)

async def leak():
    views = []
    await pump(views)

async def honest(size):
    block = bytearray(size)
    await asyncio.sleep(999)

async def family():
    await asyncio.gather(*[asyncio.create_task(honest(50_000), name=f"kid-{i}") for i in range(4)])

async def main():
    diag.serve(name="leaky", allow_actions=ALLOWED)
    tasks = [
        asyncio.create_task(beat(), name="beat"),
        asyncio.create_task(leak(), name="leaker"),
        asyncio.create_task(honest(100_000), name="honest"),
        asyncio.create_task(family(), name="family"),
    ]
    if sys.version_info >= (3, 11):
        async def group():
            async with asyncio.TaskGroup() as tg:
                tg.create_task(honest(70_000), name="grouped")
        tasks.append(asyncio.create_task(group(), name="group"))
    await asyncio.sleep(0.5)
    ready()
    await asyncio.sleep(999)

asyncio.run(main())
"""
LEAKED = 100 * 256 * 1024


def leaky(target: Start, allowed: bool = True) -> Target:
    return target(LEAKY.replace("ALLOWED", str(allowed)))


def test_the_leaking_task_is_ranked_first_and_explained_and_cancelling_it_frees_what_was_predicted(
    target: Start,
) -> None:
    running = leaky(target)
    table = json.loads(running.diag("top", "leaky", "--json").stdout)
    assert table["target"]["pid"] == running.pid
    assert table["cost"]["complete"] is True
    first = table["owners"][0]
    assert (first["name"], first["kind"], first["parent"]) == ("leaker", "task", "process")
    assert first["initial_call"] == "__main__.leak"
    assert first["current_function"].startswith("asyncio.tasks.sleep:")
    assert first["state"] == "waiting"
    assert first["buffer_bytes"] == pytest.approx(LEAKED, rel=0.01)
    assert first["waste_bytes"] == pytest.approx(LEAKED, rel=0.01)
    assert first["holders"].keys() == {"locals", "registry", "queue", "transport"}
    assert first["holders"]["locals"] == pytest.approx(LEAKED, rel=0.01)
    assert table["owners"][-1]["kind"] == "process"

    done = json.loads(running.diag("cancel", "leaky", "leaker", "--yes", "--json").stdout)
    assert done["stopped"] == ["leaker"]
    assert done["predicted_bytes"] == pytest.approx(LEAKED, rel=0.01)
    assert done["freed_bytes"] > 0.9 * done["predicted_bytes"]
    assert done["rss_before"] - done["rss_after"] > 0.8 * LEAKED
    running.goes_on()
    names = {row["name"] for row in json.loads(running.diag("top", "leaky", "--json").stdout)["owners"]}
    assert {"honest", "family", "kid-0", "beat"} <= names


def test_why_names_the_variable_that_holds_the_leak(target: Start) -> None:
    running = leaky(target)
    why = json.loads(running.diag("why", "leaky", "leaker", "--json").stdout)
    assert why["owner"]["name"] == "leaker"
    assert why["complete"] is True
    first = why["paths"][0]
    assert first["bytes"] == pytest.approx(LEAKED, rel=0.01)
    assert first["holder"] == "locals"
    shown = running.diag("why", "leaky", "leaker").stdout
    with Connection(running.path) as connection:
        if connection.hello().engine == "native":  # only it can read the names of a frame's variables
            assert any("views" in step["edge"] for step in first["steps"]), first
            assert "views" in shown
    assert "registered name" in shown
    gone = running.diag("why", "leaky", "nobody")
    assert gone.returncode == 3
    assert "there is no owner 'nobody'" in gone.stderr


def test_tasks_stand_under_whoever_awaits_them_or_started_them_in_a_group(target: Start) -> None:
    running = leaky(target)
    rows = {row["name"]: row for row in json.loads(running.diag("top", "leaky", "--json").stdout)["owners"]}
    assert rows["kid-2"]["ancestors"] == ["family"]
    assert rows["family"]["retained_bytes"] > 4 * 50_000
    if sys.version_info >= (3, 11):
        assert rows["grouped"]["ancestors"] == ["group"]


def test_stopping_a_parent_stops_the_tasks_it_awaits_and_names_them_all(target: Start) -> None:
    running = leaky(target)
    done = json.loads(running.diag("stop", "leaky", "family", "--yes", "--json").stdout)
    assert done["stopped"][0] == "family"
    assert sorted(done["stopped"][1:]) == ["kid-0", "kid-1", "kid-2", "kid-3"]
    assert done["freed_bytes"] > 0.9 * 4 * 50_000


def test_growth_over_a_window_ranks_what_grows(target: Start) -> None:
    running = target("""
    async def grow():
        kept = []
        while True:
            kept.append(bytearray(20_000))
            await asyncio.sleep(0.01)
    async def big():
        block = bytearray(50_000_000)
        await asyncio.sleep(999)
    async def main():
        diag.serve(name="growing")
        tasks = [asyncio.create_task(grow(), name="grower"), asyncio.create_task(big(), name="big")]
        await asyncio.sleep(0.1)
        ready()
        await asyncio.sleep(999)
    asyncio.run(main())
    """)
    out = running.diag("top", "growing", "--by", "growth", "--window", "0.5", "-n", "2", "--json")
    rows = json.loads(out.stdout)["owners"]
    assert rows[0]["name"] == "grower"
    assert rows[0]["growth_bytes_per_s"] > 100_000
    assert len(rows) == 2


def test_a_target_is_found_by_pid_by_name_and_by_path_and_listed(target: Start) -> None:
    running = leaky(target)
    for name in (str(running.pid), "leaky", running.path):
        table = json.loads(running.diag("top", name, "-n", "1", "--json").stdout)
        assert table["target"]["pid"] == running.pid
        assert len(table["owners"]) == 1
    listed = json.loads(running.diag("ls", "--json").stdout)["processes"]
    mine = next(each for each in listed if each["pid"] == running.pid)
    assert (mine["name"], mine["allow_actions"], mine["problem"]) == ("leaky", True, "")
    assert str(running.pid) in running.diag("ls").stdout


def test_a_socket_at_a_place_of_the_programs_own_is_found_by_pid_too_and_goes_with_it(
    target: Start, tmp_path: Path
) -> None:
    running = target(f"""
        server = diag.serve(name="own-place", socket_path={str(tmp_path / "own.sock")!r})
        ready()
        told()
        server.close()
        ready()
        told()
    """)
    for name in (str(running.pid), "own-place", str(tmp_path / "own.sock")):
        assert json.loads(running.diag("memory", name, "--json").stdout)["tasks"] == 0
    running.tell("close")
    running.expect("ready")
    assert list((running.runtime / "diag").iterdir()) == []
    assert running.diag("memory", str(running.pid)).returncode == 3


def test_a_name_two_processes_share_is_refused_with_both_pids(target: Start) -> None:
    first, second = leaky(target), leaky(target)
    out = first.diag("top", "leaky")
    assert out.returncode == 3
    assert str(first.pid) in out.stderr
    assert str(second.pid) in out.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [("999999999", "no process"), ("nosuchname", "is called 'nosuchname'"), ("/nowhere.sock", "no socket")],
)
def test_a_target_that_is_not_there_exits_3_and_says_what_to_try(target: Start, name: str, says: str) -> None:
    out = leaky(target).diag("top", name)
    assert (out.returncode, out.stdout) == (3, "")
    assert says in out.stderr
    assert "diag ls" in out.stderr or "leaky" in out.stderr


def test_an_answer_that_cannot_be_written_is_one_line_and_no_traceback(target: Start) -> None:
    running = leaky(target)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "diag.client.cli", "ls"],
            env=running.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("diag: the answer cannot be written: No space left on device\n")
    assert "Traceback" not in done.stderr


def test_a_living_process_without_an_agent_is_said_to_be_unprepared(target: Start) -> None:
    out = leaky(target).diag("memory", str(os.getpid()))
    assert out.returncode == 3
    assert "not prepared" in out.stderr


def test_a_read_only_target_refuses_actions_with_the_way_to_allow_them(target: Start) -> None:
    running = leaky(target, allowed=False)
    for command in (["gc"], ["trim"], ["cancel", "leaker", "--yes"], ["stop", "leaker", "--yes"]):
        out = running.diag(command[0], "leaky", *command[1:])
        assert out.returncode == 3, out
        assert "allow_actions=True" in out.stderr
    running.goes_on()
    rows = json.loads(running.diag("top", "leaky", "--json").stdout)["owners"]
    assert rows[0]["name"] == "leaker"


def test_a_destructive_command_without_a_terminal_and_without_yes_exits_2_and_does_nothing(
    target: Start,
) -> None:
    running = leaky(target)
    out = running.diag("cancel", "leaky", "leaker")
    assert out.returncode == 2
    assert "--yes" in out.stderr
    assert json.loads(running.diag("journal", "leaky", "--json").stdout) == {"entries": []}


def on_a_terminal(running: Target, answer: str, *args: str) -> tuple[int, str]:
    """Run diag on a terminal of its own and type the answer when it asks."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "diag.client.cli", *args]
    env = {**running.env, "TERM": "xterm"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env) as child:
        os.close(slave)
        shown, typed, end = "", False, time.monotonic() + 30
        while time.monotonic() < end:
            ready, _, _ = select.select([master], [], [], 0.2)
            if ready:
                try:
                    shown += os.read(master, 4096).decode(errors="replace")
                except OSError:
                    break
            if not typed and re.search(r"Go on\?|Type its name", shown):
                os.write(master, answer.encode() + b"\n")
                typed = True
            if child.poll() is not None and not ready:
                break
        code = child.wait(10)
    os.close(master)
    return code, shown


def test_on_a_terminal_it_names_the_victim_its_subtree_and_the_bytes_and_takes_no_for_an_answer(
    target: Start,
) -> None:
    running = leaky(target)
    code, shown = on_a_terminal(running, "n", "stop", "leaky", "family")
    assert code == 1
    assert "kid-3" in shown
    assert "predicted" in shown
    assert "Nothing was done" in shown
    code, shown = on_a_terminal(running, "y", "stop", "leaky", "family")
    assert code == 0
    assert "freed" in shown


def test_the_journal_tells_what_was_done_by_whom(target: Start) -> None:
    running = leaky(target)
    running.diag("cancel", "leaky", "leaker", "--yes")
    running.diag("gc", "leaky")
    entries = json.loads(running.diag("journal", "leaky", "--json").stdout)["entries"]
    assert [(each["action"], each["victim"], each["uid"]) for each in entries] == [
        ("cancel", "leaker", os.geteuid()),
        ("collect", "process", os.geteuid()),
    ]
    assert entries[0]["freed_bytes"] > 0.8 * entries[0]["predicted_bytes"]
    assert "action=cancel" in running.stderr
    assert f"uid={os.geteuid()}" in running.stderr
    assert "Traceback" not in running.stderr


def test_gc_and_trim_and_memory_answer_in_the_promised_json(target: Start) -> None:
    running = leaky(target)
    collected = json.loads(running.diag("gc", "leaky", "--json").stdout)
    assert collected.keys() == {
        "predicted_bytes",
        "freed_bytes",
        "collected_objects",
        "rss_before",
        "rss_after",
        "pause_ms",
    }
    trimmed = json.loads(running.diag("trim", "leaky", "--json").stdout)
    assert trimmed["rss_after"] <= trimmed["rss_before"]
    memory = json.loads(running.diag("memory", "leaky", "--json").stdout)
    assert memory["rss_bytes"] > LEAKED
    assert memory["tasks"] >= 8
    assert "resident memory" in running.diag("memory", "leaky").stdout


def test_cancelling_the_task_the_program_waits_for_still_answers_before_the_program_ends(
    target: Start,
) -> None:
    running = leaky(target)
    out = running.diag("cancel", "leaky", "Task-1", "--yes", "--json")
    assert out.returncode == 0, out.stderr
    assert "the program ends" in json.loads(out.stdout)["note"]
    running.process.wait(20)
    wait_until(lambda: not list((running.runtime / "diag").iterdir()), "the socket removed at exit")


def test_the_socket_of_a_killed_process_is_cleared_away_by_whoever_lists(target: Start) -> None:
    running = leaky(target)
    path = running.path
    running.kill()
    assert os.path.exists(path)
    out = running.diag("top", str(running.pid))
    assert out.returncode == 3
    assert not os.path.exists(path)


def test_a_connection_says_when_its_target_is_gone_and_opens_again_by_itself_when_it_can(
    target: Start,
) -> None:
    running = target("""
    async def main():
        server = diag.serve(name="again")
        ready()
        loop = asyncio.get_running_loop()
        while (said := await loop.run_in_executor(None, told)):
            if said == "again":
                path = server.path
                server.close()
                server = diag.serve(name="again", socket_path=path)
            else:
                server.close()
            ready()
    asyncio.run(main())
    """)
    with Connection(running.path) as connection:
        assert connection.memory().rss_bytes > 0
        running.tell("again")
        running.expect("ready")
        assert connection.memory().rss_bytes > 0
        running.tell("close")
        running.expect("ready")
        with pytest.raises(TargetError) as caught:
            connection.memory()
        assert caught.value.hint
