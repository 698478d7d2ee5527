"""The operator's hand: ``diag gc``, ``trim``, ``stop``, ``restart``, ``start``, ``cancel``, ``journal``."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from diag.client import output, owners, targets
from diag.client.commands.shared import Subparsers, Usage, add_command
from diag.client.connection import ACTION_DEADLINE_S, Connection
from diag.client.text import clean, clock, human_bytes
from diag.wire import model
from diag.wire.errors import NOT_ALLOWED, UNSUPPORTED, RpcError

_NAMES = 8
_SUMMARIES = {
    "stop": "stop a task, a supervisor's child with its subtree, or an application",
    "restart": "stop a supervisor's child or an application, and start it again",
    "start": "start an application, or a supervisor's child, that was stopped",
    "cancel": "cancel a plain task and the tasks it awaits",
}


def add(commands: Subparsers) -> None:
    """Register the commands."""
    add_command(commands, "gc", "force a garbage collection and say what it freed", gc)
    add_command(commands, "trim", "make the C allocator give freed memory back to the system", trim)
    for action, summary in _SUMMARIES.items():
        parser = add_command(commands, action, summary, partial(on_owner, action), owner=True)
        parser.add_argument("-y", "--yes", action="store_true", help="do not ask (for scripts)")
        parser.add_argument(
            "--deadline",
            type=float,
            default=ACTION_DEADLINE_S,
            metavar="SECONDS",
            help="how long to wait for it to be gone (default: %(default)g)",
        )
    parser = add_command(commands, "journal", "show what operators did to the process", journal)
    parser.add_argument("-n", "--limit", type=int, metavar="N", help="the last N entries (default: all kept)")


def gc(args: argparse.Namespace) -> int:
    """Collect, with before and after."""
    with targets.connect(args.target) as connection, output.progress("collecting garbage"):
        done = connection.collect()
    if args.json:
        output.print_json(model.to_json(done))
        return 0
    known = done.predicted_bytes is not None
    predicted = human_bytes(done.predicted_bytes) if known else "not worked out"
    output.print_facts(
        [
            ("predicted", predicted),
            ("freed", f"{human_bytes(done.freed_bytes)} ({done.collected_objects} unreachable objects)"),
            ("resident memory", _before_after(done.rss_before, done.rss_after)),
            ("pause", f"{done.pause_ms:.1f} ms"),
        ]
    )
    return 0


def trim(args: argparse.Namespace) -> int:
    """Trim, with before and after."""
    with targets.connect(args.target) as connection, output.progress("trimming"):
        done = connection.trim()
    if args.json:
        output.print_json(model.to_json(done))
        return 0
    output.print_facts(
        [
            ("resident memory", _before_after(done.rss_before, done.rss_after)),
            ("took", f"{done.pause_ms:.1f} ms"),
        ]
    )
    return 0


def on_owner(action: str, args: argparse.Namespace) -> int:
    """Stop, restart, start or cancel. Exit 1 if it was begun but the owner is not gone by the deadline."""
    if not 0 < args.deadline <= 3600:
        raise Usage("--deadline wants seconds, more than 0 and at most 3600")
    asked = sys.stdin.isatty() and sys.stderr.isatty()
    if not args.yes and not asked:
        raise Usage(f"{action} changes the process; without a terminal to ask on, say --yes")
    with targets.connect(args.target) as connection:
        _check_allowed(connection, action)
        with output.progress("looking at the heap"):
            table = connection.top("retained")
        victim = owners.find(table, args.owner)
        _check_fits(victim, action)
        if not args.yes and not _confirmed(action, table, victim):
            print("Nothing was done.", file=sys.stderr)
            return 1
        call = getattr(connection, action)
        with output.progress(f"{action} {victim.name}"):
            done: model.Stopped = call(victim.id, victim.incarnation or None, args.deadline)
    if args.json:
        output.print_json(model.to_json(done))
    else:
        _print_stopped(victim, done)
    return 0 if action == "start" or victim.name in done.stopped or not victim.incarnation else 1


def _check_allowed(connection: Connection, action: str) -> None:
    hello = connection.hello()
    if not hello.allow_actions:
        raise RpcError(
            NOT_ALLOWED,
            f"{action} is not allowed: {hello.target.name} lets diag look, not act",
            "the program has to say diag.serve(allow_actions=True)",
        )


def _check_fits(victim: model.Owner, action: str) -> None:
    fits = victim.actions
    if action in fits or (action == "start" and fits == ("restart",)):
        return
    what = f"possible now: {', '.join(fits)}" if fits else "nothing can be done to it; see 'diag why'"
    raise RpcError(UNSUPPORTED, f"{victim.name!r} ({victim.kind}) cannot be asked to {action}", what)


def _confirmed(action: str, table: model.Table, victim: model.Owner) -> bool:
    """Name the victim, its subtree and the bytes; a typed name for whatever has a subtree of its own."""
    say = partial(print, file=sys.stderr)
    subtree = owners.below(table, victim)
    say(f"{action} {victim.kind} {clean(victim.name)} of {clean(table.target.name)} (pid {table.target.pid})")
    if victim.ancestors:
        say(f"  under      {clean(' < '.join(victim.ancestors))}")
    if victim.info.get("main"):
        say("  caution    the program waits for this task, and ends with it")
    if victim.info.get("awaited_by"):
        say(
            f"  caution    {clean(str(victim.info['awaited_by']))} will see its cancellation, and may end too"
        )
    if subtree:
        names = ", ".join(clean(row.name) for row in subtree[:_NAMES])
        more = f" and {len(subtree) - _NAMES} more" if len(subtree) > _NAMES else ""
        say(f"  and below  {len(subtree)}: {names}{more}")
    if action != "start":
        at_least = "" if table.cost.complete else "at least "
        say(f"  predicted  {at_least}{human_bytes(victim.retained_bytes)} freed")
    sys.stderr.flush()
    try:
        if victim.kind in ("application", "supervisor"):
            sys.stderr.write("Type its name to go on: ")
            sys.stderr.flush()
            return input() == victim.name
        sys.stderr.write("Go on? [y/N] ")
        sys.stderr.flush()
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _print_stopped(victim: model.Owner, done: model.Stopped) -> None:
    facts = [(done.action, victim.name)]
    if done.stopped:
        names = ", ".join(done.stopped[:_NAMES])
        more = f" and {len(done.stopped) - _NAMES} more" if len(done.stopped) > _NAMES else ""
        facts.append(("stopped", f"{len(done.stopped)}: {names}{more}"))
    if done.action != "start":
        net = " (less what its new life has taken up)" if done.action == "restart" else ""
        facts += [
            ("predicted", human_bytes(done.predicted_bytes)),
            ("freed", human_bytes(done.freed_bytes) + net),
        ]
    facts += [
        ("resident memory", _before_after(done.rss_before, done.rss_after)),
    ]
    if done.note:
        facts.append(("note", done.note))
    output.print_facts(facts)


def journal(args: argparse.Namespace) -> int:
    """The agent's bounded record of actions."""
    if args.limit is not None and args.limit < 0:
        raise Usage("-n wants a number of entries, 0 or more")
    with targets.connect(args.target) as connection:
        entries = connection.journal(args.limit)
    if args.json:
        output.print_json({"entries": [model.to_json(entry) for entry in entries]})
        return 0
    if not entries:
        print("Nothing has been done to this process through diag.")
        return 0
    output.print_table(
        [
            "TIME",
            "ACTION",
            "VICTIM",
            "PREDICTED",
            "FREED",
            "RSS BEFORE",
            "RSS AFTER",
            "UID",
            "CALLER",
            "OUTCOME",
        ],
        [
            [
                clock(each.time),
                each.action,
                each.victim,
                human_bytes(each.predicted_bytes),
                human_bytes(each.freed_bytes),
                human_bytes(each.rss_before),
                human_bytes(each.rss_after),
                str(each.uid),
                str(each.caller_pid),
                each.outcome,
            ]
            for each in entries
        ],
        right=range(3, 9),
    )
    return 0


def _before_after(before: int, after: int) -> str:
    return f"{human_bytes(before)} -> {human_bytes(after)} ({human_bytes(after - before, sign=True)})"
