"""``collector load``"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
from dataclasses import asdict
from typing import Any

from collector.commands.control import add_socket_options, control_socket
from collector.control import Unreachable, ask
from collector.load.plan import Flow, PlanError, plan_from_status, plan_from_targets
from collector.load.profiles import PROFILES
from collector.load.sender import Sender

__all__ = ["register"]

MOST_SECONDS = 24 * 3600.0
MOST_PER_S = 1_000_000.0
SHOW_S = 1.0
CLEAR_LINE = "\r\033[K"


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "load",
        help="send realistic traffic, for a while",
        description="Send realistic, varied syslog traffic and stop by itself. Each client's messages are "
        "numbered: `collector spool verify --sequences` shows what arrived. Without --to it asks the "
        "running collector for its clients and listeners. Exit code 1: nothing could be sent.",
    )
    add_socket_options(parser)
    parser.add_argument(
        "--to", action="append", default=[], metavar="[CLIENT=]HOST:PORT", help="send there (may be repeated)"
    )
    parser.add_argument("--clients", metavar="N|NAMES", help="how many, or which (acme,globex); default all")
    parser.add_argument(
        "--rate", type=float, default=1000.0, metavar="N", help="messages a second for each client (1000)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long (10)")
    parser.add_argument(
        "--connections", type=int, default=1, metavar="N", help="connections for each client (1)"
    )
    parser.add_argument(
        "--transport", choices=("tcp", "udp"), help="default: what the listener has; tcp with --to"
    )
    parser.add_argument("--framing", choices=("newline", "octet"), default="newline", help="on tcp (newline)")
    parser.add_argument(
        "--profile", choices=(*PROFILES, "mixed"), default="mixed", help="mixed: clients in turn"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random text (1)")
    parser.add_argument("--json", action="store_true", help="counts as JSON, at the end")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_defaults(handler=_load)


def _load(args: argparse.Namespace) -> int:
    for name, most in (("rate", MOST_PER_S), ("seconds", MOST_SECONDS), ("connections", 1000)):
        if not 0 < getattr(args, name) <= most:
            raise PlanError(f"--{name} must be over 0 and at most {most:g}, got {getattr(args, name):g}")
    if args.to:
        transport = args.transport or "tcp"
        flows = plan_from_targets(args.to, args.clients, transport, args.framing, args.profile)
    else:
        try:
            status = ask(control_socket(args), {"do": "status"})
        except Unreachable as error:
            raise Unreachable(f"{error}; --to HOST:PORT needs none") from None
        flows = plan_from_status(status, args.clients, args.transport, args.framing, args.profile)
    report = asyncio.run(_send(args, flows))
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report)
    return 0 if report["sent"] else 1


async def _send(args: argparse.Namespace, flows: list[Flow]) -> dict[str, Any]:
    run = secrets.token_hex(4)

    clear = CLEAR_LINE if sys.stderr.isatty() else ""

    def say(text: str) -> None:
        if not args.quiet:
            print(f"{clear}{text}", file=sys.stderr, flush=True)

    senders = [
        Sender(
            flow,
            rate_per_s=args.rate,
            seconds=args.seconds,
            connections=args.connections,
            run=run,
            seed=args.seed,
            say=say,
        )
        for flow in flows
    ]

    def stop() -> None:
        for sender in senders:
            sender.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    progress = asyncio.ensure_future(_progress(args, senders))
    try:
        tallies = await asyncio.gather(*(sender.run() for sender in senders))
    finally:
        progress.cancel()
        await asyncio.gather(progress, return_exceptions=True)
    clients = {
        flow.client: {**asdict(flow), **asdict(tally)} for flow, tally in zip(flows, tallies, strict=True)
    }
    for client in clients.values():
        client["down_s"] = round(client["down_s"], 3)
    return {
        "run": run,
        "sent": sum(tally.sent for tally in tallies),
        "sent_bytes": sum(tally.sent_bytes for tally in tallies),
        "unsure": sum(tally.unsure for tally in tallies),
        "clients": clients,
    }


async def _progress(args: argparse.Namespace, senders: list[Sender]) -> None:
    """A line that is rewritten, on a terminal only."""
    if args.quiet or not sys.stderr.isatty():
        return
    before = {sender.flow.client: 0 for sender in senders}
    for second in range(1, int(MOST_SECONDS)):
        await asyncio.sleep(SHOW_S)
        cells = []
        for sender in senders[:6]:
            client = sender.flow.client
            pace = sender.tally.sent - before[client]
            before[client] = sender.tally.sent
            cells.append(f"{client} {pace}/s" if sender.connected else f"{client} reconnecting")
        more = f" and {len(senders) - 6} more" if len(senders) > 6 else ""
        print(
            f"{CLEAR_LINE}{second} of {args.seconds:g} s  {'  '.join(cells)}{more}",
            end="",
            file=sys.stderr,
            flush=True,
        )


def _print_report(report: dict[str, Any]) -> None:
    if sys.stderr.isatty():
        print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
    print(f"run {report['run']}: {report['sent']} messages, {report['sent_bytes']} octets sent")
    for name, client in report["clients"].items():
        notes = [f"{client['unsent']} not sent in time"] if client["unsent"] else []
        if client["reconnects"] or client["down_s"]:
            notes.append(f"{client['reconnects']} times cut off, away {client['down_s']:.1f} s")
        if client["unsure"]:
            notes.append(f"{client['unsure']} unsure")
        if not client["read_to_the_end"]:
            notes.append("the peer did not read to the end")
        place = f"{client['transport']} {client['host']}:{client['port']}"
        noted = f"; {', '.join(notes)}" if notes else ""
        print(f"  {name}: {client['sent']} ({client['profile']}, {place}){noted}")
