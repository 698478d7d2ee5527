"""The keys, as data: one table that bindings, the footer and the help page are made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual.binding import Binding, BindingType

EVERYWHERE = "everywhere"
OWNERS = "owners"
TREE = "tree"
GRID = "grid"
BACK = "back"
PICK = "pick"


@dataclass(frozen=True)
class Key:
    """One thing a key does."""

    keys: str
    """Textual key names, comma separated; the first is the one shown."""
    action: str
    """The Textual action, resolved where the scope's keys are bound."""
    label: str
    """One word for the footer."""
    help: str
    """A sentence for the help page."""
    scope: str
    footer: int = 0
    """Place in the footer, smallest first to be kept when room is short; 0: not there."""


KEYMAP: tuple[Key, ...] = (
    Key("1", "app.view('tasks')", "Tasks", "Owners ranked by what they hold", EVERYWHERE),
    Key("2", "app.view('supervisors')", "Supervisors", "The supervision tree with its sums", EVERYWHERE),
    Key("9", "app.view('journal')", "Journal", "Every action: predicted, measured, RSS", EVERYWHERE),
    Key("g", "app.collect", "GC", "Force garbage collection and measure again", EVERYWHERE, 2),
    Key("G", "app.collect_and_rank", "GC+rank", "Collect, then rank owners by what they let go", EVERYWHERE),
    Key("t", "app.trim", "trim", "Ask the C allocator to give freed memory back", EVERYWHERE, 4),
    Key("f", "app.freeze", "freeze", "Hold the picture still; sampling goes on", EVERYWHERE, 7),
    Key("r", "app.refresh", "refresh", "Sample now, or try the connection again", EVERYWHERE),
    Key("question_mark", "app.help", "help", "This page", EVERYWHERE, 9),
    Key("q", "app.leave", "quit", "Leave diagtop (^c too); the target stays as it is", EVERYWHERE, 10),
    Key("enter", "why", "why", "Details, and the paths that keep it alive", OWNERS, 1),
    Key("x", "stop", "stop", "Stop or cancel: asks first, with what goes and what comes back", OWNERS, 3),
    Key("R", "restart", "restart", "Restart; start an application that is stopped", OWNERS, 5),
    Key("u", "owner", "up", "To the supervisor or application that owns it", OWNERS, 6),
    Key("slash", "filter", "filter", "Show rows with this text; ! in front: without it", OWNERS, 6),
    Key("s", "sort", "sort", "Rank by buffers, retained, waste, growth", OWNERS, 8),
    Key("escape", "unfilter", "", "Drop the filter", OWNERS),
    Key("right,plus", "unfold", "", "Unfold a branch", TREE),
    Key("left,minus", "fold", "", "Fold a branch, or go to its parent", TREE),
    Key("down,j", "cursor(1)", "", "Next row", GRID),
    Key("up,k", "cursor(-1)", "", "Previous row", GRID),
    Key("pagedown,ctrl+f", "page(1)", "", "Next page", GRID),
    Key("pageup,ctrl+b", "page(-1)", "", "Previous page", GRID),
    Key("home", "edge(-1)", "", "First row, and stay with whoever is first", GRID),
    Key("end", "edge(1)", "", "Last row", GRID),
    Key("escape", "back", "back", "Back to where you came from", BACK, 1),
    Key("enter", "attach", "attach", "Attach to this process", PICK, 1),
    Key("r", "look", "refresh", "Look for processes again", PICK, 3),
    Key("q,ctrl+c,escape", "app.leave", "quit", "Leave diagtop", PICK, 10),
)

_SHOWN = {
    "question_mark": "?",
    "slash": "/",
    "enter": "⏎",
    "escape": "esc",
    "down": "↓",
    "up": "↑",
    "right": "→",
    "left": "←",
    "plus": "+",
    "minus": "-",
    "pagedown": "pgdn",
    "pageup": "pgup",
    "ctrl+c": "^c",
    "ctrl+f": "^f",
    "ctrl+b": "^b",
}


def shown(keys: str, first_only: bool = True) -> str:
    """How a person reads ``"question_mark,q"``: ``?`` (or ``? q``)."""
    names = [_SHOWN.get(key, key) for key in keys.split(",")]
    return names[0] if first_only else " ".join(names)


def keys_of(*scopes: str) -> tuple[Key, ...]:
    return tuple(key for key in KEYMAP if key.scope in scopes)


def bindings(*scopes: str) -> list[BindingType]:
    """Textual bindings for the scopes. Each has an id, so that keys can be remapped by it.

    All are handled before the focus gets the key, and so strictly one after the other: whoever types
    ahead is understood, and ``j`` is over when ``x`` asks who is meant. Screens say with
    ``check_action`` when a key is text instead."""
    return [
        Binding(
            key.keys,
            key.action,
            key.label or key.help,
            show=False,
            priority=True,
            id=f"{key.scope}.{key.action}",
        )
        for key in keys_of(*scopes)
    ]


def footer(keys: Iterable[Key], width: int) -> tuple[tuple[str, str], ...]:
    """The ``(key, label)`` pairs that fit into ``width`` cells. What does not fit is left out by its
    place, last first, but help and quit always stay."""
    wanted = sorted((key for key in keys if key.footer), key=lambda key: key.footer)
    while len(wanted) > 2 and _length(wanted) > width:
        droppable = [key for key in wanted if key.label not in ("help", "quit")] or wanted
        wanted.remove(droppable[-1])
    return tuple((shown(key.keys), key.label) for key in wanted)


def _length(keys: Sequence[Key]) -> int:
    return sum(len(shown(key.keys)) + len(key.label) + 3 for key in keys)
