"""Telling one life of an object from the next at the same address.

CPython reuses addresses at once: a restarted worker's task and coroutine often sit exactly where the old
ones sat, under the same name. An address alone would let "cancel that one" hit its successor. So each
object that is *shown* gets a serial number, remembered beside a weak reference: a dead reference is
a dead identity, whatever lives at the address now.
"""

from __future__ import annotations

import itertools
import weakref

from diag.agent import native

_serials = itertools.count(1)


class Identities:
    """Serial numbers of the objects shown so far. Keeps nothing alive; any thread may ask."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[object], int]] = {}
        self._lock = native.allocate_lock()
        self._prune_at = 1024

    def of(self, value: object) -> str:
        """``hexaddress.hexserial``, the same for as long as the object lives. An object that cannot be
        referred to weakly has only its address."""
        address = id(value)
        with self._lock:
            known = self._known.get(address)
            if known is not None and known[0]() is value:
                return f"{address:x}.{known[1]:x}"
            try:
                # Without a callback CPython hands out the one weak reference the object already has.
                reference = weakref.ref(value)
            except TypeError:
                return f"{address:x}"
            serial = next(_serials)
            self._known[address] = (reference, serial)
            if len(self._known) > self._prune_at:
                self._known = {a: entry for a, entry in self._known.items() if entry[0]() is not None}
                self._prune_at = max(1024, 2 * len(self._known))
        return f"{address:x}.{serial:x}"

    def __len__(self) -> int:
        return len(self._known)
