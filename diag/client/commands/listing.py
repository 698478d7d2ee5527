"""``diag ls``: which processes can be looked at."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from diag.client import output, text
from diag.client.attach import discover
from diag.client.commands.shared import Subparsers, add_command


def add(commands: Subparsers) -> None:
    """Register the command."""
    add_command(commands, "ls", "list processes that can be looked at", ls, target=False)


def ls(args: argparse.Namespace) -> int:
    """All prepared processes of this user; of every user, for root."""
    found = discover.prepared()
    if args.json:
        output.print_json({"processes": [asdict(each) for each in found]})
        return 0
    if not found:
        print("No prepared process found. A process is prepared when it has called diag.serve().")
        return 0
    output.print_table(
        ["PID", "NAME", "PYTHON", "UID", "AGE", "RSS", "ENGINE", "ACTIONS", "NOTE"],
        [
            [
                str(each.pid),
                each.name or "?",
                each.python or "?",
                str(each.uid),
                text.human_age(each.age_s),
                text.human_bytes(each.rss_bytes),
                each.engine or "?",
                "?" if each.problem else "allowed" if each.allow_actions else "read-only",
                each.problem,
            ]
            for each in found
        ],
        right=(0, 3, 4, 5),
    )
    return 0
