"""The load generator's text is varied, its plan clear, its numbers checkable."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import zlib

import pytest

from collector.ingest.framing import Framer
from collector.ingest.syslog import parse, sd_param
from collector.load.plan import Flow, PlanError, parse_target, plan_from_status, plan_from_targets
from collector.load.profiles import PROFILES
from collector.load.sender import Sender
from collector.spool.sequences import Sequences


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_varied_and_the_same_for_the_same_seed(name: str) -> None:
    first, second = random.Random(7), random.Random(7)
    made = [PROFILES[name](first) for _ in range(500)]
    assert made == [PROFILES[name](second) for _ in range(500)]
    text = "\n".join(record[3] for record in made)
    assert len({record[3] for record in made}) > 490
    assert len(text) / len(zlib.compress(text.encode())) < 8, "no filler that flatters the spool"
    assert all("\n" not in record[3] and 0 <= record[0] < 192 for record in made)


def test_windows_events_are_json() -> None:
    record = PROFILES["windows"](random.Random(1))
    assert json.loads(record[3])["EventID"] == int(record[2])


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("acme=127.0.0.1:5514", ("acme", "127.0.0.1", 5514)),
        ("localhost:514", (None, "localhost", 514)),
        ("[::1]:514", (None, "::1", 514)),
    ],
)
def test_a_target_is_read(text: str, parsed: tuple[str | None, str, int]) -> None:
    assert parse_target(text) == parsed


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:70000", ":514", "acme=514"])
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match=r"must be \[CLIENT=\]HOST:PORT"):
        parse_target(text)


STATUS = {
    "clients": {"acme": {}, "globex": {}, "initech": {}},
    "listeners": [
        {"client": None, "transport": "tcp", "host": "127.0.0.1", "port": 1},
        {"client": "acme", "transport": "udp", "host": "127.0.0.1", "port": 2},
        {"client": "acme", "transport": "tcp", "host": "127.0.0.1", "port": 3},
        {"client": "globex", "transport": "tcp", "host": "127.0.0.1", "port": 0},
    ],
}


def test_a_clients_own_open_listener_goes_before_one_that_routes() -> None:
    flows = plan_from_status(STATUS, None, None, "newline", "mixed")
    assert [(flow.client, flow.port) for flow in flows] == [("acme", 3), ("globex", 1), ("initech", 1)]
    assert [flow.profile for flow in flows] == ["web", "firewall", "windows"]
    (udp,) = plan_from_status(STATUS, "acme", "udp", "newline", "app")
    assert (udp.port, udp.profile) == (2, "app")


def test_a_plan_that_cannot_be_says_why() -> None:
    with pytest.raises(PlanError, match="no udp listener that takes its messages"):
        plan_from_status(STATUS, "globex", "udp", "newline", "mixed")
    with pytest.raises(PlanError, match="knows only 3"):
        plan_from_status(STATUS, "4", None, "newline", "mixed")
    with pytest.raises(PlanError, match=re.escape("no such client (did you mean 'acme'?)")):
        plan_from_status(STATUS, "acne", None, "newline", "mixed")
    with pytest.raises(PlanError, match="no --to globex=HOST:PORT"):
        plan_from_targets(["acme=h:1"], "acme,globex", "tcp", "newline", "mixed")


def test_targets_without_a_client_are_shared_out() -> None:
    flows = plan_from_targets(["h:1", "h:2", "acme=h:3"], "acme,b,c", "tcp", "newline", "mixed")
    assert [(flow.client, flow.port) for flow in flows] == [("acme", 3), ("b", 2), ("c", 1)]


@pytest.mark.parametrize("framing", ["newline", "octet"])
async def test_what_is_sent_is_whole_numbered_and_says_whose_it_is(framing: str) -> None:
    framer = Framer()
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            got.extend(framer.feed(data))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    flow = Flow("acme", "127.0.0.1", port, "tcp", framing, "web")
    sender = Sender(flow, rate_per_s=500, seconds=0.5, connections=2, run="r1", seed=1, say=print)
    tally = await sender.run()
    server.close()
    assert tally.read_to_the_end
    assert len(got) == tally.sent == tally.last_seq == sum(tally.per_s) > 0
    sequences = Sequences()
    sequences.add(got)
    assert sequences.report() == {
        "r1": {
            "highest": tally.sent,
            "received": tally.sent,
            "missing": 0,
            "duplicates": 0,
            "first_gaps": [],
        }
    }
    assert {sd_param(message, b"client@32473", b"name") for message in got} == {"acme"}
    assert {parse(message).form for message in got} == {"rfc5424"}


async def test_a_sender_without_a_peer_keeps_trying_says_so_once_and_ends_in_time() -> None:
    said: list[str] = []
    flow = Flow("acme", "127.0.0.1", 1, "tcp", "newline", "web")
    tally = await Sender(
        flow, rate_per_s=100, seconds=0.5, connections=1, run="r", seed=1, say=said.append
    ).run()
    assert tally.sent == 0
    assert tally.down_s > 0
    assert len(said) == 1
    assert "cannot connect" in said[0]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_sender_to_a_place_that_is_not_there_says_so_in_plain_words(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    said: list[str] = []
    flow = Flow("acme", "nowhere.example", 514, transport, "newline", "web")
    sender = Sender(flow, rate_per_s=100, seconds=0.2, connections=1, run="r", seed=1, say=said.append)
    assert (await sender.run()).sent == 0
    (line,) = said
    assert line.endswith("Name or service not known (nowhere.example:514)")


def test_gaps_and_duplicates_are_found() -> None:
    sequences = Sequences()
    marked = [b'x [load@32473 run="a" seq="%d"] y' % number for number in (1, 2, 2, 5, 9)]
    sequences.add([*marked, b"no mark", b'[load@32473 run="b" seq="1"]'])
    report = sequences.report()
    assert report["a"] == {
        "highest": 9,
        "received": 4,
        "missing": 5,
        "duplicates": 1,
        "first_gaps": [(3, 4), (6, 8)],
    }
    assert report["b"]["missing"] == 0
