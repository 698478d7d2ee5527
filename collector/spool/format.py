"""The segment file: what is on disk, byte for byte.

A segment is one header and then frames until its end. All numbers are little-endian.

::

    header  8s  magic          b"LMSPOOL\\n"
            H   version        1
            B   compression    1 = zstd
            B   reserved       0
            Q   created_ns     nanoseconds since the epoch
            64s client         UTF-8, padded with zero octets
            I   crc32          of the 84 octets before

    frame   4s  magic          b"LMFR"
            I   stored_bytes   length of the compressed payload that follows
            I   raw_bytes      length of the payload once decompressed
            I   count          messages in it
            Q   received_ns    when the first of them was accepted
            I   payload_crc32  of the compressed payload
            I   header_crc32   of the 28 octets before
            ... payload

The payload, decompressed, is ``count`` lengths (I each) and then the messages end to end: messages may
contain any octet, and both halves are made with one call for a whole batch.

A frame is written and synced as a whole, and only then counted as stored. A crash can therefore leave one
unfinished frame at the end of a segment (*truncated*): it held nothing that was reported as stored.
Segments are never appended to by a later run.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "FRAME_HEADER_BYTES",
    "FRAME_MAGIC",
    "HEADER_BYTES",
    "SUFFIX",
    "FormatError",
    "Frame",
    "SegmentHeader",
    "decode_payload",
    "encode_payload",
    "pack_frame_header",
    "pack_header",
    "unpack_frame_header",
    "unpack_header",
]

SUFFIX = ".seg"
MAGIC = b"LMSPOOL\n"
FRAME_MAGIC = b"LMFR"
VERSION = 1
ZSTD = 1
MAX_RAW_BYTES = 1 << 30
"""No writer makes larger frames; a header that says so is damaged."""

_HEADER = struct.Struct("<8sHBBQ64s")
_FRAME = struct.Struct("<4sIIIQI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
FRAME_HEADER_BYTES = _FRAME.size + _CRC.size


class FormatError(Exception):
    """These octets are not what the format says."""


@dataclass(frozen=True)
class SegmentHeader:
    client: str
    created_ns: int


@dataclass(frozen=True)
class Frame:
    stored_bytes: int
    raw_bytes: int
    count: int
    received_ns: int
    payload_crc32: int


def pack_header(header: SegmentHeader) -> bytes:
    client = header.client.encode()
    if len(client) > 64:
        raise ValueError(f"a client's name must fit in 64 octets, {header.client!r} does not")
    body = _HEADER.pack(MAGIC, VERSION, ZSTD, 0, header.created_ns, client)
    return body + _CRC.pack(zlib.crc32(body))


def unpack_header(data: bytes) -> SegmentHeader:
    """Raises FormatError with what is wrong."""
    if len(data) < HEADER_BYTES:
        raise FormatError(f"segment header is cut short ({len(data)} of {HEADER_BYTES} octets)")
    body = data[: _HEADER.size]
    magic, version, compression, _reserved, created_ns, client = _HEADER.unpack(body)
    if magic != MAGIC:
        raise FormatError("not a segment file (wrong magic)")
    if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(body):
        raise FormatError("segment header has a wrong crc")
    if version != VERSION or compression != ZSTD:
        raise FormatError(
            f"segment version {version}, compression {compression}: written by a newer collector?"
        )
    return SegmentHeader(client=client.rstrip(b"\0").decode("utf-8", "replace"), created_ns=created_ns)


def pack_frame_header(frame: Frame) -> bytes:
    body = _FRAME.pack(
        FRAME_MAGIC, frame.stored_bytes, frame.raw_bytes, frame.count, frame.received_ns, frame.payload_crc32
    )
    return body + _CRC.pack(zlib.crc32(body))


def unpack_frame_header(data: bytes) -> Frame:
    """Raises FormatError with what is wrong."""
    if len(data) < FRAME_HEADER_BYTES:
        raise FormatError(f"frame header is cut short ({len(data)} of {FRAME_HEADER_BYTES} octets)")
    body = data[: _FRAME.size]
    magic, stored_bytes, raw_bytes, count, received_ns, crc = _FRAME.unpack(body)
    if magic != FRAME_MAGIC:
        raise FormatError("no frame starts here (wrong magic)")
    if _CRC.unpack_from(data, _FRAME.size)[0] != zlib.crc32(body):
        raise FormatError("frame header has a wrong crc")
    if raw_bytes > MAX_RAW_BYTES or 4 * count > raw_bytes:
        raise FormatError(f"frame header makes no sense ({count} messages in {raw_bytes} octets)")
    return Frame(stored_bytes, raw_bytes, count, received_ns, crc)


def encode_payload(messages: Sequence[bytes]) -> bytes:
    """The messages as one payload, not yet compressed."""
    lengths = array("I", map(len, messages))
    if sys.byteorder == "big":
        lengths.byteswap()
    return b"".join((lengths.tobytes(), *messages))


def decode_payload(payload: bytes, count: int) -> list[bytes]:
    """The messages of a payload. Raises FormatError where lengths and octets do not add up."""
    lengths = array("I", payload[: 4 * count])
    if sys.byteorder == "big":
        lengths.byteswap()
    if len(lengths) != count or 4 * count + sum(lengths) != len(payload):
        raise FormatError("message lengths do not add up")
    messages, at = [], 4 * count
    for length in lengths:
        messages.append(payload[at : at + length])
        at += length
    return messages
