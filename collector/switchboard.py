"""Switching faults on and off while the collector runs; see :mod:`collector.faults` for what they do."""

from __future__ import annotations

from typing import Any

from collector.app import State
from collector.clients import Context, client_supervisor_name, parser_name
from collector.config import Fault
from collector.faults import FaultState, helper_spec
from collector.ingest.parser import FAULTS_CHANGED
from collector.supervision import CallError, ServerDown, SupervisorError, call
from collector.supervision.supervisor import delete_child, start_child, terminate_child

__all__ = ["SwitchError", "listed", "switch_off", "switch_on"]


class SwitchError(Exception):
    """The fault could not be switched; says why."""


def listed(state: State) -> list[dict[str, Any]]:
    """The faults that are on. ``pinned_bytes`` is what they keep alive now, ``shown_bytes`` what a tool
    that adds up the views' lengths would say."""
    found = []
    for name, context in state.contexts.items():
        running = state.directory.find(name) is not None
        for fault, reached in context.faults.values():
            found.append(
                {
                    "kind": fault.kind,
                    "client": fault.client,
                    "holder": fault.holder,
                    "bytes_per_s": fault.bytes_per_s,
                    "max_bytes": fault.max_bytes,
                    "views": reached.views if running else 0,
                    "shown_bytes": reached.shown_bytes if running else 0,
                    "pinned_bytes": reached.pinned_bytes if running else 0,
                }
            )
    return found


async def switch_on(state: State, fault: Fault) -> None:
    """From the client's next batch on. For a client that is stopped: from its next start on.

    Raises SwitchError."""
    context = _context(state, fault.client)
    if fault.key in context.faults:
        raise SwitchError(f"{fault.key} is on already; switch it off first to change it")
    context.faults[fault.key] = (fault, FaultState())
    spec = helper_spec(fault)
    try:
        if spec is not None:
            await start_child(client_supervisor_name(fault.client), spec)
    except ServerDown:
        pass  # stopped; its supervisor starts the helper when it starts
    except SupervisorError as error:
        del context.faults[fault.key]
        raise SwitchError(f"{fault.key}: {error}") from None
    await _tell_parser(fault.client)


async def switch_off(state: State, *, client: str | None, holder: str | None) -> list[Fault]:
    """Switch off every fault that fits and let go of what it kept; which those were."""
    contexts = state.contexts.values() if client is None else [_context(state, client)]
    ended = []
    for context in contexts:
        for key, (fault, _) in list(context.faults.items()):
            if holder in (None, fault.holder):
                del context.faults[key]
                ended.append(fault)
    for fault in ended:
        await _tell_parser(fault.client)
        await _stop_helper(fault)
    return ended


async def _tell_parser(client: str) -> None:
    try:
        await call(parser_name(client), FAULTS_CHANGED)
    except CallError:
        pass  # not there, or busy stopping: it looks for itself when it starts


async def _stop_helper(fault: Fault) -> None:
    spec = helper_spec(fault)
    if spec is None:
        return
    supervisor = client_supervisor_name(fault.client)
    try:
        await terminate_child(supervisor, spec.id)
        await delete_child(supervisor, spec.id)
    except (ServerDown, SupervisorError):
        pass  # gone already, with its supervisor


def _context(state: State, client: str) -> Context:
    try:
        return state.contexts[client]
    except KeyError:
        raise SwitchError(f"no client named {client!r}; there are: {', '.join(state.contexts)}") from None
