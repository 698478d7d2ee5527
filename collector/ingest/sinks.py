"""Whose are the messages that came in, and into which inbox do they go?

A listener has a sink and opens a session on it for each connection. :class:`ClientSink` is for a listener
that belongs to one client; :class:`RoutingSink` reads each message as far as needed to know its client.
"""

from __future__ import annotations

import fnmatch
import logging
import re
import weakref
from collections.abc import Sequence
from typing import Protocol

from collector.config import REJECT, Client, Routing
from collector.counters import ListenerCounters
from collector.ingest import syslog
from collector.ingest.inbox import Inbox
from collector.logs import Throttle

__all__ = ["ClientSink", "Directory", "RoutingSink", "Session", "Sink"]

_log = logging.getLogger("collector.ingest")


class Directory:
    """Which inbox is open for which client. Keeps none of them alive: a client that stops is gone."""

    def __init__(self) -> None:
        self._inboxes: dict[str, weakref.ref[Inbox]] = {}

    def add(self, inbox: Inbox) -> None:
        self._inboxes[inbox.client] = weakref.ref(inbox)

    def find(self, client: str) -> Inbox | None:
        """The client's inbox, or None while the client is stopped."""
        ref = self._inboxes.get(client)
        inbox = ref() if ref is not None else None
        return None if inbox is None or inbox.closed else inbox


class Session(Protocol):
    """One connection's way in."""

    unwanted: bool
    """True: everything this connection carried belongs to a client that is stopped; close it, so that
    its sender knows."""

    def deliver(self, messages: list[bytes], octets: int, source: str) -> Inbox | None:
        """Hand over messages. Returns the inbox that is now over its budget, if one is: stop reading
        until it has room."""


class Sink(Protocol):
    def session(self) -> Session: ...


class ClientSink:
    """All of it is one client's. It is its own session, having nothing to remember."""

    def __init__(self, inbox: Inbox, counters: ListenerCounters) -> None:
        self.unwanted = False
        self._inbox = inbox
        self._counters = counters

    def session(self) -> Session:
        return self

    def deliver(self, messages: list[bytes], octets: int, source: str) -> Inbox | None:
        if self._inbox.closed:
            self.unwanted = True
            self._counters.refused += len(messages)
            return None
        self._inbox.put(messages, octets, source)
        return self._inbox if self._inbox.over_budget else None


class RoutingSink:
    """Structured data says whose a message is; else the hostname; else it is unknown.

    senders_wait: reading can be paused for one sender alone (tcp). Where it cannot (udp), what comes for a
    client over its budget is dropped and counted, for no client may hold up the others.
    """

    def __init__(
        self,
        directory: Directory,
        clients: Sequence[Client],
        routing: Routing,
        counters: ListenerCounters,
        *,
        senders_wait: bool = True,
    ) -> None:
        self.directory = directory
        self.counters = counters
        self.senders_wait = senders_wait
        self._names = frozenset(client.name for client in clients)
        self._sd_id = routing.sd_id.encode()
        self._sd_param = routing.sd_param.encode()
        self._unknown = None if routing.unknown_client == REJECT else routing.unknown_client
        self._globs = [
            (re.compile(fnmatch.translate(glob.lower())), client.name)
            for client in clients
            for glob in client.hostnames
        ]
        self._hosts: dict[str, str | None] = {}
        self.throttle = Throttle(_log)

    def session(self) -> Session:
        return _RoutedSession(self)

    def client_of(self, message: bytes) -> str | None:
        """The client's name; None for a message nobody takes."""
        name = syslog.sd_param(message, self._sd_id, self._sd_param)
        if name:
            return name if name in self._names else self._unknown
        host = syslog.hostname(message).lower() if self._globs else ""
        if not host:
            return self._unknown
        found = self._hosts.get(host, "")
        if found == "":
            found = next((client for glob, client in self._globs if glob.match(host)), self._unknown)
            if len(self._hosts) >= 4096:  # a sender that invents names must not grow this for ever
                self._hosts.clear()
            self._hosts[host] = found
        return found


class _RoutedSession:
    __slots__ = ("_carried", "_sink", "unwanted")

    def __init__(self, sink: RoutingSink) -> None:
        self.unwanted = False
        self._sink = sink
        self._carried: set[str] = set()

    def deliver(self, messages: list[bytes], octets: int, source: str) -> Inbox | None:
        sink = self._sink
        client_of = sink.client_of
        groups: dict[str | None, list[bytes]] = {}
        for message in messages:
            groups.setdefault(client_of(message), []).append(message)
        full = None
        for client, group in groups.items():
            if client is None:
                sink.counters.unknown += len(group)
                sink.throttle.warning("unknown_client", count=len(group), source=source, action="rejected")
                continue
            self._carried.add(client)
            inbox = sink.directory.find(client)
            if inbox is None:
                sink.counters.refused += len(group)
                self.unwanted = len(self._carried) == 1
                sink.throttle.warning("client_stopped", client=client, count=len(group), action="refused")
                continue
            if inbox.over_budget and not sink.senders_wait:
                sink.counters.dropped += len(group)
                sink.throttle.warning("client_over_budget", client=client, count=len(group), action="dropped")
                continue
            inbox.put(group, octets if len(groups) == 1 else sum(map(len, group)), source)
            if inbox.over_budget and sink.senders_wait:
                full = inbox
        return full
