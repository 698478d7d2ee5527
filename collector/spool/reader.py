"""Reading segments back, and saying exactly where one is damaged.

``scan`` walks a segment frame by frame and never raises for its contents: what is wrong comes as a
:class:`Damage` with the file, the offset and what was expected. After a bad payload it goes on with the
next frame (its header said how long it is); after a bad frame header it looks for the next frame's magic.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collector.spool.codec import Decompressor
from collector.spool.format import (
    FRAME_HEADER_BYTES,
    FRAME_MAGIC,
    HEADER_BYTES,
    FormatError,
    decode_payload,
    unpack_frame_header,
    unpack_header,
)
from collector.spool.segment import segment_paths

__all__ = ["Batch", "Damage", "clients", "scan", "scan_client"]


@dataclass(frozen=True)
class Batch:
    """One whole frame."""

    path: Path
    offset: int
    client: str
    received_ns: int
    messages: list[bytes]
    raw_bytes: int
    """Octets of the messages alone."""
    stored_bytes: int
    """Octets on disk, with the frame's header."""


@dataclass(frozen=True)
class Damage:
    """Octets that cannot be read."""

    path: Path
    offset: int
    kind: str
    """``truncated`` (an unfinished frame at the end: a crash or a full disk) or ``corrupt``."""
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: offset {self.offset}: {self.kind}: {self.problem}"


def clients(directory: Path) -> list[str]:
    """Who has segments in this spool. Raises OSError where the folder cannot be read."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and segment_paths(path))


def scan_client(directory: Path, client: str) -> Iterator[Batch | Damage]:
    """All of one client's segments, oldest first."""
    for path in segment_paths(directory / client):
        yield from scan(path)


def scan(path: Path) -> Iterator[Batch | Damage]:
    """One segment. Memory: one frame. Raises OSError where the file cannot be read."""
    with open(path, "rb") as stream:
        size = path.stat().st_size
        head = stream.read(HEADER_BYTES)
        try:
            client = unpack_header(head).client
        except FormatError as error:
            yield Damage(path, 0, "truncated" if size < HEADER_BYTES else "corrupt", str(error))
            if size < HEADER_BYTES:
                return
            client = path.parent.name
        offset = HEADER_BYTES
        unpack = Decompressor()
        while offset < size:
            stream.seek(offset)
            try:
                frame = unpack_frame_header(stream.read(FRAME_HEADER_BYTES))
            except FormatError as error:
                if size - offset < FRAME_HEADER_BYTES:
                    yield Damage(path, offset, "truncated", str(error))
                    return
                found = _next_frame(path, offset + 1)
                skipped = (size if found is None else found) - offset
                yield Damage(path, offset, "corrupt", f"{error}; {skipped} octets skipped")
                if found is None:
                    return
                offset = found
                continue
            packed = stream.read(frame.stored_bytes)
            taken = FRAME_HEADER_BYTES + frame.stored_bytes
            if len(packed) < frame.stored_bytes:
                problem = f"frame of {frame.count} messages has {len(packed)} of {frame.stored_bytes} octets"
                yield Damage(path, offset, "truncated", problem)
                return
            try:
                if zlib.crc32(packed) != frame.payload_crc32:
                    raise FormatError("payload has a wrong crc")
                messages = decode_payload(unpack.decompress(packed, frame.raw_bytes), frame.count)
            except (FormatError, ValueError) as error:
                yield Damage(path, offset, "corrupt", f"{error}; frame of {frame.count} messages lost")
            else:
                raw_bytes = frame.raw_bytes - 4 * frame.count
                yield Batch(path, offset, client, frame.received_ns, messages, raw_bytes, taken)
            offset += taken


def _next_frame(path: Path, start: int) -> int | None:
    """The offset of the next whole frame header at or after ``start``."""
    with open(path, "rb") as stream:
        stream.seek(start)
        base, window = start, b""
        while chunk := stream.read(1 << 20):
            window += chunk
            at = window.find(FRAME_MAGIC)
            while at >= 0:
                header = window[at : at + FRAME_HEADER_BYTES]
                if len(header) < FRAME_HEADER_BYTES:
                    break
                try:
                    unpack_frame_header(header)
                except FormatError:
                    at = window.find(FRAME_MAGIC, at + 1)
                else:
                    return base + at
            keep = min(len(window), FRAME_HEADER_BYTES - 1)
            base, window = base + len(window) - keep, window[-keep:]
    return None
