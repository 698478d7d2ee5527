"""What travels between the session core, the widgets and the screens."""

from __future__ import annotations

from textual.message import Message

from tui.events import Event


class Heard(Message):
    """The session core found something (posted from its threads)."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


class Moved(Message):
    """The cursor of a grid is on another owner (``None``: the grid is empty)."""

    def __init__(self, key: str | None) -> None:
        super().__init__()
        self.key = key


class Chosen(Message):
    """A row was double-clicked."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
