"""Figures and names as people read them."""

from __future__ import annotations

import time


def human_bytes(count: float | None, sign: bool = False) -> str:
    """Bytes with a binary unit: ``512.0 MiB``; ``-`` for None."""
    if count is None:
        return "-"
    prefix = "+" if sign and count > 0 else "-" if count < 0 else ""
    size = abs(float(count))
    if size < 1024:
        return f"{prefix}{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{prefix}{size:.1f} {unit}"


def human_age(seconds: float | None) -> str:
    """``42s``, ``7m03s``, ``5h12m``, ``3d04h``; ``-`` for None."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def clock(epoch_s: float) -> str:
    """Local time of day with the date."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch_s))


def clean(text: str) -> str:
    """Text from a target, safe for a terminal: names are the target's to choose, escape sequences are not."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
