"""What is known about one owner, as lines of toned words. Pure, no Textual."""

from __future__ import annotations

import re
from collections.abc import Sequence

from diag.wire.model import HOLDERS, Owner, Path, Why
from tui import format as fmt
from tui.events import Sample
from tui.view import GLYPHS

Span = tuple[str, str]
"""Text and tone."""
Spans = list[Span]

LABEL = 10
NOTABLE = 0.01
"""A share of the retained bytes below this is left to the full page."""

NEXT_TO_NOTHING = 0.001


def owner_lines(sample: Sample | None, owner: Owner, width: int = 78) -> list[Spans]:
    """The detail pane: the talk's registered_name, initial_call, current_function and $ancestors, then
    where the bytes hang, exactly. Eight lines or so."""
    more = "≥" if sample is not None and not sample.table.cost.complete else ""
    facts = [owner.kind.replace("_", " "), fmt.plain(owner.state)]
    if "strategy" in owner.info:
        facts.append(fmt.plain(str(owner.info["strategy"])))
    if owner.info.get("restarts"):
        facts.append(f"restarts {fmt.plain(str(owner.info['restarts']))}")
    ancestors = " ← ".join(fmt.plain(name) for name in owner.ancestors) or "none: at the top"
    lines: list[Spans] = [
        [
            (f"{GLYPHS.get(owner.kind, '·')} {fmt.plain(owner.name)}", "strong"),
            ("  " + " · ".join(fact for fact in facts if fact), "dim"),
        ],
        *_labelled("initial", fmt.plain(owner.initial_call) or "unknown", width),
        *_labelled("current", fmt.plain(owner.current_function) or "-", width),
        *_labelled("ancestors", ancestors, width),
        [
            ("retained".ljust(LABEL), "dim"),
            (f"{more}{fmt.exact(owner.retained_bytes)}", "strong"),
            ("  goes with it", "dim"),
        ],
    ]
    if width >= 60:
        own, shared = fmt.size(owner.own_bytes), fmt.size(owner.shared_bytes)
        lines[-1].append((f" · own {own} · shared {shared} stays", "dim"))
    if owner.loop_bytes > NOTABLE * owner.retained_bytes:
        lines.append([("".ljust(LABEL), "dim"), (later(owner), "waste")])
    return wrapped([*lines, _holders(owner, width), *_buffers(owner)], width)


def more_lines(owner: Owner, width: int = 78) -> list[Spans]:
    """What the pane leaves out."""
    lines: list[Spans] = [
        [
            ("objects".ljust(LABEL), "dim"),
            (f"{owner.objects:,}", ""),
            (f" · waste {fmt.exact(owner.waste_bytes)} pinned by views that show less", "dim"),
        ]
    ]
    if owner.loop_bytes:
        lines.append([("loop".ljust(LABEL), "dim"), (later(owner), "")])
    for key, value in owner.info.items():
        if key not in ("strategy", "restarts", "state", "initial_call"):
            lines += _labelled(fmt.plain(key), fmt.plain(str(value)), width)
    return wrapped([*lines, *_labelled("id", fmt.plain(owner.id), width)], width)


def later(owner: Owner) -> str:
    """The part of the bytes that a plain stop does not free at once."""
    return f"{fmt.size(owner.loop_bytes)} of it only once its connection closes or timer ends"


def wrapped(lines: Sequence[Spans], width: int, indent: int = LABEL) -> list[Spans]:
    """The lines broken at spaces to ``width``; what does not fit goes on below the text, not below its
    label. A word longer than that is left whole."""
    done: list[Spans] = []
    for line in lines:
        if sum(len(text) for text, _ in line) <= width:
            done.append(line)
            continue
        current: Spans = []
        used = 0
        for text, tone in line:
            for word in re.findall(r" +|[^ ]+", text):
                if used + len(word.rstrip()) > width and used > indent:
                    done.append(current)
                    current, used = [(" " * indent, "")], indent
                    word = word.lstrip()
                if word:
                    current.append((word, tone))
                    used += len(word)
        done.append(current)
    return done


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
        [((label if index == 0 else "").ljust(LABEL - 1) + " ", "dim"), (piece, "")]
        for index, piece in enumerate(pieces)
    ]


def _holders(owner: Owner, width: int) -> Spans:
    """One line: the four places of the talk, the largest first; empty ones are left out, and those that
    hold next to nothing only named."""
    known = {name: owner.holders.get(name, 0) for name in (*HOLDERS, *owner.holders)}
    held = sorted(((count, name) for name, count in known.items() if count), reverse=True)
    spans: Spans = [("holders".ljust(LABEL), "dim")]
    if not held:
        return [*spans, ("none", "dim")]
    total = sum(count for count, _ in held)
    if width >= 60:
        spans.append((fmt.bar(held[0][0] / total, 6).rstrip() + " ", "waste"))
    for count, name in held:
        if count >= NEXT_TO_NOTHING * total:
            main = count > 0.5 * total
            spans.append((name, "strong" if main else ""))
            spans.append((f" {fmt.size(count)}  ", "" if main else "dim"))
    little = [name for count, name in held if count < NEXT_TO_NOTHING * total]
    if little:
        spans.append((f"{', '.join(little)} <{NEXT_TO_NOTHING:.1%}", "dim"))
    return spans


def _buffers(owner: Owner, limit: int = 3) -> list[Spans]:
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
                (
                    f"and {fmt.count(len(rest), 'more kind')}, {fmt.size(sum(each.bytes for each in rest))}",
                    "dim",
                ),
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
            line: Spans = [("   " + "  " * min(depth, 12) + "└ ", "dim"), (fmt.plain(step.edge), "strong")]
            if step.type != step.edge:
                line.append((f"  {fmt.plain(step.type)}", ""))
            lines.append([*line, (f"  {fmt.size(step.bytes)}", "dim")])
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
