"""What the walk must know of a type and of a view, read without running code of the target.

The Python counterpart of ``sizes.h``'s type records: is it never entered, a buffer, a view, and which
holder are its instances by themselves.
"""

from __future__ import annotations

import gc
import sys
import types
from array import array

HAVE_GC = 1 << 14  # Py_TPFLAGSHAVE_GC
_HOLDER_NUMBERS = {"locals": 1, "registry": 2, "queue": 3, "transport": 4}
_namespace = type.__dict__["__dict__"].__get__
_mro = type.__dict__["__mro__"].__get__
_view_base = memoryview.obj.__get__
managed_buffer = type(gc.get_referents(memoryview(b""))[0])


class Kind:
    """What is known of one type, read from the type itself."""

    __slots__ = ("buffer", "function", "holder", "managed_buffer", "stop", "tracked", "type", "view")

    def __init__(self, kind: type, holder_types: list[tuple[type, int]]) -> None:
        mro = _mro(kind)
        self.type = kind
        self.stop = types.ModuleType in mro or kind is types.CodeType
        self.view = kind is memoryview
        self.managed_buffer = kind is managed_buffer
        self.function = kind is types.FunctionType
        self.tracked = bool(kind.__flags__ & HAVE_GC)
        self.buffer = not self.view and not self.managed_buffer and _exports_buffer(kind)
        self.holder = holder_of(kind, holder_types)


def holder_of(kind: type, holder_types: list[tuple[type, int]]) -> int:
    """Which holder instances of this type are by themselves: 1 to 4, or 0 for none."""
    mro = _mro(kind)
    for base in mro:
        named = _namespace(base).get("__diag_holder__")
        if named is not None:
            number = _HOLDER_NUMBERS.get(named, 0) if type(named) is str else 0
            if number:
                return number
            break
    return next((number for base, number in holder_types if base in mro), 0)


def _exports_buffer(kind: type) -> bool:
    """Whether the type fills CPython's buffer slot; ``__buffer__`` says so only from 3.12 on."""
    if sys.version_info >= (3, 12):
        return any("__buffer__" in _namespace(base) for base in _mro(kind))
    return any(base in _BUFFER_TYPES for base in _mro(kind)) or _slot(kind)


_BUFFER_TYPES: tuple[type, ...] = (bytes, bytearray, array)
_AS_BUFFER_OFFSET = 160  # PyTypeObject.tp_as_buffer on 64-bit CPython 3.10 and 3.11


def _slot(kind: type) -> bool:
    import ctypes

    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    table = ctypes.c_size_t.from_address(id(kind) + _AS_BUFFER_OFFSET).value
    return bool(table and ctypes.c_size_t.from_address(table).value)


def visible(view: memoryview) -> list[tuple[int, int, int, int]]:
    """``(base id, start, end, whole)`` of a contiguous view: offsets, told apart by where it begins.

    Python does not show a view's address, so the buffer is asked for it through ctypes."""
    import ctypes

    try:
        base = _view_base(view)
        if not view.c_contiguous:
            return []
    except ValueError:  # released meanwhile
        return []
    start = ctypes.c_size_t.from_address(id(view) + _VIEW_BUF_OFFSET).value
    managed = ctypes.c_size_t.from_address(id(view) + _VIEW_MANAGED_OFFSET).value
    whole = ctypes.c_ssize_t.from_address(managed + _MANAGED_LEN_OFFSET).value
    return [(id(base), start, start + view.nbytes, whole)]


# PyMemoryViewObject: head (24 with ob_size), mbuf, hash, flags, exports, then Py_buffer {buf, obj, len}
_VIEW_MANAGED_OFFSET = 24
_VIEW_BUF_OFFSET = 56
_MANAGED_LEN_OFFSET = 48
