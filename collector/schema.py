"""Reading a TOML table key by key, so that every mistake is named with its place and what is allowed.

A :class:`Section` wraps one table. Each ``integer``, ``text``, ... call takes one key out of it; ``finish``
complains about what nobody asked for and offers the nearest known key. Mistakes are collected, not raised
one at a time: whoever edits a configuration at 3 a.m. wants all of them at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["NAME", "ConfigError", "Section", "did_you_mean"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
"""Names become folder names, registered names and log fields, so they are kept plain."""

_MISSING: Any = object()


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` says where and what is allowed, one line each."""

    def __init__(self, file: str, problems: Iterable[str]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{file}: {problem}" for problem in self.problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'port'?)"`` for a near miss, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


class Section:
    """One TOML table under inspection. ``problems`` is shared by all sections of a file."""

    def __init__(self, table: object, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        self._known: list[str] = []
        self._table: Mapping[str, Any] = {}
        if isinstance(table, Mapping):
            self._table = table
        else:
            self.fault("", f"must be a table of keys and values, not {_said(table)}")

    def fault(self, key: str, problem: str) -> None:
        """Note a mistake at ``key`` of this table (``""``: the table itself)."""
        place = f"{self.where} {key}".strip()
        self.problems.append(f"{place}: {problem}" if place else problem)

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        value = self._table.get(key, _MISSING)
        if value is _MISSING and default is _MISSING:
            self.fault(key, "is required")
        return default if value is _MISSING else value

    def has(self, key: str) -> bool:
        return key in self._table

    def integer(self, key: str, default: int = _MISSING, *, low: int, high: int) -> int:
        value = self._take(key, default)
        if value is _MISSING:
            return low
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fault(key, f"must be a whole number from {low} to {high}, got {_said(value)}")
            return low
        return value

    def number(self, key: str, default: float = _MISSING, *, low: float, high: float) -> float:
        value = self._take(key, default)
        if value is _MISSING:
            return low
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.fault(key, f"must be a number from {low:g} to {high:g}, got {_said(value)}")
            return low
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.fault(key, f"must be true or false, got {_said(value)}")
            return default
        return value

    def text(self, key: str, default: str = _MISSING) -> str:
        value = self._take(key, default)
        if value is _MISSING:
            return ""
        if not isinstance(value, str):
            self.fault(key, f"must be a text in quotes, got {_said(value)}")
            return ""
        return value

    def choice(self, key: str, default: str = _MISSING, *, allowed: Iterable[str]) -> str:
        allowed = list(allowed)
        value = self.text(key, default)
        if value not in allowed:
            if value or self.has(key):
                hint = did_you_mean(value, allowed)
                self.fault(key, f"must be one of {', '.join(allowed)}, got {_said(value)}{hint}")
            return allowed[0]
        return value

    def name(self, key: str) -> str:
        value = self.text(key)
        if value and not NAME.match(value):
            self.fault(
                key,
                "must start with a letter or digit and go on with at most 63 letters, digits, "
                f"dots, dashes or underscores, got {_said(value)}",
            )
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self.fault(key, f"must be a list of texts, got {_said(value)}")
            return ()
        return tuple(value)

    def section(self, key: str) -> Section:
        """The table ``[key]``; an empty one where it is missing."""
        return Section(self._take(key, {}), f"[{key}]", self.problems)

    def sections(self, key: str) -> list[Section]:
        """The tables ``[[key]]``, in order, each named after its ``name`` where it has one."""
        value = self._take(key, [])
        if not isinstance(value, list):
            self.fault(key, f"must be written as [[{key}]], one table for each, got {_said(value)}")
            return []
        found = []
        for number, table in enumerate(value, 1):
            name = table.get("name") if isinstance(table, Mapping) else None
            label = repr(name) if isinstance(name, str) and name else f"#{number}"
            found.append(Section(table, f"[[{key}]] {label}", self.problems))
        return found

    def finish(self) -> None:
        """Complain about keys nobody asked for."""
        for key in self._table:
            if key not in self._known:
                hint = did_you_mean(key, self._known) or f" (known here: {', '.join(sorted(self._known))})"
                self.fault(key, f"is not a key known here{hint}")


def _said(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
