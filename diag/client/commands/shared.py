"""What every command's arguments have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

Run = Callable[[argparse.Namespace], int]


class Usage(Exception):
    """The command cannot be carried out as it was typed: exit 2."""


def add_command(
    commands: Subparsers, name: str, summary: str, run: Run, *, target: bool = True, owner: bool = False
) -> argparse.ArgumentParser:
    """A command with ``--json``, and TARGET and OWNER where it takes them."""
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    if target:
        parser.add_argument("target", metavar="TARGET", help="pid, unique process name, or socket path")
    if owner:
        parser.add_argument("owner", metavar="OWNER", help="id or unique name, as 'diag top' shows it")
    parser.add_argument("--json", action="store_true", help="JSON for scripts instead of tables for people")
    parser.set_defaults(run=run)
    return parser
