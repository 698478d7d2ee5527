"""How the collector is doing, as one JSON-ready picture (``collector status``)."""

from __future__ import annotations

import os
import time
from typing import Any

from collector.app import State
from collector.clients import client_supervisor_name
from collector.ingest.udp import kernel_drops
from collector.supervision import whereis
from collector.switchboard import listed

__all__ = ["picture"]


def picture(state: State, started_s: float) -> dict[str, Any]:
    """``started_s``: the collector's start on the monotonic clock. Asks no process anything, so that it works
    while they are busy stopping."""
    config = state.config
    listeners = [_listener(state, name) for name in state.listeners]
    return {
        "name": config.name,
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - started_s, 3),
        "rss_bytes": _rss_bytes(),
        "application": state.phase,
        "spool": {"directory": str(config.spool.directory), "free_bytes": _free_bytes(state)},
        "clients": {name: _client(state, name, listeners) for name in state.contexts},
        "listeners": listeners,
        "faults": listed(state),
    }


def _client(state: State, name: str, listeners: list[dict[str, Any]]) -> dict[str, Any]:
    inbox = state.directory.find(name)
    supervisor = whereis(client_supervisor_name(name))
    instance = supervisor.instance() if supervisor is not None else None
    table = getattr(instance, "table", None)
    own = [listener for listener in listeners if listener["client"] == name]
    return {
        "state": "running" if inbox is not None else "stopped",
        "supervisor": client_supervisor_name(name),
        "connections": sum(listener["connections"] for listener in own),
        "queued": inbox.queued if inbox is not None else 0,
        "queued_bytes": inbox.queued_bytes if inbox is not None else 0,
        "sources": len(table.sources) if table is not None else 0,
        **state.contexts[name].counters.as_dict(),
    }


def _listener(state: State, name: str) -> dict[str, Any]:
    listener = next(listener for listener in state.config.listeners if listener.name == name)
    counters = state.listeners[name].as_dict()
    drops = (
        kernel_drops(state.listeners[name].port) if listener.transport == "udp" and counters["port"] else None
    )
    return {
        "name": name,
        "transport": listener.transport,
        "host": listener.host,
        "client": listener.client,
        **counters,
        **({"kernel_drops": drops} if listener.transport == "udp" else {}),
    }


def _rss_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _free_bytes(state: State) -> int | None:
    try:
        disk = os.statvfs(state.config.spool.directory)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
