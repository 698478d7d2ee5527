"""Real tools send to a real collector, and every message is on disk."""

from __future__ import annotations

import socket
import subprocess

import pytest

from collector.ingest.syslog import parse
from tests.functional.collector.harness import (
    Collector,
    need_tool,
    open_connection,
    send,
    tcp,
    udp,
    wait_until,
)


@pytest.mark.parametrize(
    ("transport", "form", "options"),
    [
        ("tcp", "rfc5424", []),
        ("tcp", "rfc5424", ["--octet-count"]),
        ("tcp", "rfc3164", []),
        ("tcp", "rfc3164", ["--octet-count"]),
        ("udp", "rfc5424", []),
        ("udp", "rfc3164", []),
    ],
)
def test_what_logger_sends_is_stored(transport: str, form: str, options: list[str]) -> None:
    logger = need_tool("logger")
    listeners = [tcp("acme"), udp("acme")]
    with Collector(listeners=listeners) as collector:
        port = collector.port(f"acme-{transport}")
        lines = [f"message number {number} from logger" for number in range(50)]
        command = [logger, "-n", "127.0.0.1", "-P", str(port), f"--{transport}", f"--{form}", *options]
        subprocess.run(
            [*command, "-t", "functional", "-p", "local3.warning"],
            input="\n".join(lines),
            text=True,
            check=True,
            timeout=30,
        )
        collector.wait_stored("acme", len(lines))
        collector.stop()
        stored = [parse(message) for message in collector.messages("acme")]
        assert [message.text for message in stored] == lines
        assert {(message.form, message.app) for message in stored} == {(form, "functional")}
        assert {(message.facility, message.severity) for message in stored} == {("local3", "warning")}


@pytest.mark.parametrize(
    ("options", "count"),
    [
        pytest.param(["-i", "-S"], 4000, id="tcp-newline"),
        pytest.param(["-i", "-S", "-P"], 4000, id="tcp-octet"),
        pytest.param(["-i", "-S", "--active-connections=8"], 8 * 1000, id="tcp-eight-connections"),
        pytest.param(["-i", "-D"], 2000, id="udp"),
    ],
)
def test_what_loggen_sends_is_stored(options: list[str], count: int) -> None:
    loggen = need_tool("loggen")
    transport = "udp" if "-D" in options else "tcp"
    each = count // 8 if "--active-connections=8" in options else count
    with Collector(listeners=[tcp("acme"), udp("acme")]) as collector:
        port = collector.port(f"acme-{transport}")
        subprocess.run(
            [loggen, *options, "-n", str(each), "-r", "4000", "-s", "300", "-Q", "127.0.0.1", str(port)],
            check=True,
            timeout=60,
            capture_output=True,
        )
        wait_until(lambda: collector.client("acme")["accepted"] >= count, f"{count} accepted")
        collector.stop()
        messages = collector.messages("acme")
        assert len(messages) == count
        assert {len(message) for message in messages} <= {299, 300}, "whole, without their line ends"
        assert all(parse(message).priority == 38 for message in messages)


def test_syslog_ng_relays_octet_counted_messages_to_us() -> None:
    syslog_ng, loggen = need_tool("syslog-ng"), need_tool("loggen")
    with Collector() as collector:
        home = collector.home
        source = home / "in.sock"
        (home / "relay.conf").write_text(
            f"""@version: 3.35
            options {{ time-reopen(1); flush-lines(10); }};
            source s {{ unix-stream("{source}"); }};
            destination d {{ syslog("127.0.0.1" port({collector.port("acme-tcp")}) transport("tcp")); }};
            log {{ source(s); destination(d); flags(flow-control); }};
            """
        )
        relay = subprocess.Popen(
            [syslog_ng, "-F", "--no-caps", "-f", "relay.conf", "-R", "persist", "-p", "pid", "-c", "ctl"],
            cwd=home,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(source.is_socket, "syslog-ng to listen")
            command = [loggen, "-x", "-S", "-n", "500", "-r", "2000", "-s", "200", "-Q", str(source)]
            subprocess.run(command, check=True, timeout=30, capture_output=True)
            collector.wait_stored("acme", 500)
        finally:
            relay.terminate()
            relay.wait(timeout=20)
        collector.stop()
        stored = [parse(message) for message in collector.messages("acme")]
        assert len([message for message in stored if "PADD" in message.text]) == 500
        assert {message.form for message in stored} == {"rfc5424"}


def test_messages_are_routed_by_structured_data_and_by_hostname_and_unknown_ones_are_counted() -> None:
    clients = ("acme", {"name": "globex", "hostnames": ["web-*", "db-?"]})
    with Collector(clients=clients, listeners=[tcp(None), udp(None)]) as collector:
        send(
            collector.port("shared-tcp"),
            b'<13>1 - web-01 app - - [client@32473 name="acme"] by structured data\n',
            b"<13>1 - WEB-02.example.com app - - - by hostname\n",
            b"<13>Oct 11 22:14:15 db-7 app: by hostname, the old form\n",
            b"<13>1 - elsewhere app - - - nobody's\n",
            b'<13>1 - web-01 app - - [client@32473 name="nobody"] unknown in structured data\n',
        )
        collector.wait_stored("acme", 1)
        collector.wait_stored("globex", 2)
        assert collector.listener("shared-tcp")["unknown"] == 2
        assert "event=unknown_client" in collector.log()
        collector.stop()
        assert collector.counts() == {"acme": 1, "globex": 2}
        assert [parse(message).text[:11] for message in collector.messages("globex")] == ["by hostname"] * 2


def test_unknown_clients_can_be_given_to_a_client_of_their_own() -> None:
    tables = '[routing]\nunknown_client = "strays"'
    with Collector(clients=("acme", "strays"), listeners=[tcp(None)], tables=tables) as collector:
        send(collector.port("shared-tcp"), b"<13>1 - elsewhere app - - - nobody's\nnot even syslog\n")
        assert collector.wait_stored("strays", 2)["malformed"] == 1
        assert collector.listener("shared-tcp")["unknown"] == 0


def test_messages_that_are_too_long_are_cut_and_counted() -> None:
    listeners = [tcp("acme", max_message_bytes=500), udp("acme", max_message_bytes=500)]
    with Collector(listeners=listeners) as collector:
        send(collector.port("acme-tcp"), b"<13>" + b"x" * 1000 + b"\n<13>short\n")
        send(collector.port("acme-tcp"), b"1004 <13>" + b"x" * 1000 + b"9 <13>short")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"<13>" + b"x" * 1000, ("127.0.0.1", collector.port("acme-udp")))
        collector.wait_stored("acme", 5)
        assert collector.listener("acme-tcp")["truncated"] == 2
        assert collector.listener("acme-udp")["truncated"] == 1
        collector.stop()
        assert sorted(map(len, collector.messages("acme"))) == [9, 9, 500, 500, 500]


def test_a_connection_that_loses_its_framing_is_closed_and_what_was_whole_is_kept() -> None:
    with Collector() as collector:
        with open_connection(collector.port("acme-tcp")) as sock:
            sock.sendall(b"9 <13>whole" + b"no count here")
            assert sock.recv(1) == b"", "closed by the collector"
        with open_connection(collector.port("acme-tcp")) as sock:
            sock.sendall(b"9 <13>whole" + b"999999999 <13>")
            assert sock.recv(1) == b""
        collector.wait_stored("acme", 2)
        listener = collector.listener("acme-tcp")
        assert (listener["framing_errors"], listener["oversized"]) == (1, 1)
        assert "event=framing_lost" in collector.log()


def test_senders_of_garbage_do_not_fill_our_own_log() -> None:
    with Collector() as collector:
        port = collector.port("acme-tcp")
        for _ in range(20):
            with open_connection(port) as sock:
                sock.sendall(b"9 <13>whole" + b"no count here")
                assert sock.recv(1) == b""
        assert collector.listener("acme-tcp")["framing_errors"] == 20
        assert collector.log().count("event=framing_lost") == 1


def test_a_hundred_connections_of_both_framings_at_once_are_all_stored() -> None:
    with Collector() as collector:
        port = collector.port("acme-tcp")
        socks = [open_connection(port) for _ in range(100)]
        for number, sock in enumerate(socks):
            message = b"<13>1 - host app - - - from %d" % number
            sock.sendall(b"%d %s" % (len(message), message) if number % 2 else message + b"\n")
        collector.wait_stored("acme", 100)
        assert collector.client("acme")["connections"] == 100
        for sock in socks:
            sock.close()
        wait_until(lambda: collector.client("acme")["connections"] == 0, "the connections to be forgotten")
        collector.stop()
        assert len(set(collector.messages("acme"))) == 100
