"""``diag top``, ``diag why`` and ``diag memory``: who holds the memory, why, and how much there is."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from diag.client import output, owners, targets
from diag.client.commands.shared import Subparsers, Usage, add_command
from diag.client.connection import Connection
from diag.client.history import with_growth
from diag.client.text import human_bytes
from diag.wire import model, ranking

_ROWS = 20
_WINDOW_S = 10.0


def add(commands: Subparsers) -> None:
    """Register the commands."""
    parser = add_command(commands, "top", "rank owners (tasks, supervisors ...) by the memory they hold", top)
    parser.add_argument(
        "-n", "--limit", type=int, metavar="N", help=f"rows to show (default: {_ROWS}; with --json all)"
    )
    parser.add_argument("--by", choices=list(ranking.BY), default="buffers", help="default: %(default)s")
    parser.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help=f"take two pictures this far apart and show growth (default with --by growth: {_WINDOW_S:g})",
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=model.OWNER_KINDS,
        default=[],
        help="only owners of this kind; repeatable",
    )
    parser.add_argument(
        "--ids", action="store_true", help="show ids too; names that are not unique need them"
    )
    parser = add_command(commands, "why", "show the paths that keep an owner's memory alive", why, owner=True)
    parser.add_argument("-n", "--limit", type=int, default=3, metavar="N", help="paths to show (default: 3)")
    add_command(commands, "memory", "show where the process's memory stands as a whole", memory)


def top(args: argparse.Namespace) -> int:
    """The ranked table; over a window, with growth."""
    limit = args.limit if args.limit is not None else None if args.json else _ROWS
    if limit is not None and limit < 0:
        raise Usage("-n wants a number of rows, 0 or more")
    window_s = args.window if args.window is not None else _WINDOW_S if args.by == "growth" else None
    if window_s is not None and not 0 < window_s <= 3600:
        raise Usage("--window wants seconds, more than 0 and at most 3600")
    with targets.connect(args.target) as connection:
        if window_s is None:
            with output.progress("looking at the heap"):
                table = connection.top(args.by, limit, kinds=args.kind)
        else:
            table = _over_window(connection, args.by, limit, args.kind, window_s)
    if args.json:
        output.print_json(model.to_json(table))
        return 0
    _print_top(table, growth=window_s is not None, ids=args.ids)
    return 0


def _over_window(
    connection: Connection, by: str, limit: int | None, kinds: list[str], window_s: float
) -> model.Table:
    """Two pictures of everything, compared and ranked here: the agent keeps none."""
    with output.progress("taking the first picture"):
        before = connection.top("retained")
    started = time.monotonic()
    with output.progress("letting it grow", total_s=window_s):
        time.sleep(window_s)
    with output.progress("taking the second picture"):
        after = connection.top("retained")
    table = ranking.ranked(with_growth(before, after, time.monotonic() - started), by)
    rows = tuple(row for row in table.owners if not kinds or row.kind in kinds)
    return replace(table, owners=rows[:limit], total_owners=len(rows))


def _print_top(table: model.Table, growth: bool, ids: bool) -> None:
    at_least = "" if table.cost.complete else "≥"
    headings = ["NAME", "KIND", "STATE", "BUFFERS", "RETAINED", "WASTE"]
    headings += (["GROWTH/s"] if growth else []) + ["CURRENT FUNCTION", "ANCESTORS"] + (["ID"] if ids else [])
    rows = []
    for row in table.owners:
        figures = [row.buffer_bytes, row.retained_bytes, row.waste_bytes]
        cells = [row.name, row.kind, row.state, *(at_least + human_bytes(each) for each in figures)]
        if growth:
            cells.append(human_bytes(row.growth_bytes_per_s, sign=True))
        cells += [row.current_function or row.initial_call, " < ".join(row.ancestors)]
        rows.append([*cells, row.id] if ids else cells)
    output.print_table(headings, rows, right=range(3, 7 if growth else 6))
    cost, target = table.cost, table.target
    print(
        f"{len(table.owners)} of {table.total_owners} owners of {target.name} (pid {target.pid}, Python"
        f" {target.python}); {cost.objects} objects in {cost.total_ms:.1f} ms, longest pause"
        f" {cost.longest_pause_ms:.1f} ms ({cost.engine})"
    )
    if cost.note:
        print(cost.note)


def why(args: argparse.Namespace) -> int:
    """The paths from an owner down to what it holds."""
    if args.limit < 1:
        raise Usage("-n wants a number of paths, 1 or more")
    with targets.connect(args.target) as connection, output.progress("following references"):
        owner = owners.find(connection.top(), args.owner)
        answer = connection.why(owner.id, args.limit)
    if args.json:
        output.print_json(model.to_json(answer))
        return 0
    print_owner(answer.owner)
    for path in answer.paths:
        print(f"\n{path.count} x {path.type}, {human_bytes(path.bytes)}, held in {path.holder}:")
        for depth, step in enumerate(path.steps):
            size = f"  {human_bytes(step.bytes)}" if step.bytes else ""
            output.print_facts([(f"  {'  ' * depth}{step.edge}", f"{step.type}{size}")])
    if not answer.paths:
        print("\nNo paths found.")
    if answer.note:
        print(f"\n{answer.note}")
    if not answer.complete:
        print("Not everything was looked at: these are examples, and the figures are lower bounds.")
    return 0


def print_owner(owner: model.Owner) -> None:
    """One owner in full."""
    facts = [
        ("registered name", owner.name),
        ("kind", f"{owner.kind} ({owner.state})" if owner.state else owner.kind),
        ("initial call", owner.initial_call or "-"),
        ("current function", owner.current_function or "-"),
        ("ancestors", " < ".join(owner.ancestors) or "-"),
        ("id", owner.id),
        ("retained", f"{human_bytes(owner.retained_bytes)} in {owner.objects} objects"),
        ("of that, buffers", human_bytes(owner.buffer_bytes)),
        ("of that, wasted", human_bytes(owner.waste_bytes)),
        ("needs closing too", human_bytes(owner.loop_bytes)),
        ("shared with others", human_bytes(owner.shared_bytes)),
        ("holders", ", ".join(f"{name} {human_bytes(held)}" for name, held in owner.holders.items())),
    ]
    facts += [
        ("buffers", f"{each.count} x {each.type} in {each.holder}, {human_bytes(each.bytes)}")
        for each in owner.buffers
    ]
    facts += [(str(key), str(value)) for key, value in owner.info.items()]
    output.print_facts(facts)


def memory(args: argparse.Namespace) -> int:
    """The whole-process figures."""
    with targets.connect(args.target) as connection, output.progress("asking the allocators"):
        answer = connection.memory()
    if args.json:
        output.print_json(model.to_json(answer))
        return 0
    unknown = "the platform does not say"

    def shown(count: int | None) -> str:
        if count is None:
            return unknown
        return f"{human_bytes(count)} ({count / answer.rss_bytes:.0%} of resident)"

    limit = "none" if answer.limit_bytes is None else shown(answer.limit_bytes)
    output.print_facts(
        [
            ("resident memory", human_bytes(answer.rss_bytes)),
            ("cgroup limit", limit),
            ("small Python objects", shown(answer.python_bytes)),
            ("malloc, in use", shown(answer.malloc_bytes)),
            ("malloc, freed but kept", shown(answer.malloc_free_bytes)),
            ("tasks", str(answer.tasks)),
            ("threads", str(answer.threads)),
        ]
    )
    return 0
