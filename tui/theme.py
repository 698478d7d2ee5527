"""The one colour system: quiet blues and greys, amber for waste, red for growth, green for relief."""

from __future__ import annotations

from textual.theme import Theme

THEME = Theme(
    name="diagtop",
    primary="#7aa2c8",
    secondary="#9aa7b5",
    accent="#8fbfd6",
    foreground="#d5dae0",
    background="#14181d",
    surface="#1c2229",
    panel="#242b34",
    boost="#232b35",
    warning="#d9a650",
    error="#e0746b",
    success="#86b87b",
    dark=True,
    variables={
        "block-cursor-blurred-background": "#2b3745",
        "surface-lighten-2": "#3a4552",
        "text-error": "#e88f87",
        "text-success": "#98c78d",
        "text-warning": "#e0b469",
        "text-accent": "#8fbfd6",
        "text-muted": "#8a95a3",
    },
)
