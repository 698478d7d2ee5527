"""The one-line and two-line strips around every screen: heading, status, keys."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from tui.details import Spans
from tui.events import Link, Sample
from tui.evidence import Finding
from tui.heading import heading, tabs
from tui.keymap import footer, keys_of
from tui.widgets.tones import STYLES, content

VIEWS = (("1", "tasks", "Tasks"), ("2", "supervisors", "Supervisors"), ("9", "journal", "Journal"))


class Strip(Static):
    """Literal text that is only painted anew when it differs."""

    def __init__(self, id: str) -> None:
        super().__init__("", id=id, markup=False)
        self._shown: Content | None = None

    def put(self, new: Content) -> None:
        if self._shown is None or new.markup != self._shown.markup:
            self._shown = new
            self.update(new)


class Heading(Strip):
    """Three lines: state, cost, views."""

    def __init__(self) -> None:
        super().__init__("heading")

    def show(
        self,
        sample: Sample | None,
        link: Link,
        *,
        frozen: bool,
        waiting_s: float,
        view: str,
        right: Spans,
    ) -> None:
        width = self.size.width or self.app.size.width
        lines = content(heading(sample, link, frozen=frozen, waiting_s=waiting_s, width=width))
        parts = []
        for spans, current in tabs(VIEWS, view, right, width):
            for text, tone in spans:
                parts.append((text, f"{STYLES[tone]} reverse" if current else STYLES[tone]))
        self.put(Content("\n").join([lines, Content.assemble(*parts)]))


class Status(Strip):
    """Two lines: what the last action showed, and what to try next."""

    def __init__(self) -> None:
        super().__init__("status")

    def show(self, finding: Finding) -> None:
        mark = {"good": "✓ ", "bad": "! ", "busy": "… "}.get(finding.tone, "  ")
        said: Spans = [(f" {mark}{finding.text}", finding.tone)]
        if not finding.next:
            self.put(content([said]))
        elif len(said[0][0]) > self.size.width > 0:  # it needs the second line itself
            self.put(content([[*said, (f" {finding.next}", "dim")]]))
        else:
            self.put(content([said, [(f"   {finding.next}", "dim")]]))


class KeyBar(Strip):
    """The keys of the screen, as many as fit."""

    def __init__(self, *scopes: str) -> None:
        super().__init__("keys")
        self._scopes = scopes

    def on_mount(self) -> None:
        self._fill()

    def on_resize(self) -> None:
        self._fill()

    def _fill(self) -> None:
        spans: Spans = [(" ", "")]
        for key, label in footer(keys_of(*self._scopes), (self.size.width or 80) - 1):
            spans += [(key, "key"), (f" {label}  ", "dim")]
        self.put(content([spans]))
