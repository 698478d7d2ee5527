"""Numbers as people read them. Pure functions, no Textual.

Sizes are binary (1 MiB = 1,048,576 bytes), as ``diag`` shows them, with three significant digits, so
that a column of them stays still while its last digits move; the exact count is one pane away
(:func:`exact`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
BLOCKS = "▁▂▃▄▅▆▇█"
QUIET_PER_S = 1024.0
"""Slower growth than this, in bytes per second, is drawn as none."""
EIGHTHS = " ▏▎▍▌▋▊▉"


def size(count: float | None) -> str:
    """``1605632`` → ``1.53 MiB``; at most 8 characters up to 999 PiB; ``None`` (unknown) → ``?``."""
    if count is None:
        return "?"
    sign = "-" if count < 0 else ""
    value = abs(float(count))
    unit = 0
    # Four digits never show: 1,000 KiB is 0.98 MiB.
    while value >= 999.5 and unit < len(UNITS) - 1:
        value /= 1024
        unit += 1
    if unit == 0:
        text = f"{value:.0f}"
    else:
        text = f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
    return f"{sign}{text} {UNITS[unit]}"


def at_least(count: float | None, complete: bool) -> str:
    """:func:`size`, marked ``≥`` where the walk was cut off and the figure is a lower bound."""
    return size(count) if complete or count is None else "≥" + size(count)


def exact(count: int | None) -> str:
    """``421527552`` → ``421,527,552 B``."""
    return "unknown" if count is None else f"{count:,} B"


def growth(per_s: float | None, *, quiet_below: float = QUIET_PER_S) -> str:
    """Bytes per second with its direction as a glyph: ``▲ 8.10 MiB``, ``▼ 1.20 MiB``, ``·`` for (almost)
    nothing, empty when it is not known yet."""
    if per_s is None:
        return ""
    if abs(per_s) < quiet_below:
        return "·"
    return f"{'▲' if per_s > 0 else '▼'} {size(abs(per_s))}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last ``width`` values as blocks, from the lowest to the highest of them.

    A range below 5 % of the highest value is drawn in proportion to those 5 %, so that noise on a
    steady figure looks steady."""
    shown = [*values][-width:] if width > 0 else []
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = max(high - low, 0.05 * abs(high)) or 1.0
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[min(top, int((value - low) / span * top + 0.5))] for value in shown)


def bar(fraction: float, width: int) -> str:
    """A bar of ``width`` cells filled to ``fraction`` (0 to 1), in eighths of a cell."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def middle(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells, cut in the middle: both ends of a name tell it apart."""
    if len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + (text[-tail:] if tail else "")


def plain(text: str) -> str:
    """``text`` without control characters: a name comes from the target and must not drive the terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)


def milliseconds(ms: float) -> str:
    """``0.42 ms``, ``13.1 ms``, ``1,204 ms``."""
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:.1f} ms" if ms < 100 else f"{ms:,.0f} ms"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2.5 h``, ``4 d``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def clock(when: float) -> str:
    """Seconds since the epoch as the local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(when))


def count(number: int, one: str, many: str = "") -> str:
    """``1 task``, ``1,204 tasks``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
