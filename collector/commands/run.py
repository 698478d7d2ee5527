"""``collector run``"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from collector import config, logs
from collector.config import FAULT_HOLDERS, FAULT_KINDS, Config, ConfigError, Fault
from collector.node import CannotStart, Node

__all__ = ["register"]


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="receive and store logs until told to stop",
        description="Receive and store logs. SIGTERM or SIGINT stops gracefully: everything accepted is "
        "stored first. A second one ends at once.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-c", "--config", metavar="FILE", help="configuration (TOML)")
    source.add_argument("--demo", action="store_true", help="the built-in demo: four clients, one that leaks")
    parser.add_argument("--check", action="store_true", help="only check the configuration")
    parser.add_argument("--spool", metavar="DIR", help="store there instead of [spool] directory")
    parser.add_argument("--socket", metavar="PATH", help="control socket instead of the configured one")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND:CLIENT:HOLDER",
        help=f"switch a fault on at the start, e.g. sub-binary:acme:registry ({', '.join(FAULT_HOLDERS)})",
    )
    parser.set_defaults(handler=_run)


def _run(args: argparse.Namespace) -> int:
    if not args.demo:
        return _serve(args, args.config, args.spool)
    if args.spool:
        return _serve(args, config.demo_path(), args.spool)
    with tempfile.TemporaryDirectory(prefix="collector-demo-") as folder:
        return _serve(args, config.demo_path(), folder)


def _serve(args: argparse.Namespace, file: str | Path, spool: str | None) -> int:
    settings = config.load(file, spool=spool)
    if args.socket:
        settings = dataclasses.replace(settings, control_socket=Path(args.socket))
    if args.fault:
        faults = {
            fault.key: fault for fault in (*settings.faults, *(_fault(f, settings) for f in args.fault))
        }
        settings = dataclasses.replace(settings, faults=tuple(faults.values()))
    if args.check:
        clients, listeners = len(settings.clients), len(settings.listeners)
        print(f"{settings.file}: ok ({clients} clients, {listeners} listeners)")
        return 0
    try:
        logs.set_up(settings.log, settings.name)
    except OSError as error:
        raise CannotStart(f"[log] syslog {settings.log.syslog!r} cannot be used: {error}") from None
    return asyncio.run(_node(settings))


async def _node(settings: Config) -> int:
    return await Node(settings).run()


def _fault(text: str, settings: Config) -> Fault:
    kind, _, rest = text.partition(":")
    client, _, holder = rest.rpartition(":")
    names = [known.name for known in settings.clients]
    for what, value, allowed in (
        ("kind", kind, FAULT_KINDS),
        ("client", client, names),
        ("holder", holder, FAULT_HOLDERS),
    ):
        if value not in allowed:
            raise ConfigError(
                "--fault", [f"{text}: {what} must be one of {', '.join(allowed)}, got {value!r}"]
            )
    return Fault(kind, client, holder)
