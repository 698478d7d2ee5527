"""Who sends what to where: the command line made into one :class:`Flow` for each client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.load.profiles import profile_of
from collector.schema import did_you_mean

__all__ = ["Flow", "PlanError", "parse_target", "plan_from_status", "plan_from_targets"]


class PlanError(Exception):
    """The load that was asked for cannot be sent; says why and what to try."""


@dataclass(frozen=True)
class Flow:
    """One client's traffic."""

    client: str
    host: str
    port: int
    transport: str
    framing: str
    profile: str


def parse_target(text: str) -> tuple[str | None, str, int]:
    """``[CLIENT=]HOST:PORT`` (an IPv6 address in brackets). Raises PlanError."""
    client, _, place = text.rpartition("=")
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise PlanError(f"--to {text}: must be [CLIENT=]HOST:PORT, such as acme=127.0.0.1:5514")
    return client or None, host.strip("[]"), int(port)


def plan_from_targets(
    targets: Sequence[str], clients: str | None, transport: str, framing: str, profile: str
) -> list[Flow]:
    """Flows to places given by hand. A target with a client is that client's; the others take the
    clients of ``clients`` (a number or names) in turn. Raises PlanError."""
    parsed = [parse_target(target) for target in targets]
    own = {client: (host, port) for client, host, port in parsed if client}
    shared = [(host, port) for client, host, port in parsed if not client]
    names = _names(clients, None) if clients else list(own) or ["client-1"]
    places = {}
    for number, name in enumerate(names):
        if name not in own and not shared:
            raise PlanError(f"client {name}: no --to {name}=HOST:PORT, and none without a client")
        places[name] = own.get(name) or shared[number % len(shared)]
    return [
        Flow(name, host, port, transport, framing, profile_of(profile, number))
        for number, (name, (host, port)) in enumerate(places.items())
    ]


def plan_from_status(
    status: Mapping[str, Any], clients: str | None, transport: str | None, framing: str, profile: str
) -> list[Flow]:
    """Flows to a running collector's own listeners, from its ``status``. A client's own listener goes
    before one that routes; tcp before udp unless ``transport`` says. Raises PlanError."""
    known = list(status["clients"])
    names = _names(clients, known)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f" (there are: {', '.join(known)})"
            raise PlanError(
                f"--clients {name}: the collector has no such client{hint}; to send as a stranger give --to"
            )
    flows = []
    for number, name in enumerate(names):
        fitting = [
            listener
            for listener in status["listeners"]
            if listener["client"] in (name, None) and transport in (None, listener["transport"])
        ]
        fitting.sort(key=lambda listener: (listener["client"] is None, listener["transport"] != "tcp"))
        fitting = [listener for listener in fitting if listener["port"]]
        if not fitting:
            raise PlanError(
                f"client {name}: the collector has no {transport or ''} listener that takes its messages "
                "(is the client stopped?)".replace("  ", " ")
            )
        best = fitting[0]
        kind = profile_of(profile, number)
        flows.append(Flow(name, best["host"], best["port"], best["transport"], framing, kind))
    return flows


def _names(clients: str | None, known: list[str] | None) -> list[str]:
    if clients is None:
        return known or []
    if clients.isdigit():
        wanted = int(clients)
        if not 0 < wanted <= 10_000:
            raise PlanError(f"--clients {clients}: must be 1 to 10000, or names with commas between")
        if known is not None and wanted > len(known):
            raise PlanError(f"--clients {clients}: the collector knows only {len(known)}: {', '.join(known)}")
        return known[:wanted] if known is not None else [f"client-{number + 1}" for number in range(wanted)]
    return list(dict.fromkeys(name for name in clients.split(",") if name))
