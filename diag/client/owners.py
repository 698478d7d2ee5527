"""OWNER: what people call the row they mean. An id, or a name only one owner has."""

from __future__ import annotations

import difflib

from diag.wire.errors import OWNER_GONE, RpcError
from diag.wire.model import Owner, Table

_SHOWN = 8


def find(table: Table, text: str) -> Owner:
    """The owner meant. ``table`` should have all rows. Raises RpcError OWNER_GONE with the candidates."""
    for row in table.owners:
        if row.id == text:
            return row
    named = [row for row in table.owners if row.name == text]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(row.id for row in named[:_SHOWN])
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        raise RpcError(
            OWNER_GONE, f"{len(named)} owners are called {text!r}", f"say which by id: {ids}{more}"
        )
    names = list(dict.fromkeys(row.name for row in table.owners))
    close = difflib.get_close_matches(text, names, 3)
    hint = f"did you mean: {', '.join(close)}" if close else "see 'diag top' for what there is"
    raise RpcError(OWNER_GONE, f"there is no owner {text!r}", hint)


def below(table: Table, owner: Owner) -> list[Owner]:
    """Everything under the owner, in the table's order, without the owner itself."""
    inside = {owner.id}
    waiting = [row for row in table.owners if row.parent is not None]
    found: set[str] = set()
    while True:
        more = [row for row in waiting if row.parent in inside and row.id not in found]
        if not more:
            return [row for row in table.owners if row.id in found]
        found.update(row.id for row in more)
        inside = {row.id for row in more}
