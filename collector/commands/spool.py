"""``collector spool cat`` and ``collector spool verify``: reading back what was stored."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from collector.ingest.syslog import parse
from collector.schema import did_you_mean
from collector.spool import reader
from collector.spool.directory import SpoolError
from collector.spool.reader import Batch, Damage
from collector.spool.sequences import Sequences

__all__ = ["register"]


def register(commands: Any) -> None:
    spool = commands.add_parser("spool", help="read back what was stored")
    actions = spool.add_subparsers(metavar="ACTION", required=True)

    cat = actions.add_parser(
        "cat",
        help="print the messages",
        description="Print the messages, oldest first. Damage goes to stderr with file and offset; the exit "
        "code is then 1.",
    )
    _add_place(cat)
    form = cat.add_mutually_exclusive_group()
    form.add_argument("--octet", action="store_true", help="octet-counted, exactly as received")
    form.add_argument("--json", action="store_true", help="taken apart, one JSON object a line")
    cat.set_defaults(handler=_cat)

    verify = actions.add_parser(
        "verify",
        help="check every frame",
        description="Check every frame of every segment. Exit code 0: all whole; 1: damage, named with file "
        "and offset. A collector that is writing may show its last frame as truncated.",
    )
    _add_place(verify)
    verify.add_argument("--json", action="store_true", help="as JSON")
    verify.add_argument(
        "--sequences",
        action="store_true",
        help="also look for gaps in the sequence numbers of `collector load`",
    )
    verify.set_defaults(handler=_verify)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the spool's folder")
    parser.add_argument("--client", action="append", help="only this client's (may be repeated)")


def _clients(args: argparse.Namespace) -> list[str]:
    directory = Path(args.directory)
    try:
        known = reader.clients(directory)
    except OSError as error:
        raise SpoolError(f"spool {directory} cannot be read: {error.strerror or error}") from None
    if not known:
        raise SpoolError(
            f"spool {directory} holds no segments: nothing was stored yet, or it is another folder"
        )
    for client in args.client or []:
        if client not in known:
            hint = did_you_mean(client, known) or f" (there are: {', '.join(known)})"
            raise SpoolError(f"spool {directory} has nothing of a client {client!r}{hint}")
    return args.client or known


def _scan(directory: Path, client: str) -> Iterator[Batch | Damage]:
    try:
        yield from reader.scan_client(directory, client)
    except OSError as error:
        raise SpoolError(f"spool {directory} cannot be read: {error}") from None


def _cat(args: argparse.Namespace) -> int:
    code = 0
    out = sys.stdout.buffer
    try:
        for client in _clients(args):
            for item in _scan(Path(args.directory), client):
                if isinstance(item, Damage):
                    print(f"collector: {item}", file=sys.stderr)
                    code = 1
                elif args.octet:
                    out.writelines(b"%d %s" % (len(message), message) for message in item.messages)
                elif args.json:
                    out.writelines(_json_line(client, item, message) for message in item.messages)
                else:  # one message a line; the line ends inside a message are shown as rsyslog does
                    out.writelines(message.replace(b"\n", b"#012") + b"\n" for message in item.messages)
        out.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _json_line(client: str, batch: Batch, message: bytes) -> bytes:
    fields = {"client": client, "received_ns": batch.received_ns, **asdict(parse(message))}
    return json.dumps(fields).encode() + b"\n"


def _verify(args: argparse.Namespace) -> int:
    directory = Path(args.directory)
    report: dict[str, Any] = {"directory": str(directory), "clients": {}, "damage": []}
    for client in _clients(args):
        found = {"segments": 0, "frames": 0, "messages": 0, "message_bytes": 0, "stored_bytes": 0}
        sequences = Sequences()
        paths = set()
        for item in _scan(directory, client):
            paths.add(item.path)
            if isinstance(item, Damage):
                report["damage"].append({**asdict(item), "path": str(item.path), "client": client})
                continue
            found["frames"] += 1
            found["messages"] += len(item.messages)
            found["message_bytes"] += item.raw_bytes
            found["stored_bytes"] += item.stored_bytes
            if args.sequences:
                sequences.add(item.messages)
        found["segments"] = len(paths)
        report["clients"][client] = {**found, **({"sequences": sequences.report()} if args.sequences else {})}
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report)
    return 1 if report["damage"] else 0


def _print_report(report: dict[str, Any]) -> None:
    for client, found in report["clients"].items():
        ratio = found["message_bytes"] / found["stored_bytes"] if found["stored_bytes"] else 0.0
        print(
            f"{client}: {found['messages']} messages, {found['message_bytes']} octets in {found['frames']} "
            f"frames of {found['segments']} segments ({ratio:.1f}x compressed)"
        )
        for run, seen in found.get("sequences", {}).items():
            print(
                f"  run {run}: 1 to {seen['highest']}, {seen['missing']} missing, "
                f"{seen['duplicates']} duplicates"
            )
            if seen["first_gaps"]:
                print(f"    first gaps: {', '.join(f'{a}-{b}' for a, b in seen['first_gaps'])}")
    for damage in report["damage"]:
        print(f"{damage['path']}: offset {damage['offset']}: {damage['kind']}: {damage['problem']}")
    if not report["damage"]:
        print("all frames are whole")
