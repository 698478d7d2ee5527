"""From what a word means to how it looks, through the theme's variables; the one place for both."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from tui.details import Spans

STYLES = {
    "": "",
    "dim": "$text-muted",
    "strong": "bold $foreground",
    "rise": "$text-error",
    "fall": "$text-success",
    "waste": "$text-warning",
    "bad": "$text-error",
    "good": "$text-success",
    "note": "$foreground",
    "busy": "$text-accent",
    "key": "bold $accent",
}


def content(lines: Sequence[Spans]) -> Content:
    """Toned lines as Textual content. Text is taken literally: nothing in a name is markup."""
    return Content("\n").join(
        Content.assemble(*((text, STYLES[tone]) for text, tone in line)) for line in lines
    )
