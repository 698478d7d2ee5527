"""``collector status``, ``stop`` and ``fault``: a running collector, through its control socket."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collector import config
from collector.config import FAULT_HOLDERS, FAULT_KINDS
from collector.control import Unreachable, ask, ask_and_wait_for_end

__all__ = ["add_socket_options", "control_socket", "register"]


def add_socket_options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-c", "--config", metavar="FILE", help="the collector with this configuration")
    which.add_argument("--socket", metavar="PATH", help="the collector with this control socket")


def control_socket(args: argparse.Namespace) -> Path:
    """Which collector is meant: the one named, or the only one that is there. Raises Unreachable."""
    if args.socket:
        return Path(args.socket)
    if args.config:
        return config.load(args.config).control_socket
    usual = config.default_control_socket("collector")
    found = sorted(usual.parent.glob("*.sock")) if usual.parent.is_dir() else []
    if usual in found or not found:
        return usual
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise Unreachable(f"there are several collectors: {names}; say which one with --socket PATH")
    return found[0]


def register(commands: Any) -> None:
    status = commands.add_parser("status", help="how a running collector is doing")
    add_socket_options(status)
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(handler=_status)

    stop = commands.add_parser("stop", help="stop a running collector; everything accepted is stored first")
    add_socket_options(stop)
    stop.add_argument(
        "--timeout", type=float, default=120.0, metavar="S", help="wait at most this long (120)"
    )
    stop.set_defaults(handler=_stop)

    fault = commands.add_parser("fault", help="switch faults on and off, to practise on")
    actions = fault.add_subparsers(metavar="ACTION", required=True)
    on = actions.add_parser("on", help="switch a fault on")
    on.add_argument("kind", choices=FAULT_KINDS)
    on.add_argument("--client", required=True, help="whose messages feed it")
    on.add_argument("--holder", required=True, choices=FAULT_HOLDERS, help="where the leak hangs")
    on.add_argument("--bytes-per-s", type=int, metavar="N", help="grow at most this fast (8 MiB)")
    on.add_argument("--max-bytes", type=int, metavar="N", help="grow to at most this much (600 MiB)")
    add_socket_options(on)
    on.set_defaults(handler=_fault_on)
    off = actions.add_parser(
        "off", help="switch faults off and let go of what they kept (all, or those that fit)"
    )
    off.add_argument("--client")
    off.add_argument("--holder", choices=FAULT_HOLDERS)
    add_socket_options(off)
    off.set_defaults(handler=_fault_off)
    listing = actions.add_parser("list", help="the faults that are on")
    listing.add_argument("--json", action="store_true", help="as JSON")
    add_socket_options(listing)
    listing.set_defaults(handler=_fault_list)


def _status(args: argparse.Namespace) -> int:
    answer = ask(control_socket(args), {"do": "status"})
    answer.pop("ok")
    if args.json:
        print(json.dumps(answer, indent=2))
        return 0
    free = answer["spool"]["free_bytes"]
    print(f"{answer['name']}  pid {answer['pid']}  up {answer['uptime_s']:.0f} s  {answer['application']}  "
          f"rss {_size(answer['rss_bytes'])}  spool {answer['spool']['directory']} "
          f"({'?' if free is None else _size(free)} free)")  # fmt: skip
    rows: list[tuple[str, ...]] = [
        ("CLIENT", "STATE", "CONNS", "ACCEPTED", "STORED", "QUEUED", "QUEUE", "LOST", "ON DISK")
    ]
    for name, client in answer["clients"].items():
        rows.append(
            (
                name,
                client["state"],
                str(client["connections"]),
                str(client["accepted"]),
                str(client["stored"]),
                str(client["queued"]),
                _size(client["queued_bytes"]),
                str(client["lost"]),
                _size(client["stored_bytes"]),
            )
        )
    _table(rows)
    rows = [
        (
            "LISTENER",
            "ADDRESS",
            "CLIENT",
            "CONNS",
            "RECEIVED",
            "UNKNOWN",
            "REFUSED",
            "DROPPED",
            "TRUNCATED",
            "BROKEN",
        )
    ]
    for listener in answer["listeners"]:
        place = f"{listener['transport']} {listener['host']}:{listener['port']}"
        rows.append(
            (
                listener["name"],
                place if listener["port"] else "closed",
                listener["client"] or "(routed)",
                str(listener["connections"]),
                _size(listener["received_bytes"]),
                str(listener["unknown"]),
                str(listener["refused"]),
                str(listener["dropped"] + (listener.get("kernel_drops") or 0)),
                str(listener["truncated"]),
                str(listener["oversized"] + listener["framing_errors"]),
            )
        )
    _table(rows)
    for fault in answer["faults"]:
        print(f"FAULT ON  {_fault_text(fault)}")
    return 0


def _stop(args: argparse.Namespace) -> int:
    answer = ask_and_wait_for_end(control_socket(args), {"do": "stop"}, args.timeout)
    print(f"collector (pid {answer['pid']}) has stopped")
    return 0


def _fault_on(args: argparse.Namespace) -> int:
    keys = ("kind", "client", "holder", "bytes_per_s", "max_bytes")
    answer = ask(control_socket(args), {"do": "fault_on", **{key: getattr(args, key) for key in keys}})
    print(f"{answer['on']} is on")
    return 0


def _fault_off(args: argparse.Namespace) -> int:
    request = {"do": "fault_off", "client": args.client, "holder": args.holder}
    answer = ask(control_socket(args), request)
    for key in answer["off"]:
        print(f"{key} is off")
    if not answer["off"]:
        print("no such fault was on")
    return 0


def _fault_list(args: argparse.Namespace) -> int:
    faults = ask(control_socket(args), {"do": "fault_list"})["faults"]
    if args.json:
        print(json.dumps(faults, indent=2))
        return 0
    for fault in faults:
        print(_fault_text(fault))
    if not faults:
        print("no fault is on")
    return 0


def _fault_text(fault: dict[str, Any]) -> str:
    return (
        f"{fault['kind']}:{fault['client']}:{fault['holder']}  {fault['views']} views show "
        f"{_size(fault['shown_bytes'])} and pin {_size(fault['pinned_bytes'])} "
        f"(at most {_size(fault['bytes_per_s'])}/s, {_size(fault['max_bytes'])})"
    )


def _size(octets: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} GiB"


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {0, 1, 2} if rows[0][0] == "LISTENER" else {0, 1}
    print()
    for row in rows:
        cells = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
