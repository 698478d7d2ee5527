"""The application: everything that serves clients, as one tree that is started and stopped as a whole.

::

    lmcollect
      lmcollect_sup
        alcollect_sup                the clients (see :mod:`collector.clients`)
        listener_sup                 the listeners that route, which belong to no client
          alcollect_receiver:shared-tcp

The listeners stop first: nothing is accepted any more when the clients store what they have. The clients
stop side by side, so that one whose disk hangs does not use up the time the others have to store.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from collector.clients import ClientsSupervisor, Context, client_supervisor_name, receiver_spec
from collector.config import Config
from collector.counters import ClientCounters, ListenerCounters
from collector.faults import FaultState
from collector.ingest.sinks import Directory, RoutingSink
from collector.supervision import (
    ChildSpec,
    ServerDown,
    Supervisor,
    SupervisorError,
    SupervisorFlags,
    terminate_child,
    which_children,
)
from collector.supervision.application import Application, ApplicationSpec

__all__ = ["APPLICATION", "State", "application_spec", "make_state"]

APPLICATION = "lmcollect"
TOP = "lmcollect_sup"
LISTENERS = "listener_sup"


@dataclass
class State:
    """What outlives a stop of the application: the configuration, the counters, the faults switched on."""

    config: Config
    directory: Directory
    contexts: dict[str, Context]
    listeners: dict[str, ListenerCounters]
    phase: str = "stopped"
    """What the application does: ``stopped``, ``running`` or ``stopping``."""

    @property
    def clients(self) -> dict[str, ClientCounters]:
        return {name: context.counters for name, context in self.contexts.items()}


def make_state(config: Config) -> State:
    directory = Directory()
    listeners = {listener.name: ListenerCounters() for listener in config.listeners}
    contexts = {
        client.name: Context(client, config, directory, ClientCounters(), listeners)
        for client in config.clients
    }
    for fault in config.faults:
        contexts[fault.client].faults[fault.key] = (fault, FaultState())
    return State(config, directory, contexts, listeners)


def application_spec(state: State) -> ApplicationSpec:
    return ApplicationSpec(APPLICATION, LmCollect, args=(state,))


class LmCollect(Application):
    async def start(self, start_type: Any, state: State) -> Any:
        top = await Supervisor.start_link(TopSupervisor, state, name=TOP)
        state.phase = "running"
        return top, state

    async def prep_stop(self, state: State) -> State:
        state.phase = "stopping"
        await _stop_child(TOP, LISTENERS)
        await asyncio.gather(*map(_stop_client, state.contexts))
        return state

    async def stop(self, state: State) -> None:
        state.phase = "stopped"


async def _stop_client(client: str) -> None:
    """Stop all that runs for a client, in the order its supervisor would."""
    supervisor = client_supervisor_name(client)
    try:
        children = await which_children(supervisor)
    except ServerDown:  # stopped already, by hand
        return
    for child in children:
        assert child.id is not None
        await _stop_child(supervisor, child.id)


async def _stop_child(supervisor: str, child: str) -> None:
    try:
        await terminate_child(supervisor, child)
    except (ServerDown, SupervisorError):
        pass  # gone already


class TopSupervisor(Supervisor):
    """``lmcollect_sup``"""

    def init(self, state: State) -> tuple[SupervisorFlags, list[ChildSpec]]:
        contexts = tuple(state.contexts.values())
        return SupervisorFlags("one_for_one", intensity=3, period=10), [
            ChildSpec("alcollect_sup", ClientsSupervisor, (contexts,), name="alcollect_sup"),
            ChildSpec(LISTENERS, ListenersSupervisor, (state,), name=LISTENERS),
        ]


class ListenersSupervisor(Supervisor):
    """``listener_sup``: the listeners that belong to no client."""

    def init(self, state: State) -> tuple[SupervisorFlags, list[ChildSpec]]:
        config = state.config
        specs = []
        for listener in config.listeners_of(None):
            counted = state.listeners[listener.name]
            sink = RoutingSink(
                state.directory,
                config.clients,
                config.routing,
                counted,
                senders_wait=listener.transport == "tcp",
            )
            specs.append(receiver_spec(listener, sink, counted, state.clients, config.stop_timeout_s))
        return SupervisorFlags("one_for_one", intensity=3, period=10), specs
