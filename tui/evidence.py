"""What an action showed, in a sentence, and what to try next. Pure, no Textual.

The words follow the figures: "little came back" is said only where little did.
"""

from __future__ import annotations

from dataclasses import dataclass

from diag.wire.model import Collected, Stopped, Trimmed
from tui import format as fmt
from tui.events import Done

LITTLE = 0.1
"""A collection that frees less than this share of what was held brought little back."""
NEARLY_ALL = 0.9

READ_ONLY = (
    "Read-only: this target lets nobody act on it.",
    "bad",
    "To allow it: diag.serve(allow_actions=True), or [diag] allow_actions = true in the collector",
)


@dataclass(frozen=True)
class Finding:
    """A sentence for the status line. ``tone`` is ``good``, ``bad``, ``note`` or ``busy``."""

    text: str
    tone: str = "note"
    next: str = ""


def finding(done: Done) -> Finding:
    """The sentence for what ended."""
    if done.error:
        subject = f"{done.action} {done.victim}".strip()
        return Finding(f"{subject} failed: {done.error}", "bad", done.hint)
    if done.collected is not None:
        return collected(done.collected, done.held_bytes)
    if done.trimmed is not None:
        return trimmed(done.trimmed)
    if done.stopped is not None:
        return stopped(done.stopped, done.victim)
    return Finding("")


def collected(result: Collected, held_bytes: int | None) -> Finding:
    freed = f"GC freed {fmt.size(result.freed_bytes)} ({fmt.count(result.collected_objects, 'object')})"
    if not held_bytes:
        return Finding(f"{freed} in {fmt.milliseconds(result.pause_ms)}.")
    held = fmt.size(held_bytes)
    if result.freed_bytes >= LITTLE * held_bytes:
        return Finding(f"{freed} beside {held} held: garbage that waited for the collector.", "good")
    if held_bytes < LITTLE * result.rss_after:
        return Finding(f"{freed}; tasks hold {held}, little of the {fmt.size(result.rss_after)} RSS.")
    return Finding(
        f"{freed}: little came back; {held} is still held.", "bad", "⏎ on the first row: who and why"
    )


def trimmed(result: Trimmed) -> Finding:
    if result.freed_bytes <= 0:
        return Finding("Trim: the allocator had nothing to give back.", "note")
    return Finding(f"Trim gave {fmt.size(result.freed_bytes)} back: RSS {_rss(result)}.", "good")


def stopped(result: Stopped, victim: str) -> Finding:
    verb = {"stop": "Stopped", "restart": "Restarted", "start": "Started", "cancel": "Cancelled"}.get(
        result.action, result.action
    )
    names = list(result.stopped)
    what = f"{verb} {fmt.plain(victim)}"
    if len(names) > 1:
        what += f" +{len(names) - 1}"
    if result.action == "start":
        return Finding(f"{what}.", "good", result.note)
    freed_most = result.predicted_bytes == 0 or result.freed_bytes >= NEARLY_ALL * result.predicted_bytes
    then = f"RSS {_rss(result)}."
    if result.note:
        then += f" {fmt.plain(result.note)}"
    elif result.rss_before - result.rss_after < NEARLY_ALL * result.freed_bytes:
        then += " t asks the C allocator for the rest."
    return Finding(
        f"{what}: {fmt.size(result.predicted_bytes)} predicted, {fmt.size(result.freed_bytes)} freed.",
        "good" if freed_most else "bad",
        then,
    )


def _rss(result: Collected | Trimmed | Stopped) -> str:
    return f"{fmt.size(result.rss_before)} → {fmt.size(result.rss_after)}"


def doing(action: str, victim: str) -> Finding:
    """While it lasts."""
    what = {
        "collect": "Collecting garbage",
        "collect and rank": "Collecting garbage, and ranking what it releases",
        "trim": "Asking the allocator to give back what is free",
        "why": "Looking for what keeps it alive:",
        "stop": "Stopping",
        "restart": "Restarting",
        "start": "Starting",
        "cancel": "Cancelling",
    }.get(action, action)
    return Finding(f"{what} {fmt.plain(victim)}".rstrip() + " …", "busy")
