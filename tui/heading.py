"""The lines that are always visible: what is watched, where it stands, what watching costs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from tui import format as fmt
from tui.details import Spans
from tui.events import Link, Sample

STALLED_AFTER_S = 5.0
"""A sample that takes longer than this is said to be waiting."""


def heading(
    sample: Sample | None, link: Link, *, frozen: bool, waiting_s: float, width: int, title: str = "diagtop"
) -> list[Spans]:
    """Two lines of exactly ``width`` cells: the target's state, then what it costs, or what is wrong."""
    return [
        _spread(_state(sample, link, title, width), _pill(sample, link, frozen, waiting_s), width),
        _spread(*_second(sample, link, waiting_s, width), width),
    ]


def _state(sample: Sample | None, link: Link, title: str, width: int) -> Spans:
    hello = sample.hello if sample is not None else link.hello
    if hello is None:
        return [(" " + title, "strong")]
    left: Spans = [(f" {fmt.plain(hello.target.name)}", "strong"), (f" {hello.target.pid}", "dim")]
    if sample is None:
        return left
    memory = sample.memory
    rise = fmt.growth(sample.rss_growth, quiet_below=50_000)
    tone = "rise" if (sample.rss_growth or 0) > 0 else "fall"
    after: Spans = [(f" {rise}/s", tone)] if rise not in ("", "·") else []
    if memory.limit_bytes:
        share = memory.rss_bytes / memory.limit_bytes
        after.append((f" {share:.0%} of {fmt.size(memory.limit_bytes)}", "bad" if share > 0.8 else "dim"))
    before: Spans = [*left, ("  RSS ", "dim"), (f"{fmt.size(memory.rss_bytes)} ", "strong")]
    # 19 cells stay free for the mode at the right, and 22 for what comes and goes beside the line, so
    # that the line does not change its length from sample to sample.
    room = max(6, min(40, width - _length(before) - 19 - 22))
    return [*before, (fmt.sparkline(sample.rss_bytes, room), "busy"), *after]


def _pill(sample: Sample | None, link: Link, frozen: bool, waiting_s: float) -> Spans:
    hello = sample.hello if sample is not None else link.hello
    mode: Spans = []
    if hello is not None:
        mode = [("RW ", "strong") if hello.allow_actions else ("RO ", "dim")]
    if link.state in ("lost", "refused"):
        return [*mode, (f"✗ {link.state.upper()} ", "bad")]
    if waiting_s >= STALLED_AFTER_S:
        return [*mode, (f"… WAITING {fmt.duration(waiting_s)} ", "waste")]
    if link.state == "connecting":
        return [*mode, ("… CONNECTING ", "busy")]
    return [*mode, ("‖ FROZEN ", "waste") if frozen else ("● LIVE ", "good")]


def _second(sample: Sample | None, link: Link, waiting_s: float, width: int) -> tuple[Spans, Spans]:
    if link.state in ("lost", "refused"):
        retry = f"; again in {fmt.duration(link.retry_s)}, r: now" if link.retry_s else ""
        left: Spans = [(f" {link.text}", "bad"), (retry, "dim")]
        if link.hint:
            left.append((f" ({link.hint})", "dim"))
        return left, [(f"as of {fmt.clock(sample.at)} ", "dim")] if sample is not None else []
    if waiting_s >= STALLED_AFTER_S:
        return [(" No answer yet: the target is busy or stalled. q leaves, r asks anew.", "waste")], []
    if sample is None:
        return [(" Taking the first picture …", "dim")], []
    cost, memory = sample.table.cost, sample.memory
    left = [(f" {fmt.count(memory.tasks, 'task')}", "")]
    left.append((f"  pause {fmt.milliseconds(cost.longest_pause_ms)}", ""))
    if width >= 100:
        left.append((f" of {fmt.milliseconds(cost.total_ms)}", "dim"))
    left.append((f" {cost.engine}", "dim" if cost.engine == "native" else "waste"))
    if not cost.complete:
        left.append((f"  ≥ cut off: {fmt.plain(cost.note) or 'budget reached'}", "waste"))
    right: Spans = []
    if not cost.complete and width < 100:
        return left, right
    if memory.python_bytes is not None:
        right += [("python ", "dim"), (f"{fmt.size(memory.python_bytes)}  ", "")]
    if memory.malloc_bytes is not None:
        right += [("malloc ", "dim"), (f"{fmt.size(memory.malloc_bytes)}  ", "")]
    if memory.malloc_free_bytes is not None:
        right += [("free ", "dim"), (f"{fmt.size(memory.malloc_free_bytes)} ", "")]
    while right and _length(left) + 2 + _length(right) > width:
        right = right[2:]
    return left, right


def tabs(
    views: Sequence[tuple[str, str, str]], current: str, right: Spans, width: int
) -> list[tuple[Spans, bool]]:
    """The line of views, ``(key, name, title)``; each with whether it is the current one."""
    parts: list[tuple[Spans, bool]] = [([(" ", "")], False)]
    used = 1
    for key, name, title in views:
        text = f" {key} {title} "
        parts.append(([(text, "strong" if name == current else "dim")], name == current))
        used += cell_len(text)
    room = width - used - 1
    while right and _length(right) > room:
        right = right[:-1]
    parts.append(([(" " * max(0, room - _length(right)), ""), *right, (" ", "")], False))
    return parts


def _spread(left: Spans, right: Spans, width: int) -> Spans:
    """Left and right ends of one line; the left one gives way."""
    while right and _length(right) > width * 2 // 3:
        right = right[:-1]
    room = width - _length(right)
    kept: Spans = []
    for text, tone in left:
        if room <= 0:
            break
        if cell_len(text) > room:
            text = text[: max(0, room - 2)] + "… "[: max(0, room)]
        kept.append((text, tone))
        room -= cell_len(text)
    return [*kept, (" " * max(0, room), ""), *right]


def _length(spans: Spans) -> int:
    return sum(cell_len(text) for text, _ in spans)
