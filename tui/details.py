"""What is known about one owner, as lines of toned words. Pure, no Textual."""

from __future__ import annotations

from collections.abc import Sequence

from diag.wire.model import HOLDERS, Owner, Path, Why
from tui import format as fmt
from tui.session import Sample
from tui.view import GLYPHS

Span = tuple[str, str]
"""Text and tone."""
Spans = list[Span]

LABEL = 10


def owner_lines(sample: Sample | None, owner: Owner, width: int = 78, full: bool = False) -> list[Spans]:
    """The detail pane: the talk's registered_name, initial_call, current_function and $ancestors, then
    where the bytes hang. ``full`` adds what the pane has no room for."""
    complete = sample.table.cost.complete if sample is not None else True
    more = "" if complete else "≥"
    title: Spans = [(f"{GLYPHS.get(owner.kind, '·')} {fmt.plain(owner.name)}", "strong")]
    facts = [owner.kind.replace("_", " ")]
    if owner.state:
        facts.append(fmt.plain(owner.state))
    for key in ("strategy", "restarts", "intensity", "period"):
        if key in owner.info:
            value = fmt.plain(str(owner.info[key]))
            facts.append(value if key == "strategy" else f"{key} {value}")
    title.append(("  " + " · ".join(facts), "dim"))
    lines = [title]
    lines += _labelled("initial", fmt.plain(owner.initial_call) or "unknown", width)
    lines += _labelled("current", fmt.plain(owner.current_function) or "-", width)
    ancestors = " ← ".join(fmt.plain(name) for name in owner.ancestors) or "none: at the top"
    lines += _labelled("ancestors", ancestors, width)
    lines.append(
        [
            ("retained".ljust(LABEL), "dim"),
            (f"{more}{fmt.exact(owner.retained_bytes)}", "strong"),
            ("  goes with it", "dim"),
        ]
    )
    if width >= 60 or full:
        lines[-1].append((f" · own {fmt.size(owner.own_bytes)}", "dim"))
        lines[-1].append((f" · shared {fmt.size(owner.shared_bytes)} stays", "dim"))
    if owner.loop_bytes:
        lines.append(
            [
                ("".ljust(LABEL), "dim"),
                (f"{fmt.size(owner.loop_bytes)} of it only once its connection closes or timer ends", "dim"),
            ]
        )
    lines.append(_holders(owner))
    lines += _buffers(owner, limit=100 if full else 3)
    if full:
        lines.append(
            [
                ("objects".ljust(LABEL), "dim"),
                (f"{owner.objects:,}", ""),
                (f" · waste {fmt.exact(owner.waste_bytes)} pinned by views that show less", "dim"),
            ]
        )
        lines.append([("id".ljust(LABEL), "dim"), (fmt.plain(owner.id), "dim")])
        for key, value in owner.info.items():
            if key not in ("strategy", "restarts", "intensity", "period"):
                lines.append([(key.ljust(LABEL), "dim"), (fmt.plain(str(value)), "")])
    return lines


def _labelled(label: str, text: str, width: int) -> list[Spans]:
    """Label and text; what does not fit goes on below itself."""
    room = max(10, width - LABEL)
    pieces: list[str] = []
    while len(text) > room:
        cut = max(text.rfind(" ", 0, room), text.rfind(".", 0, room), text.rfind("/", 0, room)) + 1
        cut = cut if cut > room // 2 else room
        pieces.append(text[:cut])
        text = text[cut:]
    pieces.append(text)
    return [
        [((label if index == 0 else "").ljust(LABEL), "dim"), (piece, "")]
        for index, piece in enumerate(pieces)
    ]


def _holders(owner: Owner) -> Spans:
    """One line: the four places of the talk, the largest first, empty ones left out."""
    known = {name: owner.holders.get(name, 0) for name in (*HOLDERS, *owner.holders)}
    held = sorted(((count, name) for name, count in known.items() if count), reverse=True)
    spans: Spans = [("holders".ljust(LABEL), "dim")]
    if not held:
        return [*spans, ("none", "dim")]
    total = sum(count for count, _ in held)
    for position, (count, name) in enumerate(held):
        share = count / total
        if position:
            spans.append(("  ", ""))
        if position == 0:
            spans.append((fmt.bar(share, 8).rstrip() + " ", "waste"))
        spans.append((name, "strong" if share > 0.5 else ""))
        spans.append((f" {fmt.size(count)}", "" if share > 0.05 else "dim"))
    return spans


def _buffers(owner: Owner, limit: int) -> list[Spans]:
    label = "buffers"
    if not owner.buffers:
        return [[(label.ljust(LABEL), "dim"), ("none", "dim")]]
    lines: list[Spans] = []
    ordered = sorted(owner.buffers, key=lambda each: -each.bytes)
    for each in ordered[:limit]:
        line: Spans = [
            (label.ljust(LABEL), "dim"),
            (f"{each.count:,} × {fmt.plain(each.type)}", ""),
            (f" in {each.holder}  ", "dim"),
            (fmt.exact(each.bytes), "strong"),
        ]
        if each.waste_bytes:
            line.append((f"  {fmt.size(each.waste_bytes)} wasted", "waste"))
        lines.append(line)
        label = ""
    if len(ordered) > limit:
        rest = ordered[limit:]
        lines.append(
            [
                ("".ljust(LABEL), "dim"),
                (f"and {len(rest)} more kinds, {fmt.size(sum(each.bytes for each in rest))}", "dim"),
            ]
        )
    return lines


def why_lines(why: Why) -> list[Spans]:
    """The paths that keep the owner's memory alive, one edge a line."""
    lines: list[Spans] = []
    if not why.paths:
        lines.append([("No path was found.", "dim"), (f" {fmt.plain(why.note)}" if why.note else "", "dim")])
    for number, path in enumerate(why.paths, 1):
        lines.append(_path_title(number, path, why.complete))
        for depth, step in enumerate(path.steps):
            indent = "   " + "  " * min(depth, 12)
            lines.append(
                [
                    (f"{indent}└ ", "dim"),
                    (fmt.plain(step.edge), "strong"),
                    (f"  {fmt.plain(step.type)}", ""),
                    (f"  {fmt.size(step.bytes)}", "dim"),
                ]
            )
        lines.append([])
    if not why.complete:
        lines.append([("Cut off: there may be more. ", "waste"), (fmt.plain(why.note), "dim")])
    elif why.note and why.paths:
        lines.append([(fmt.plain(why.note), "dim")])
    return lines


def _path_title(number: int, path: Path, complete: bool) -> Spans:
    more = "" if complete else "≥"
    return [
        (f"{number}. ", "dim"),
        (f"{more}{fmt.size(path.bytes)}", "strong"),
        (f" in {more}{path.count:,} × ", ""),
        (fmt.plain(path.type), "strong"),
        (f", held by {path.holder}", ""),
    ]


def text_of(lines: Sequence[Spans]) -> str:
    """The lines without their tones."""
    return "\n".join("".join(text for text, _ in line) for line in lines)
