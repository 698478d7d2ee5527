"""Writing one client's segment files. Blocking; meant for a thread of its own.

``SegmentWriter.write`` returns when the batch is safe on disk (fdatasync). Where that fails, the file is
cut back to the last whole frame, so that trying again later leaves no damage in between; if even that
fails the segment is abandoned and the next attempt starts a new one.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from collector.spool.codec import Compressor
from collector.spool.format import (
    HEADER_BYTES,
    SUFFIX,
    Frame,
    SegmentHeader,
    encode_payload,
    pack_frame_header,
    pack_header,
)

__all__ = ["SegmentWriter", "segment_paths"]


def segment_paths(directory: Path) -> list[Path]:
    """The segments of one client, oldest first. A folder that is not there has none."""
    return sorted(directory.glob(f"*{SUFFIX}"))


class SegmentWriter:
    """Appends batches to segments under ``directory`` (``00000001.seg``, ``00000002.seg`` ...).

    A segment is made with its first batch and finished when it is over ``segment_bytes`` or older than
    ``segment_age_s``. One thread at a time.
    """

    def __init__(
        self,
        directory: Path,
        client: str,
        *,
        segment_bytes: int,
        segment_age_s: float,
        compression_level: int = 1,
    ) -> None:
        self.directory = directory
        self.client = client
        self.segment_bytes = segment_bytes
        self.segment_age_s = segment_age_s
        self._compressor = Compressor(compression_level)
        self._fd = -1
        self._size = 0
        self._made_at = 0.0
        self._path: Path | None = None

    @property
    def path(self) -> Path | None:
        """The open segment."""
        return self._path

    def write(self, messages: Sequence[bytes], received_ns: int) -> int:
        """Store one batch as one frame; the octets it took on disk. Raises OSError, having stored nothing."""
        payload = encode_payload(messages)
        packed = self._compressor.compress(payload)
        frame = Frame(
            stored_bytes=len(packed),
            raw_bytes=len(payload),
            count=len(messages),
            received_ns=received_ns,
            payload_crc32=zlib.crc32(packed),
        )
        self._rotate()
        if self._fd < 0:
            self._open()
        header = pack_frame_header(frame)
        try:
            _write_all(self._fd, header, packed)
            os.fdatasync(self._fd)
        except OSError:
            self._cut_back()
            raise
        self._size += len(header) + len(packed)
        return len(header) + len(packed)

    def close(self) -> None:
        """Finish the open segment. Harmless if there is none."""
        fd, self._fd, self._path = self._fd, -1, None
        if fd >= 0:
            os.close(fd)  # whatever this says, the number is another file's now

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:  # killed: nobody closed us
            os.close(self._fd)

    def _rotate(self) -> None:
        old = time.monotonic() - self._made_at >= self.segment_age_s
        if self._fd >= 0 and (self._size >= self.segment_bytes or old):
            self.close()

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        stems = [path.stem for path in segment_paths(self.directory)]
        number = 1 + max((int(stem) for stem in stems if stem.isdecimal()), default=0)
        path = self.directory / f"{number:08d}{SUFFIX}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            _write_all(fd, pack_header(SegmentHeader(self.client, time.time_ns())))
            _sync_directory(self.directory)
            _sync_directory(self.directory.parent)  # the client's folder may be new, too
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        self._fd, self._path, self._size = fd, path, HEADER_BYTES
        self._made_at = time.monotonic()

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
            os.lseek(self._fd, self._size, os.SEEK_SET)
        except OSError:
            self.close()


def _write_all(fd: int, *parts: bytes) -> None:
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
