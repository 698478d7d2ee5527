"""Every message has one client, or is counted as nobody's."""

from __future__ import annotations

import pytest

from collector.config import Client, Routing
from collector.counters import ClientCounters, ListenerCounters
from collector.ingest.inbox import Inbox
from collector.ingest.sinks import ClientSink, Directory, RoutingSink

CLIENTS = (Client("acme", hostnames=("acme-*", "*.acme.example")), Client("globex"))


def inbox(client: str, budget_bytes: int = 10_000) -> Inbox:
    return Inbox(
        client, f"p:{client}", ClientCounters(), budget_bytes=budget_bytes, batch_bytes=1000, batch_age_s=1
    )


def message(host: str = "h", client: str = "") -> bytes:
    data = f'[client@32473 name="{client}"]' if client else "-"
    return f"<13>1 - {host} app - - {data} text".encode()


def sink(directory: Directory, unknown_client: str = "reject") -> RoutingSink:
    return RoutingSink(directory, CLIENTS, Routing(unknown_client=unknown_client), ListenerCounters())


@pytest.mark.parametrize(
    ("raw", "client"),
    [
        (message(client="acme"), "acme"),
        (message(client="globex", host="acme-1"), "globex"),
        (message(client="nobody", host="acme-1"), None),
        (message(host="acme-1"), "acme"),
        (message(host="ACME-1"), "acme"),
        (message(host="db.acme.example"), "acme"),
        (message(host="elsewhere"), None),
        (b"<13>Oct 11 22:14:15 acme-9 su: x", "acme"),
        (b"no syslog at all", None),
    ],
)
def test_structured_data_goes_before_the_hostname(raw: bytes, client: str | None) -> None:
    assert sink(Directory()).client_of(raw) == client


def test_unknown_messages_may_have_a_client_of_their_own() -> None:
    assert sink(Directory(), "globex").client_of(message(host="elsewhere")) == "globex"
    assert sink(Directory(), "globex").client_of(message(client="nobody")) == "globex"


def test_each_message_goes_to_its_client_in_order_and_strays_are_counted() -> None:
    directory = Directory()
    acme, globex = inbox("acme"), inbox("globex")
    directory.add(acme)
    directory.add(globex)
    routing = sink(directory)
    messages = [message(client="acme"), message(), message(client="globex"), message(host="acme-2")]
    assert routing.session().deliver(messages, sum(map(len, messages)), "127.0.0.1") is None
    batch = acme.take()
    assert batch is not None
    assert batch.messages == [messages[0], messages[3]]
    assert globex.queued == 1
    assert routing.counters.unknown == 1


def test_messages_of_a_stopped_client_are_refused_and_its_own_connections_unwanted() -> None:
    directory = Directory()
    acme = inbox("acme")
    directory.add(acme)
    routing = sink(directory)
    own, mixed = routing.session(), routing.session()
    mixed.deliver([message(client="globex"), message(client="acme")], 1, "x")
    del acme
    own.deliver([message(client="acme")], 1, "x")
    mixed.deliver([message(client="acme")], 1, "x")
    assert own.unwanted
    assert not mixed.unwanted
    assert routing.counters.refused == 3


def test_the_directory_keeps_no_inbox_alive_and_hides_closed_ones() -> None:
    directory = Directory()
    acme = inbox("acme")
    directory.add(acme)
    assert directory.find("acme") is acme
    acme.closed = True
    assert directory.find("acme") is None
    acme.closed = False
    del acme
    assert directory.find("acme") is None
    assert directory.find("never") is None


def test_a_full_inbox_is_returned_so_that_its_sender_pauses() -> None:
    acme = inbox("acme", budget_bytes=1000)
    session = ClientSink(acme, ListenerCounters()).session()
    assert session.deliver([b""], 0, "x") is None
    assert session.deliver([b""], 0, "x") is acme


def test_where_senders_cannot_wait_a_client_over_its_budget_loses_and_the_others_go_on() -> None:
    directory = Directory()
    acme, globex = inbox("acme", budget_bytes=65), inbox("globex")
    directory.add(acme)
    directory.add(globex)
    counters = ListenerCounters()
    session = RoutingSink(directory, CLIENTS, Routing(), counters, senders_wait=False).session()
    for _ in range(3):
        assert session.deliver([message(client="acme"), message(client="globex")], 1, "x") is None
    assert (acme.queued, globex.queued, counters.dropped) == (1, 3, 2)


def test_a_closed_inbox_accepts_nothing() -> None:
    acme = inbox("acme")
    acme.closed = True
    counters = ListenerCounters()
    session = ClientSink(acme, counters).session()
    session.deliver([b"<13>late"], 8, "x")
    assert session.unwanted
    assert (acme.queued, counters.refused) == (0, 1)


def test_invented_hostnames_do_not_grow_the_memory() -> None:
    routing = sink(Directory())
    for number in range(10_000):
        routing.client_of(message(host=f"host-{number}"))
    assert len(routing._hosts) <= 4096
