"""How commands speak: JSON for scripts, tables for people, progress for the impatient."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diag.client.text import clean

_QUIET_S = 1.0
_TICK_S = 0.25


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """A table; ``right`` are the columns with figures. On a terminal with rich installed it is drawn by
    rich; elsewhere it is plain aligned text, never cut, good for grep."""
    rows = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and _print_rich(headings, rows, right):
        return
    widths = [max(len(line[at]) for line in [headings, *rows]) for at in range(len(headings))]
    for line in [headings, *rows]:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _print_rich(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> bool:
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for at, heading in enumerate(headings):
        if at in right:
            table.add_column(heading, justify="right", no_wrap=True)
        else:
            table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
    return True


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Label and value, one a line, aligned."""
    width = max(len(label) for label, _ in facts)
    for label, value in facts:
        print(f"{label.ljust(width)}  {clean(value)}".rstrip())


def complain(message: str, hint: str = "") -> None:
    """One error on standard error, and below it what to try next."""
    print(f"diag: {clean(message)}", file=sys.stderr)
    if hint:
        print(f"      {clean(hint)}", file=sys.stderr)


@contextmanager
def progress(doing: str, total_s: float | None = None) -> Iterator[None]:
    """Says on a terminal what takes so long, from the first second on; nothing elsewhere.

    total_s: how long it will take, where that is known."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(doing, total_s, over), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell(doing: str, total_s: float | None, over: threading.Event) -> None:
    start = time.monotonic()
    shown = False
    over.wait(0.0 if total_s is not None else _QUIET_S)
    while not over.is_set():
        passed = time.monotonic() - start
        said = f"{passed:.0f} s"
        if total_s is not None:
            said = f"{min(passed, total_s):.0f} of {total_s:g} s {_bar(passed / total_s)}"
        sys.stderr.write(f"\r\033[K{clean(doing)} {said}")
        sys.stderr.flush()
        shown = True
        over.wait(_TICK_S)
    if shown:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()


def _bar(part: float, width: int = 20) -> str:
    full = round(min(1.0, part) * width)
    return "[" + "#" * full + "." * (width - full) + "]"
