"""From a sample to the rows on the screen: filter, order, tree. Pure, no Textual."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from diag.wire.model import Owner
from tui import format as fmt
from tui.events import Released, Sample

SUBSYSTEMS = ("application", "supervisor")

SHORT = {
    "one_for_one": "1:1",
    "one_for_all": "1:all",
    "rest_for_one": "1:rest",
    "simple_one_for_one": "simple",
}
"""Strategies where there is little room."""

GLYPHS = {
    "process": "#",
    "application": "◆",
    "supervisor": "▲",
    "task": "·",
    "done_task": "✓",
    "thread": "≡",
    "module": "□",
    "loop": "○",
    "context": "○",
    "garbage": "×",
    "unseen": "?",
}
"""One cell in front of each name: what it is, without a word or a colour."""


@dataclass(frozen=True)
class Cell:
    text: str
    tone: str = ""
    """What it means (``dim strong rise fall waste bad good``), never a colour."""


@dataclass(frozen=True)
class Row:
    """One line of a grid; ``key`` stays the same for as long as its owner lives."""

    key: str
    cells: Mapping[str, Cell]
    """By column."""


def matches(owner: Owner, pattern: str) -> bool:
    """Whether any of the owner's words contains ``pattern`` (case does not matter); ``!text``: none does."""
    wanted = pattern.strip().lower()
    inverse = wanted.startswith("!")
    wanted = wanted.lstrip("!").strip()
    if not wanted:
        return True
    words = (
        owner.name,
        owner.kind,
        owner.state,
        owner.initial_call,
        owner.current_function,
        *owner.ancestors,
    )
    return inverse != any(wanted in word.lower() for word in words)


def ranked(sample: Sample, pattern: str = "") -> list[Owner]:
    """The owners in the order of the table: the target's own ranking."""
    return [owner for owner in sample.table.owners if matches(owner, pattern)]


def rank_rows(sample: Sample, pattern: str = "") -> list[Row]:
    """The Tasks screen."""
    return [Row(owner.id, _cells(sample, owner)) for owner in ranked(sample, pattern)]


def tree_rows(sample: Sample, pattern: str = "", folded: Set[str] = frozenset()) -> list[Row]:
    """The Supervisors screen: a branch above its twigs, siblings by magnitude.

    Siblings change places only when one doubles past another, so that the tree stays calm. With a
    filter the branches that lead to a match stay.
    """
    owners = {owner.id: owner for owner in sample.table.owners}
    if pattern.strip():
        kept: dict[str, Owner] = {}
        for owner in owners.values():
            if matches(owner, pattern):
                branch: Owner | None = owner
                while branch is not None and branch.id not in kept:
                    kept[branch.id] = branch
                    branch = owners.get(branch.parent or "")
        owners = kept
    below: dict[str | None, list[Owner]] = {}
    for owner in owners.values():
        below.setdefault(owner.parent if owner.parent in owners else None, []).append(owner)
    for siblings in below.values():
        siblings.sort(key=lambda owner: _calm_key(owner, sample.order))
    rows: list[Row] = []
    _branches(sample, below, None, "", folded, rows)
    return rows


def _branches(
    sample: Sample,
    below: Mapping[str | None, Sequence[Owner]],
    parent: str | None,
    indent: str,
    folded: Set[str],
    rows: list[Row],
) -> None:
    siblings = below.get(parent, ())
    for position, owner in enumerate(siblings):
        last = position == len(siblings) - 1
        elbow = "" if parent is None else "└" if last else "├"
        hidden = owner.id in folded and owner.id in below
        mark = f"{indent}{elbow}"
        rows.append(Row(owner.id, _cells(sample, owner, mark, len(below.get(owner.id, ())) if hidden else 0)))
        if not hidden:
            deeper = "" if parent is None else indent + (" " if last else "│")
            _branches(sample, below, owner.id, deeper, folded, rows)


def _calm_key(owner: Owner, order: str) -> tuple[bool, int, str]:
    figure = {"buffers": owner.buffer_bytes, "waste": owner.waste_bytes}.get(order, owner.retained_bytes)
    magnitude = int(math.log2(figure)) if figure >= 1024 else 0
    return (owner.kind == "process", -magnitude, owner.name)


def _cells(sample: Sample, owner: Owner, branch: str = "", hidden: int = 0) -> dict[str, Cell]:
    complete = sample.table.cost.complete
    growth = owner.growth_bytes_per_s
    subsystem = owner.kind in SUBSYSTEMS
    name = f"{branch}{GLYPHS.get(owner.kind, '·')} {fmt.plain(owner.name)}"
    state = fmt.plain(owner.state)
    strategy = str(owner.info.get("strategy", "")) if subsystem else ""
    restarts = owner.info.get("restarts")
    return {
        "name": Cell(name + (f" (+{hidden})" if hidden else ""), "strong" if subsystem else ""),
        "state": Cell(state, "bad" if state in ("terminated", "restarting", "delayed") else "dim"),
        "strategy": Cell(strategy, "dim"),
        # One column for both where there is no room: what is wrong matters more than the strategy.
        "kind": Cell(SHORT.get(strategy, state) if state in ("", "running") else state, "dim"),
        "restarts": Cell("" if restarts is None else f"{restarts}", "rise" if restarts else "dim"),
        "buffers": figure(owner.buffer_bytes, complete),
        "retained": figure(owner.retained_bytes, complete),
        "waste": figure(owner.waste_bytes, complete, "waste"),
        "growth": Cell(fmt.growth(growth), _direction(growth)),
    }


def _direction(growth: float | None) -> str:
    if growth is None or abs(growth) < fmt.QUIET_PER_S:
        return "dim"
    return "rise" if growth > 0 else "fall"


def figure(count: int, complete: bool = True, tone: str = "") -> Cell:
    """A size; small ones step back so that the large ones stand out."""
    return Cell(fmt.at_least(count, complete), tone if count >= 1 << 20 else "dim")


def released_rows(released: Iterable[Released], complete: bool) -> list[Row]:
    """The answer of "collect, then rank by what was released"."""
    rows = []
    for each in released:
        rows.append(
            Row(
                each.owner.id,
                {
                    "name": Cell(
                        f"{GLYPHS.get(each.owner.kind, '·')} {fmt.plain(each.owner.name)}"
                        + (" (ended)" if each.ended else "")
                    ),
                    "released": Cell(fmt.size(each.released_bytes), "good"),
                    "before": figure(each.before_bytes, complete),
                    "after": figure(each.after_bytes, complete),
                },
            )
        )
    return rows


def ancestors_of(sample: Sample, owner: Owner) -> list[Owner]:
    """The owners above it that are in the sample, nearest first, the process left out."""
    found: list[Owner] = []
    above = sample.owner(owner.parent)
    while above is not None and above.kind != "process" and above not in found:
        found.append(above)
        above = sample.owner(above.parent)
    return found


def subtree_of(sample: Sample, owner: Owner) -> list[Owner]:
    """Everything below the owner that is in the sample, largest first, without the owner."""
    below: dict[str | None, list[Owner]] = {}
    for each in sample.table.owners:
        below.setdefault(each.parent, []).append(each)
    found: list[Owner] = []
    waiting = [owner.id]
    seen = {owner.id}
    while waiting:
        for each in below.get(waiting.pop(), ()):
            if each.id not in seen:
                seen.add(each.id)
                found.append(each)
                waiting.append(each.id)
    return sorted(found, key=lambda each: -each.retained_bytes)
