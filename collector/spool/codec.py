"""zstd, from an extra that may not be installed."""

from __future__ import annotations

from types import ModuleType

__all__ = ["Compressor", "Decompressor", "MissingExtra"]


class MissingExtra(Exception):
    """A command needs a library that the base install leaves out."""


class Compressor:
    """One at a time: not to be used from two threads at once. Raises MissingExtra."""

    def __init__(self, level: int) -> None:
        self._compressor = _zstandard().ZstdCompressor(level=level)

    def compress(self, data: bytes) -> bytes:
        packed: bytes = self._compressor.compress(data)
        return packed


class Decompressor:
    """Raises MissingExtra."""

    def __init__(self) -> None:
        library = _zstandard()
        self._decompressor = library.ZstdDecompressor()
        self._error: type[Exception] = library.ZstdError

    def decompress(self, packed: bytes, raw_bytes: int) -> bytes:
        """Raises ValueError where ``packed`` is damaged or is not ``raw_bytes`` long once decompressed."""
        try:
            data: bytes = self._decompressor.decompress(packed, max_output_size=raw_bytes)
        except self._error as error:
            raise ValueError(f"does not decompress: {error}") from None
        if len(data) != raw_bytes:
            raise ValueError(f"decompresses to {len(data)} octets, the header says {raw_bytes}")
        return data


def _zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise MissingExtra(
            "the spool is compressed with zstd, and the zstandard library is not installed: "
            "pip install 'diagtop[collector]'"
        ) from None
    return zstandard
