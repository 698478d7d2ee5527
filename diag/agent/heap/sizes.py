"""What an object asked of the allocator, without the C module.

The same figures as ``sizes.h``: the nearest C ``__sizeof__``, plus the collector's header, plus the
slots before the object, plus attribute values kept outside its ``__dict__``. A ``__sizeof__`` written
in Python is never called. The last part is read from memory at offsets that hold for 64-bit CPython
3.11 to 3.13; elsewhere it is left out and :data:`EXACT` is False.
"""

from __future__ import annotations

import struct
import sys
import types
from collections.abc import Callable
from typing import Any

_GC_HEAD_BYTES = 16
_HAVE_GC = 1 << 14
_MANAGED_WEAKREF = 1 << 3
_MANAGED_DICT = 1 << 4
_INLINE_VALUES = 1 << 2
_DICT_SUBCLASS = 1 << 29
_VERSION = sys.version_info[:2]
_CACHED_KEYS_OFFSET = {(3, 11): 872, (3, 12): 880, (3, 13): 880}.get(_VERSION)
_SPLIT_DICTS = _VERSION in ((3, 11), (3, 12))

EXACT = _VERSION == (3, 10) or (_CACHED_KEYS_OFFSET is not None and struct.calcsize("P") == 8)

_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__


def _c_sizeof(kind: type) -> Callable[[Any], int]:
    for base in _mro(kind):
        found = _namespace(base).get("__sizeof__")
        if type(found) is types.MethodDescriptorType:
            return found
    return object.__sizeof__


def _word(address: int) -> int:
    import ctypes

    return ctypes.c_size_t.from_address(address).value


def _values_block_bytes(keys: int) -> int:
    """Capacity of a class's shared keys (dk_usable + dk_nentries), as a block of values."""
    if not keys:
        return 0
    capacity = _word(keys + 16) + _word(keys + 24)
    return ((capacity + 2 + 7) & ~7) + capacity * 8


def _inline_3_11(op: object) -> int:
    return _values_block_bytes(_word(id(type(op)) + 872)) if _word(id(op) - 32) else 0


def _inline_3_12(op: object) -> int:
    slot = _word(id(op) - 24)
    return _values_block_bytes(_word(id(type(op)) + 880)) if slot & 1 and slot != 1 else 0


def _inline_3_13(op: object) -> int:
    head = _word(id(op) + 16)
    capacity, valid = head & 0xFF, head >> 24 & 0xFF
    size = ((capacity + 7) & ~7) + (capacity + 1) * 8
    # A __dict__ that was asked for shares these values and is not shown by tp_traverse.
    shown = _word(id(op) - 24)
    if shown and valid and _word(shown) == 1:
        size += 48 + _GC_HEAD_BYTES
    return size


def _split_dict_prefix(op: object) -> int:
    if not _word(id(op) + 40):
        return 0
    keys = _word(id(op) + 32)
    return (_word(keys + 16) + _word(keys + 24) + 2 + 7) & ~7


def _split_dict_3_13(op: object) -> int:
    values = _word(id(op) + 40)
    if not values:
        return 0
    head = _word(values)
    capacity, embedded = head & 0xFF, head >> 16 & 0xFF
    return -8 * capacity if embedded else ((capacity + 7) & ~7) + 8


def _int_bytes(op: int) -> int:
    """Allocated whole; ``__sizeof__`` leaves out the padding."""
    return max(32, int.__sizeof__(op))


def sizer(kind: type) -> Callable[[Any], int]:
    """A function that gives the bytes of one instance of ``kind``. Make it once a type."""
    if kind is int and _VERSION >= (3, 11):
        return _int_bytes
    base = _c_sizeof(kind)
    flags = kind.__flags__
    prefix = _GC_HEAD_BYTES if flags & _HAVE_GC else 0
    if kind is types.FrameType and _VERSION == (3, 10):
        prefix += 8  # __sizeof__ takes the first slot off, the allocation does not
    extra: Callable[[Any], int] | None = None
    if _VERSION >= (3, 12):
        prefix += 16 if flags & (_MANAGED_DICT | _MANAGED_WEAKREF) else 0
    elif _VERSION == (3, 11):
        prefix += 16 if flags & _MANAGED_DICT else 0
    if EXACT:
        if _VERSION == (3, 13) and flags & _INLINE_VALUES:
            extra = _inline_3_13
        elif _VERSION == (3, 12) and flags & _MANAGED_DICT:
            extra = _inline_3_12
        elif _VERSION == (3, 11) and flags & _MANAGED_DICT:
            extra = _inline_3_11
        elif _VERSION == (3, 13) and flags & _DICT_SUBCLASS:
            extra = _split_dict_3_13
        elif _SPLIT_DICTS and flags & _DICT_SUBCLASS:
            extra = _split_dict_prefix
    if extra is None:
        return lambda op: base(op) + prefix
    return lambda op: base(op) + prefix + extra(op)
