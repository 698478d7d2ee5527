"""A client's bytes hang on that client's tasks and supervisor alone: they go when it goes, at once, by
reference counts. And a task that dies takes nothing with it that was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector import config
from collector.app import State, make_state
from collector.clients import ClientsSupervisor, client_supervisor_name, parser_name
from collector.faults import BLOCK_BYTES
from collector.spool.reader import Batch, scan_client
from collector.supervision import Supervisor, send_exit, stop, whereis
from collector.supervision.supervisor import restart_child, terminate_child

CLIENTS = ("acme", "globex")
HOLDERS = ("locals", "registry", "queue", "transport")
ACME = client_supervisor_name("acme")
ROOT = "test_alcollect_sup"


@contextlib.asynccontextmanager
async def clients(tmp_path: Path, **table: Any) -> AsyncIterator[State]:
    """Two clients in this process, each with a TCP and a UDP listener."""
    listeners = [
        {"name": f"{client}-{transport}", "transport": transport, "port": 0, "client": client}
        for client in CLIENTS
        for transport in ("tcp", "udp")
    ]
    settings = {
        "spool": {"directory": str(tmp_path / "spool")},
        "clients": [{"name": client} for client in CLIENTS],
        "listeners": listeners,
        **table,
    }
    state = make_state(config.parse(settings, file=str(tmp_path / "x.toml")))
    supervisor = await Supervisor.start_link(ClientsSupervisor, tuple(state.contexts.values()), name=ROOT)
    assert supervisor is not None
    try:
        yield state
    finally:
        await stop(supervisor, "shutdown")


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """Only reference counts free anything in here."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def until(condition: Callable[[], object], what: str) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"waited in vain for {what}")


async def kill(name: str) -> None:
    victim = whereis(name)
    assert victim is not None
    send_exit(victim, "kill")
    await until(lambda: not victim.alive, "its end")


def parts_of(client: str) -> dict[str, weakref.ref[Any]]:
    """Weak references to all that makes up a client. Not asyncio's own transports: each refers to itself
    by a bound method, and once closed holds nothing of ours."""
    pid = whereis(client_supervisor_name(client))
    assert pid is not None
    supervisor = pid.instance()
    assert supervisor is not None
    parts: dict[str, Any] = {"supervisor": supervisor, "inbox": supervisor.inbox, "table": supervisor.table}
    for record in supervisor._engine.table:
        parts[record.key] = record.child.instance()
    for name, server in list(parts.items()):
        endpoint = getattr(server, "_endpoint", None)
        if endpoint is not None:
            parts[f"{name} endpoint"] = endpoint
            for number, connection in enumerate(getattr(endpoint, "connections", ())):
                parts[f"{name} connection {number}"] = connection
        for leak in getattr(server, "_leaks", {}).values():
            parts[f"leak {id(leak)}"] = leak
    return {name: weakref.ref(part) for name, part in parts.items()}


async def feed(state: State, client: str, count: int = 500) -> socket.socket:
    """Send over both listeners; the TCP connection stays open, an unfinished message in it."""
    lines = b"".join(b"<13>message %d %s\n" % (number, b"x" * 200) for number in range(count))
    sock = socket.create_connection(("127.0.0.1", state.listeners[f"{client}-tcp"].port))
    await asyncio.get_running_loop().run_in_executor(None, sock.sendall, lines + b"<13>unfinished")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"<13>datagram", ("127.0.0.1", state.listeners[f"{client}-udp"].port))
    counters = state.clients[client]
    expected = counters.stored + count + 1
    await until(lambda: counters.stored >= expected, f"{expected} stored of {client}")
    return sock


def stored(tmp_path: Path, client: str) -> list[bytes]:
    items = list(scan_client(tmp_path / "spool", client))
    assert all(isinstance(item, Batch) for item in items), items
    return [message for item in items if isinstance(item, Batch) for message in item.messages]


async def test_a_stopped_client_is_free_by_reference_counts_alone(tmp_path: Path) -> None:
    async with clients(tmp_path) as state:
        with no_collector():
            acme, globex = await feed(state, "acme"), await feed(state, "globex")
            of_acme, of_globex = parts_of("acme"), parts_of("globex")
            assert any("connection" in name for name in of_acme)
            await terminate_child(ROOT, ACME)
            await asyncio.sleep(0)  # the last callbacks of the closed transports
            assert [name for name, ref in of_acme.items() if ref() is not None] == []
            assert [name for name, ref in of_globex.items() if ref() is None] == [], "the other one lives on"
        assert state.clients["acme"].accepted == state.clients["acme"].stored == 502, "the unfinished one too"
        acme.close()
        globex.close()


@pytest.mark.parametrize("holder", HOLDERS)
async def test_what_a_fault_kept_goes_with_the_clients_supervisor(tmp_path: Path, holder: str) -> None:
    fault = {"kind": "sub-binary", "client": "acme", "holder": holder, "bytes_per_s": 1 << 28}
    async with clients(tmp_path, faults=[{**fault, "max_bytes": 20 * BLOCK_BYTES}]) as state:
        (reached,) = (state for _, state in state.contexts["acme"].faults.values())
        with no_collector():
            sock = await feed(state, "acme")
            while reached.views < 20:
                sock.close()
                sock = await feed(state, "acme")
            views = [ref for ref in map(_weak_view, _views()) if ref is not None]
            assert len(views) == reached.views
            parts = parts_of("acme")
            await terminate_child(ROOT, ACME)
            await asyncio.sleep(0)
            assert [ref for ref in views if ref() is not None] == []
            assert [name for name, ref in parts.items() if ref() is not None] == []
            sock.close()


def _views() -> list[memoryview]:
    return [
        each
        for each in gc.get_objects()
        if type(each) is memoryview
        and each.nbytes == 32
        and type(each.obj) is bytearray
        and len(each.obj) == BLOCK_BYTES
    ]


def _weak_view(view: memoryview) -> weakref.ref[memoryview]:
    return weakref.ref(view)


async def test_a_restarted_client_serves_on_the_same_port(tmp_path: Path) -> None:
    async with clients(tmp_path) as state:
        port = state.listeners["acme-tcp"].port
        (await feed(state, "acme", 10)).close()
        await terminate_child(ROOT, ACME)
        assert state.listeners["acme-tcp"].port == 0
        await restart_child(ROOT, ACME)
        assert state.listeners["acme-tcp"].port == port
        (await feed(state, "acme", 10)).close()


@pytest.mark.parametrize(
    "victim", ["alcollect_parser:acme", "alcollect_writer:acme", "alcollect_receiver:acme-udp"]
)
async def test_a_task_that_is_killed_again_and_again_loses_nothing_that_was_accepted(
    tmp_path: Path, victim: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "collector.supervision")
    async with clients(tmp_path) as state:
        before = whereis(ACME)
        sock = socket.create_connection(("127.0.0.1", state.listeners["acme-tcp"].port))
        for round_number in range(4):
            for number in range(50):
                sock.sendall(b"<13>%d.%d\n" % (round_number, number))
                if number % 10 == 5:
                    await asyncio.sleep(0.002)
            await until(lambda: whereis(victim) is not None, "the victim to be back")
            if round_number < 3:  # more in ten seconds, and the restart would be a delayed one
                await kill(victim)
        counters = state.clients["acme"]
        await until(lambda: counters.stored >= 200, "all stored")
        assert whereis(ACME) is before, "its supervisor has borne it"
        sock.close()
    messages = stored(tmp_path, "acme")
    assert set(messages) == {b"<13>%d.%d" % (a, b) for a in range(4) for b in range(50)}
    if "writer" not in victim:  # its disk may have worked on when it was killed, and the batch be there twice
        assert len(messages) == counters.stored == 200


@pytest.mark.parametrize("kills", [1, 5])
async def test_a_stop_while_the_writer_is_down_still_stores_everything(
    tmp_path: Path, kills: int, caplog: pytest.LogCaptureFixture
) -> None:
    """After one kill another writer is there, which knows nothing of the batch in flight; after five the
    next one is a long way off."""
    caplog.set_level(logging.CRITICAL, "collector.supervision")
    writer = "alcollect_writer:acme"
    async with clients(tmp_path) as state:
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / "acme").write_text("nothing can be stored")
        counters = state.clients["acme"]
        for _ in range(kills - 1):
            await until(lambda: whereis(writer) is not None, "a writer")
            await kill(writer)
        with socket.create_connection(("127.0.0.1", state.listeners["acme-tcp"].port)) as sock:
            sock.sendall(b"<13>late\n" * 100)
            await until(lambda: counters.accepted == 100, "it to be accepted")
            if kills == 1:
                await until(lambda: counters.store_failures > 0, "an attempt")
                await kill(writer)
                await until(lambda: whereis(writer) is not None, "another one")
        (tmp_path / "spool" / "acme").unlink()
    assert counters.lost == 0
    assert len(stored(tmp_path, "acme")) == counters.accepted == counters.stored == 100


@pytest.mark.parametrize("also_down", [(), ("alcollect_writer:acme",)])
async def test_a_stop_while_the_parser_is_down_stores_everything_or_counts_it_as_lost(
    tmp_path: Path, also_down: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "collector")
    async with clients(tmp_path) as state:
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / "acme").write_text("nothing can be stored")
        counters = state.clients["acme"]
        with socket.create_connection(("127.0.0.1", state.listeners["acme-tcp"].port)) as sock:
            sock.sendall(b"<13>late\n" * 100)
            await until(lambda: counters.store_failures > 0, "an attempt")
            for victim in (parser_name("acme"), *also_down):
                while not delayed(victim):  # then the next one is a long way off
                    if whereis(victim) is not None:
                        await kill(victim)
                    await asyncio.sleep(0)
            sock.sendall(b"<13>later\n" * 10)
            await until(lambda: counters.accepted == 110, "it to be accepted")
        (tmp_path / "spool" / "acme").unlink()
    if also_down:
        assert (counters.stored, counters.lost) == (0, 110)
    else:
        assert (counters.stored, counters.lost) == (110, 0)
        assert len(stored(tmp_path, "acme")) == 110


def delayed(child: str) -> bool:
    pid = whereis(ACME)
    assert pid is not None
    return bool(pid.instance()._engine.table.get(child).state == "delayed")  # type: ignore[union-attr]


async def test_a_killed_receiver_closes_its_sockets(tmp_path: Path) -> None:
    async with clients(tmp_path) as state:
        with no_collector():
            sock = await feed(state, "acme", 5)
            parts = parts_of("acme")
            name = "alcollect_receiver:acme-tcp"
            old = whereis(name)
            await kill(name)
            await until(lambda: whereis(name) not in (None, old), "another receiver")
            sock.settimeout(5)
            received = await asyncio.get_running_loop().run_in_executor(None, sock.recv, 1)
            assert received == b"", "closed, not left hanging"
            assert [part for part, ref in parts.items() if name in part and ref() is not None] == []
        sock.close()


async def test_the_parser_counts_where_messages_came_from(tmp_path: Path) -> None:
    async with clients(tmp_path) as state:
        (await feed(state, "acme", 10)).close()
        pid = whereis(ACME)
        assert pid is not None
        supervisor = pid.instance()
        assert supervisor is not None
        assert supervisor.table.sources == {"127.0.0.1": 11}
        assert whereis(parser_name("acme")) is not None
