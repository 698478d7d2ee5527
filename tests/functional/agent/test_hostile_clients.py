"""Whatever arrives on the socket: a clear error or a clean close, and the target never misses a beat."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diag.client.connection import Connection
from diag.wire import errors, frames
from diag.wire.errors import RpcError
from tests.functional.agent.harness import Target, wait_until
from tests.unit.wire.test_frames import JSON

Start = Callable[..., Target]

BEATING = """
from diag.agent import listener
listener.FRAME_WITHIN_S = SOON

async def work(size):
    block = bytearray(size)
    await asyncio.sleep(9999)

async def main():
    diag.serve(name="beating", allow_actions=ALLOWED)
    tasks = [asyncio.create_task(work(1000), name=f"w{i}") for i in range(TASKS)]
    tasks.append(asyncio.create_task(beat(), name="beat"))
    await asyncio.sleep(0.05)
    ready()
    await asyncio.sleep(9999)

asyncio.run(main())
"""


def beating(target: Start, *, tasks: int = 20, frame_within_s: float = 10.0, allowed: bool = False) -> Target:
    program = BEATING.replace("TASKS", str(tasks)).replace("SOON", str(frame_within_s))
    return target(program.replace("ALLOWED", str(allowed)))


@pytest.fixture
def running(target: Start) -> Iterator[Target]:
    """A target that must come out of the test as it went in: beating, silent, nothing left in it."""
    started = beating(target)
    with Connection(started.path) as connection:
        connection.top()
        connection.memory()
    descriptors, threads = started.descriptors(), started.threads()
    yield started
    started.goes_on()
    with Connection(started.path) as connection:
        assert connection.hello().target.name == "beating"
    wait_until(lambda: started.descriptors() <= descriptors, "all connections closed")
    wait_until(lambda: started.threads() <= threads, "all request threads ended")
    assert "Traceback" not in started.stderr
    assert started.stderr == ""


def connected(running: Target) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)

    def connects() -> bool:
        try:
            connection.connect(running.path)
            return True
        except BlockingIOError:  # the queue of connections is full
            return False

    wait_until(connects, "a connection")
    return connection


def sent(message: object) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


def answer(connection: socket.socket) -> Any:
    """The next frame, or None at the end of the stream."""
    reader = frames.FrameReader(frames.MAX_ANSWER_BYTES)
    while (body := reader.next()) is None:
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            return None
        if not data:
            return None
        reader.feed(data)
    return json.loads(body)


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack(">I", 1 << 30) + b"x" * 1000,
        struct.pack(">I", 0xFFFFFFFF),
        bytes(100),
        b"\xff" * 100_000,
    ],
    ids=["http", "1 GB", "4 GB", "zeros", "ones"],
)
def test_garbage_and_huge_lengths_get_an_error_that_says_what_is_spoken_and_a_close(
    running: Target, garbage: bytes
) -> None:
    with connected(running) as connection:
        try:
            connection.sendall(garbage)
        except (BrokenPipeError, ConnectionResetError):
            pass
        said = answer(connection)
        assert said["error"]["code"] == errors.FRAME_ERROR
        assert "u32-length frames" in said["error"]["data"]["hint"]
        assert ended(connection)


def test_half_a_frame_from_a_client_that_vanishes_is_forgotten(running: Target) -> None:
    for cut in (1, 3, 4, 10):
        with connected(running) as connection:
            connection.sendall(sent({"jsonrpc": "2.0", "id": 1, "method": "top"})[:cut])


def test_a_client_that_vanishes_in_mid_request_costs_nothing(target: Start) -> None:
    running = beating(target, tasks=3000)
    descriptors = running.descriptors()
    for _ in range(20):
        with connected(running) as connection:
            connection.sendall(sent({"jsonrpc": "2.0", "id": 1, "method": "top"}))
    running.goes_on()
    wait_until(lambda: running.descriptors() <= descriptors, "all connections closed")
    with Connection(running.path) as connection:
        assert connection.top(limit=1).total_owners > 3000
    assert running.stderr == ""


def test_a_frame_or_a_first_request_that_never_comes_is_given_up_with_a_reason(target: Start) -> None:
    running = beating(target, frame_within_s=0.3)
    with connected(running) as half, connected(running) as silent, connected(running) as idle:
        half.sendall(b"\0\0\0\x20half")
        idle.sendall(sent({"jsonrpc": "2.0", "id": 1, "method": "hello"}))
        assert answer(idle)["result"]["protocol"] == 1
        assert "not finished within 0.3 s" in answer(half)["error"]["message"]
        assert "no request came within 0.3 s" in answer(silent)["error"]["message"]
        assert ended(half)
        assert ended(silent)
        # One that has spoken may be idle for as long as it likes; a screen may be frozen.
        idle.sendall(sent({"jsonrpc": "2.0", "id": 2, "method": "hello"}))
        assert answer(idle)["id"] == 2
    running.goes_on()
    assert running.stderr == ""


def test_a_frame_that_trickles_in_byte_by_byte_in_time_is_answered(running: Target) -> None:
    with connected(running) as connection:
        for byte in sent({"jsonrpc": "2.0", "id": 5, "method": "journal"}):
            connection.sendall(bytes([byte]))
        assert answer(connection) == {"jsonrpc": "2.0", "result": [], "id": 5}


def test_requests_sent_in_one_go_are_answered_in_their_order(running: Target) -> None:
    with connected(running) as connection:
        methods = ["hello", "top", "nonsense", "journal", "memory", "hello"]
        connection.sendall(
            b"".join(sent({"jsonrpc": "2.0", "id": at, "method": name}) for at, name in enumerate(methods))
        )
        reader, found = frames.FrameReader(frames.MAX_ANSWER_BYTES), []
        while len(found) < len(methods):
            while (body := reader.next()) is not None:
                found.append(json.loads(body))
            if len(found) < len(methods):
                reader.feed(connection.recv(65536))
        assert [each["id"] for each in found] == list(range(len(methods)))
        assert "there are: hello, top" in found[2]["error"]["data"]["hint"]


def test_a_notification_gets_no_answer_and_a_batch_a_clear_one(running: Target) -> None:
    with connected(running) as connection:
        connection.sendall(sent({"jsonrpc": "2.0", "method": "hello"}))
        connection.sendall(sent([{"jsonrpc": "2.0", "id": 1, "method": "hello"}]))
        said = answer(connection)
        assert said["id"] is None
        assert "batches are not spoken" in said["error"]["message"]


def test_another_protocol_version_is_refused_with_both_numbers(running: Target) -> None:
    with connected(running) as connection:
        connection.sendall(sent({"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {"protocol": 99}}))
        said = answer(connection)["error"]
        assert said["code"] == errors.WRONG_PROTOCOL
        assert "99" in said["message"]
        assert said["data"]["hint"]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("top", {"by": "beauty"}),
        ("top", {"by": "growth"}),
        ("top", {"limit": -1}),
        ("top", {"limit": "3"}),
        ("top", {"limit": True}),
        ("top", {"kinds": ["goblin"]}),
        ("top", {"kinds": [[]]}),
        ("top", {"colour": "red"}),
        ("why", {}),
        ("why", {"owner": 3}),
        ("stop", {"owner": "x", "deadline_s": -1}),
        ("stop", {"owner": "x", "deadline_s": "soon"}),
        ("hello", {"protocol": "one"}),
    ],
)
def test_wrong_parameters_are_named(running: Target, method: str, params: dict[str, object]) -> None:
    with connected(running) as connection:
        connection.sendall(sent({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        said = answer(connection)["error"]
        assert said["code"] == errors.INVALID_PARAMS, said
        assert said["data"]["hint"]


def test_two_clients_at_once_are_both_served_and_a_walk_does_not_hold_up_a_hello(target: Start) -> None:
    running = beating(target, tasks=2000)
    walked = threading.Event()

    def walks() -> None:
        with Connection(running.path) as connection:
            for _ in range(5):
                connection.top()
        walked.set()

    walker = threading.Thread(target=walks)
    walker.start()
    hellos = 0
    while not walked.is_set():
        with Connection(running.path) as connection:
            assert connection.journal() == ()
        hellos += 1
    walker.join()
    assert hellos > 5
    running.goes_on()


def test_one_client_too_many_is_told_so_and_the_others_stay(running: Target) -> None:
    with Connection(running.path) as first:
        others = [Connection(running.path) for _ in range(15)]
        with pytest.raises(RpcError, match="16 clients"):
            Connection(running.path)
        assert first.memory().rss_bytes > 0
        for other in others:
            other.close()
        wait_until(lambda: _connects(running), "a free place")


def _connects(running: Target) -> bool:
    try:
        Connection(running.path).close()
        return True
    except RpcError:
        return False


def test_a_client_that_never_reads_its_answer_does_not_stop_the_others(target: Start) -> None:
    running = beating(target, tasks=3000)
    with connected(running) as deaf:
        deaf.sendall(sent({"jsonrpc": "2.0", "id": 1, "method": "top"}))
        with Connection(running.path) as connection:
            assert connection.top(limit=1).owners
        running.goes_on()
    assert running.stderr == ""


def as_nobody(path: str) -> subprocess.CompletedProcess[str]:
    """Connect as another user and print what is said. By a Python that another user may run."""
    problem = ""
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c"]
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        problem = "becoming another user needs root and setpriv"
    else:
        probe = subprocess.run([*command, "print(1)"], capture_output=True, text=True, check=False, cwd="/")
        problem = "" if probe.stdout == "1\n" else f"another user cannot run {python}: {probe.stderr}"
    if problem and os.environ.get("CI"):
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)
    return subprocess.run([*command, SPEAK, path], capture_output=True, text=True, timeout=30, cwd="/")


SPEAK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(sys.argv[1])
except OSError as error:
    sys.exit(f"{type(error).__name__}")
connection.settimeout(20)
print(connection.recv(65536)[4:].decode())
print(connection.recv(1))
"""


def test_another_user_cannot_reach_the_socket_at_all(running: Target) -> None:
    out = as_nobody(running.path)
    assert (out.returncode, out.stderr.strip()) == (1, "PermissionError")


def test_another_user_who_reaches_it_is_refused_by_the_kernels_word(target: Start) -> None:
    running = beating(target)
    path = running.path
    os.chmod(running.runtime, 0o755)
    os.chmod(running.runtime / "diag", 0o755)
    os.chmod(path, 0o666)
    said, then = as_nobody(path).stdout.splitlines()
    assert json.loads(said)["error"]["code"] == errors.NOT_ALLOWED
    assert "uid 65534" in json.loads(said)["error"]["message"]
    assert then == "b''"
    running.goes_on()
    assert "refused a caller: uid=65534" in running.stderr
    assert "Traceback" not in running.stderr


def test_random_requests_never_hurt(target: Start) -> None:
    running = beating(target)
    methods = st.sampled_from(["hello", "top", "memory", "why", "journal", "collect", "stop", "", "x" * 500])
    names = st.sampled_from(["by", "limit", "kinds", "owner", "expect", "deadline_s", "protocol"]) | st.text()
    with connected(running) as connection:

        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(methods | st.text(), st.dictionaries(names, JSON, max_size=3))
        def asked(method: str, params: dict[str, object]) -> None:
            connection.sendall(sent({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
            said = answer(connection)
            assert said["id"] == 1
            assert ("result" in said) != ("error" in said)
            if "error" in said:
                assert said["error"]["code"] != errors.INTERNAL_ERROR, said

        asked()
    running.goes_on()
    assert "Traceback" not in running.stderr


def test_random_bytes_never_hurt(running: Target) -> None:
    source = random.Random(20)
    for _ in range(300):
        with connected(running) as connection:
            data = source.randbytes(source.choice([1, 4, 5, 60, 3000]))
            if source.random() < 0.5:
                data = struct.pack(">I", len(data)) + data
            try:
                connection.sendall(data)
                if source.random() < 0.5:
                    connection.shutdown(socket.SHUT_WR)
                    answer(connection)
            except (BrokenPipeError, ConnectionResetError):
                pass
