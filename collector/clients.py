"""The clients: each has a supervisor of its own, and below it everything that handles its messages.

::

    alcollect_sup                          one client's end is no other client's business
      alcollect_client_sup:acme            owns the client's inbox and table
        alcollect_writer:acme              batches to segment files
        alcollect_parser:acme              deliveries to batches
        alcollect_receiver:acme-tcp        one for each listener that is the client's own

They start in this order and stop in the opposite one, which is what makes a stop lose nothing: first the
sockets are emptied and closed, then the inbox is emptied, then the last batch is synced.

A crash of one of them is put right alone: what was accepted is in the inbox, which is the supervisor's. A
child that keeps crashing is restarted with growing delays instead of taking the client down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from collector.config import Client, Config, Fault, Listener
from collector.counters import ClientCounters, ListenerCounters
from collector.faults import FaultState, helper_spec
from collector.ingest.inbox import Inbox
from collector.ingest.parser import Parser
from collector.ingest.receiver import Receiver
from collector.ingest.sinks import ClientSink, Directory
from collector.ingest.table import ClientTable
from collector.spool.writer import Writer
from collector.supervision import ChildSpec, ExponentialDelay, Supervisor, SupervisorFlags

__all__ = ["ClientSupervisor", "ClientsSupervisor", "Context", "client_supervisor_name", "parser_name"]

_DELAY = ExponentialDelay(first=0.5, factor=2.0, max=30.0)


@dataclass
class Context:
    """What a client's supervisor is started with, again and again. It holds nothing of the client's data."""

    client: Client
    config: Config
    directory: Directory
    counters: ClientCounters
    listeners: dict[str, ListenerCounters]
    """By name; all listeners'."""
    faults: dict[str, tuple[Fault, FaultState]] = field(default_factory=dict)
    """Those switched on, by their key."""


def client_supervisor_name(client: str) -> str:
    return f"alcollect_client_sup:{client}"


def parser_name(client: str) -> str:
    return f"alcollect_parser:{client}"


class ClientsSupervisor(Supervisor):
    """``alcollect_sup``: the clients."""

    def init(self, contexts: tuple[Context, ...]) -> tuple[SupervisorFlags, list[ChildSpec]]:
        specs = []
        for context in contexts:
            name = client_supervisor_name(context.client.name)
            specs.append(ChildSpec(name, ClientSupervisor, (context,), name=name, delay=_DELAY))
        return SupervisorFlags("one_for_one", intensity=3, period=10), specs


class ClientSupervisor(Supervisor):
    """``alcollect_client_sup:CLIENT``: one client's pipeline, and what its tasks share."""

    def init(self, context: Context) -> tuple[SupervisorFlags, list[ChildSpec]]:
        client, config, counters = context.client, context.config, context.counters
        writer, parser = f"alcollect_writer:{client.name}", parser_name(client.name)
        self.table = ClientTable()
        self.inbox = Inbox(
            client.name,
            parser,
            counters,
            budget_bytes=client.queue_budget_bytes,
            batch_bytes=config.spool.batch_bytes,
            batch_age_s=config.spool.batch_age_ms / 1000,
        )
        context.directory.add(self.inbox)
        stop_s = config.stop_timeout_s
        helpers = [helper_spec(fault) for fault, _ in context.faults.values()]
        specs = [
            ChildSpec(
                writer,
                Writer,
                (client.name, config.spool, counters, self.inbox),
                name=writer,
                shutdown=stop_s,
                delay=_DELAY,
            ),
            *(spec for spec in helpers if spec is not None),
            ChildSpec(
                parser,
                Parser,
                (self.inbox, self.table, writer, config.spool, counters, context.faults),
                name=parser,
                shutdown=stop_s,
                delay=_DELAY,
            ),
        ]
        for listener in config.listeners_of(client.name):
            counted = context.listeners[listener.name]
            sink = ClientSink(self.inbox, counted)
            specs.append(receiver_spec(listener, sink, counted, {client.name: counters}, stop_s))
        return SupervisorFlags("one_for_one", intensity=3, period=10), specs


def receiver_spec(
    listener: Listener,
    sink: object,
    counted: ListenerCounters,
    clients: dict[str, ClientCounters],
    stop_s: float,
) -> ChildSpec:
    """A receiver as a child: of its client's supervisor, or of the one for listeners that route."""
    name = f"alcollect_receiver:{listener.name}"
    return ChildSpec(
        name, Receiver, (listener, sink, counted, clients), name=name, shutdown=stop_s, delay=_DELAY
    )
