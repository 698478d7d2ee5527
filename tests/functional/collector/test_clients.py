"""One client is stopped, restarted or leaks: it shows there, and nowhere else."""

from __future__ import annotations

import socket

import pytest

from collector.faults import BLOCK_BYTES
from tests.functional.collector.harness import Collector, open_connection, send, tcp, udp, wait_until
from tests.functional.collector.test_stopping import finished, sequences, start_load

ACME = "alcollect_client_sup:acme"
CLIENTS = ("acme", "globex", "initech", "umbrella")
LISTENERS = [tcp("acme"), tcp("globex"), udp("initech"), tcp(None)]
MIB = 1024 * 1024


def test_a_stopped_client_closes_its_door_and_the_others_lose_nothing() -> None:
    with Collector(clients=CLIENTS, listeners=LISTENERS, allow_actions=True) as collector:
        load = start_load(collector, "--seconds", "60", "--rate", "1000")
        collector.wait_stored("acme", 500)
        port = collector.port("acme-tcp")
        collector.diag("stop", ACME, "--yes")
        stopped = collector.client("acme")
        assert stopped["state"] == "stopped"
        assert stopped["accepted"] == stopped["stored"]
        with pytest.raises(ConnectionRefusedError):
            open_connection(port)
        collector.wait_stored("globex", collector.client("globex")["accepted"] + 1000)
        collector.diag("restart", ACME, "--yes")
        assert collector.port("acme-tcp") == port, "where its senders look for it"
        collector.wait_client(
            "acme", lambda client: client["stored"] > stopped["stored"], "the sender to be back"
        )
        load.terminate()
        report = finished(load)
        assert "acme: the peer closed the connection" in report["stderr"]
        assert "acme: connected again" in report["stderr"]
        for name in ("globex", "initech", "umbrella"):
            collector.wait_stored(name, report["clients"][name]["sent"])
        collector.stop()
        seen = sequences(collector)
        for name in ("globex", "initech", "umbrella"):
            (marks,) = seen[name]["sequences"].values()
            assert (marks["missing"], marks["duplicates"]) == (0, 0)
            assert marks["received"] == report["clients"][name]["sent"]
            assert report["clients"][name]["reconnects"] == 0


def test_a_shared_connection_refuses_a_stopped_clients_messages_and_serves_the_others() -> None:
    with Collector(clients=("acme", "globex"), listeners=[tcp(None)], allow_actions=True) as collector:

        def line(client: str) -> bytes:
            return b'<13>1 - h a - - [client@32473 name="%s"] text\n' % client.encode()

        port = collector.port("shared-tcp")
        with open_connection(port) as mixed, open_connection(port) as own:
            mixed.sendall(line("acme") + line("globex"))
            own.sendall(line("acme"))
            collector.wait_stored("acme", 2)
            collector.diag("stop", ACME, "--yes")
            own.sendall(line("acme"))
            assert own.recv(1) == b"", "a connection that only carried the stopped client is closed"
            mixed.sendall(line("acme") + line("globex"))
            collector.wait_stored("globex", 2)
            assert collector.listener("shared-tcp")["refused"] == 2
            assert "event=client_stopped count=1 client=acme" in collector.log()
            collector.diag("restart", ACME, "--yes")
            mixed.sendall(line("acme"))
            collector.wait_stored("acme", 3)


def test_a_client_over_its_budget_slows_down_its_own_senders_only() -> None:
    small = {"name": "acme", "queue_budget_bytes": 65536}
    with Collector(clients=(small, "globex"), listeners=[tcp("acme"), tcp(None)]) as collector:
        (collector.spool / "acme").write_text("in the way: nothing of this client can be stored")
        with open_connection(collector.port("acme-tcp")) as sock:
            sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                sock.sendall(b"<13>%s\n" % (b"x" * 50_000) * 1000)
            collector.wait_client("acme", lambda client: client["pauses"] > 0, "reading to pause")
            send(collector.port("shared-tcp"), b'<13>1 - h a - - [client@32473 name="globex"] t\n' * 1000)
            collector.wait_stored("globex", 1000)
            assert collector.client("acme")["stored"] == 0
            (collector.spool / "acme").unlink()
            collector.wait_client("acme", lambda client: client["stored"] > 0, "storing again")
        collector.stop()


def test_a_udp_client_over_its_budget_is_not_read_until_there_is_room() -> None:
    small = {"name": "acme", "queue_budget_bytes": 65536}
    with Collector(clients=[small], listeners=[udp("acme")]) as collector:
        (collector.spool / "acme").write_text("in the way: nothing can be stored")
        address = ("127.0.0.1", collector.port("acme-udp"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for number in range(100):
                sock.sendto(b"<13>%d %s" % (number, b"x" * 1000), address)
            held = collector.wait_client("acme", lambda client: client["pauses"] > 0, "reading to pause")
            for number in range(100, 200):  # waits in the kernel
                sock.sendto(b"<13>%d %s" % (number, b"x" * 1000), address)
            assert collector.client("acme")["accepted"] == held["accepted"]
            (collector.spool / "acme").unlink()
            collector.wait_stored("acme", 200)
        assert collector.listener("acme-udp")["kernel_drops"] == 0
        collector.stop()
        assert len(set(collector.messages("acme"))) == 200


def test_the_whole_application_can_be_stopped_and_started_again() -> None:
    with Collector(clients=CLIENTS, listeners=LISTENERS, allow_actions=True) as collector:
        send(collector.port("acme-tcp"), b"<13>before\n")
        collector.diag("stop", "lmcollect", "--yes")
        status = collector.status()
        assert status["application"] == "stopped"
        assert all(client["state"] == "stopped" for client in status["clients"].values())
        assert not any(listener["port"] for listener in status["listeners"])
        collector.diag("start", "lmcollect", "--yes")
        send(collector.port("acme-tcp"), b"<13>after\n")
        collector.wait_stored("acme", 2)
        collector.stop()
        assert collector.messages("acme") == [b"<13>before", b"<13>after"]


@pytest.mark.parametrize("holder", ["locals", "registry", "queue", "transport"])
def test_each_leak_grows_where_it_should_and_goes_with_its_clients_supervisor(holder: str) -> None:
    enough = 40 * MIB
    with Collector(clients=("acme", "globex"), allow_actions=True) as collector:
        load = start_load(collector, "--seconds", "30", "--rate", "500")
        collector.wait_stored("globex", 200)
        before = collector.status()["rss_bytes"]
        on = collector.cli(
            "fault", "on", "sub-binary", "--client", "acme", "--holder", holder,
            "--bytes-per-s", str(40 * MIB), "--max-bytes", str(enough),
        )  # fmt: skip
        assert on.returncode == 0, on.stderr
        wait_until(
            lambda: collector.status()["faults"][0]["pinned_bytes"] == enough, "the leak to reach its cap"
        )
        fault = collector.status()["faults"][0]
        assert fault["shown_bytes"] * 8192 == fault["pinned_bytes"]
        assert collector.status()["rss_bytes"] > before + enough * 0.9

        table = collector.diag("top", "--by", "buffers", "-n", "100")
        owner = next(row for row in table["owners"] if row["name"] == ACME)
        in_hand = BLOCK_BYTES if holder == "queue" else 0  # the one message the auditor has taken out
        assert owner["holders"][holder] >= enough - in_hand
        assert owner["waste_bytes"] >= enough * 0.9
        others = next(row for row in table["owners"] if row["name"] == "alcollect_receiver:globex-tcp")
        assert others["retained_bytes"] < MIB

        stopped = collector.diag("stop", ACME, "--yes")
        assert stopped["predicted_bytes"] >= enough
        assert stopped["freed_bytes"] >= stopped["predicted_bytes"] * 0.9
        collector.diag("trim")
        assert collector.status()["rss_bytes"] < before + enough * 0.25
        load.terminate()
        report = finished(load)
        collector.wait_stored("globex", report["clients"]["globex"]["sent"])


def test_a_fault_is_off_until_it_is_switched_on_and_lets_go_when_it_is_switched_off() -> None:
    with Collector(clients=("acme",), args=["--fault", "sub-binary:acme:queue"]) as collector:
        load = start_load(collector, "--seconds", "20", "--rate", "500")
        wait_until(lambda: collector.status()["faults"][0]["views"] > 8, "the leak to start")
        assert "sub-binary:acme:queue" in collector.cli("fault", "list").stdout
        again = collector.cli("fault", "on", "sub-binary", "--client", "acme", "--holder", "queue")
        assert again.returncode == 1
        assert "is on already" in again.stderr
        off = collector.cli("fault", "off", "--client", "acme")
        assert off.stdout == "sub-binary:acme:queue is off\n"
        assert collector.status()["faults"] == []
        assert collector.cli("fault", "list").stdout == "no fault is on\n"
        load.terminate()
        finished(load)
        collector.stop()
