"""What goes into a segment comes out of it, and damage is named with file and offset."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.spool import format as segment_format
from collector.spool.directory import SpoolError, SpoolLock, probe
from collector.spool.format import FRAME_HEADER_BYTES, HEADER_BYTES, FormatError
from collector.spool.reader import Batch, Damage, scan, scan_client
from collector.spool.segment import SegmentWriter, segment_paths

BATCHES = [[b"<13>one", b"<13>two\nlines"], [b"<13>\x00\xff"], [b"<13>%d" % number for number in range(500)]]


def writer(directory: Path, **options: float) -> SegmentWriter:
    return SegmentWriter(
        directory / "acme",
        "acme",
        segment_bytes=int(options.get("segment_bytes", 1 << 20)),
        segment_age_s=options.get("segment_age_s", 3600.0),
    )


def written(directory: Path, batches: list[list[bytes]] = BATCHES) -> Path:
    out = writer(directory)
    for number, batch in enumerate(batches):
        out.write(batch, number)
    path = out.path
    out.close()
    assert path is not None
    return path


def messages(found: list[Batch | Damage]) -> list[bytes]:
    return [message for item in found if isinstance(item, Batch) for message in item.messages]


def damages(found: list[Batch | Damage]) -> list[Damage]:
    return [item for item in found if isinstance(item, Damage)]


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=30))
def test_a_payload_gives_back_its_messages(batch: list[bytes]) -> None:
    payload = segment_format.encode_payload(batch)
    assert segment_format.decode_payload(payload, len(batch)) == batch
    with pytest.raises(FormatError):
        segment_format.decode_payload(payload + b"x", len(batch))


def test_a_segment_gives_back_its_batches(tmp_path: Path) -> None:
    found = list(scan(written(tmp_path)))
    assert [item.messages for item in found if isinstance(item, Batch)] == BATCHES
    assert not damages(found)
    assert [item.received_ns for item in found if isinstance(item, Batch)] == [0, 1, 2]
    assert sum(item.stored_bytes for item in found if isinstance(item, Batch)) + HEADER_BYTES == (
        segment_paths(tmp_path / "acme")[0].stat().st_size
    )


def test_a_segment_that_is_large_enough_is_finished_and_a_new_one_begun(tmp_path: Path) -> None:
    out = writer(tmp_path, segment_bytes=HEADER_BYTES + 1)
    for batch in BATCHES:
        out.write(batch, 0)
    out.close()
    assert [path.name for path in segment_paths(tmp_path / "acme")] == [f"0000000{n}.seg" for n in (1, 2, 3)]
    assert messages(list(scan_client(tmp_path, "acme"))) == [
        message for batch in BATCHES for message in batch
    ]


def test_a_writer_that_is_killed_leaves_no_open_file(tmp_path: Path) -> None:
    out = writer(tmp_path)
    out.write([b"x"], 0)
    path = out.path
    assert str(path) in _open_files()
    del out
    assert str(path) not in _open_files()


def _open_files() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def test_a_strangers_file_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    first = written(tmp_path)
    (tmp_path / "acme" / "notes.seg").write_text("by hand")
    assert written(tmp_path).name == "00000002.seg"
    assert first.name == "00000001.seg"


def test_a_later_run_never_appends_to_an_earlier_runs_segment(tmp_path: Path) -> None:
    first, second = written(tmp_path), written(tmp_path)
    assert first != second
    assert len(messages(list(scan_client(tmp_path, "acme")))) == 2 * sum(map(len, BATCHES))


@settings(max_examples=60, deadline=None)
@given(lost=st.integers(1, 10_000))
def test_a_segment_cut_anywhere_gives_its_whole_frames_and_names_the_cut(
    tmp_path_factory: pytest.TempPathFactory, lost: int
) -> None:
    path = written(tmp_path_factory.mktemp("cut"))
    whole = [item for item in scan(path) if isinstance(item, Batch)]
    size = max(0, path.stat().st_size - lost)
    os.truncate(path, size)
    found = list(scan(path))
    kept = [item for item in whole if item.offset + item.stored_bytes <= size]
    assert [item for item in found if isinstance(item, Batch)] == kept
    at_an_edge = size == HEADER_BYTES or any(item.offset + item.stored_bytes == size for item in kept)
    named = damages(found)
    assert len(named) == (0 if at_an_edge else 1)
    for damage in named:
        assert damage.kind == "truncated"
        assert damage.offset == (
            kept[-1].offset + kept[-1].stored_bytes
            if kept
            else min(size, HEADER_BYTES)
            if size >= HEADER_BYTES
            else 0
        )
        assert str(path) in str(damage)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 100_000), flip=st.integers(1, 255))
def test_a_flipped_octet_never_passes_as_a_message(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    path = written(tmp_path_factory.mktemp("flip"))
    data = bytearray(path.read_bytes())
    place %= len(data)
    data[place] ^= flip
    path.write_bytes(data)
    found = list(scan(path))
    assert damages(found)
    assert all(item.messages in BATCHES for item in found if isinstance(item, Batch))


def test_frames_after_a_damaged_one_are_still_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    for offset, problem in (
        (HEADER_BYTES + FRAME_HEADER_BYTES + 1, "wrong crc"),
        (HEADER_BYTES, "no frame starts here"),
    ):
        data = bytearray(path.read_bytes())
        data[offset] ^= 0xFF
        path.write_bytes(data)
        found = list(scan(path))
        assert messages(found) == [message for batch in BATCHES[1:] for message in batch]
        (damage,) = damages(found)
        assert (damage.kind, damage.offset) == ("corrupt", HEADER_BYTES)
        assert problem in damage.problem


def test_a_write_that_fails_leaves_no_damage_behind_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = writer(tmp_path)
    out.write(BATCHES[0], 0)
    calls = []

    def full(fd: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    real = os.write
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        out.write(BATCHES[1], 0)
    monkeypatch.undo()
    assert len(calls) == 2, "the frame header was written, the payload was not"
    out.write(BATCHES[1], 0)
    out.close()
    found = list(scan_client(tmp_path, "acme"))
    assert messages(found) == BATCHES[0] + BATCHES[1]
    assert not damages(found)


def test_a_file_that_is_no_segment_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.seg"
    path.write_bytes(b"hello" * 100)
    first = next(iter(scan(path)))
    assert isinstance(first, Damage)
    assert "not a segment file" in str(first)


def test_a_spool_below_a_file_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError, match="a part of that path is a file; choose another"):
        probe(tmp_path / "file" / "spool")
    with pytest.raises(SpoolError, match="a file is in the way"):
        probe(tmp_path / "file")


def test_the_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    probe(tmp_path / "new" / "spool")
    assert list((tmp_path / "new" / "spool").iterdir()) == []


def test_one_spool_has_one_collector(tmp_path: Path) -> None:
    lock = SpoolLock(tmp_path)
    with pytest.raises(SpoolError, match=f"in use by another collector \\(pid {os.getpid()}\\)"):
        SpoolLock(tmp_path)
    lock.release()
    SpoolLock(tmp_path).release()
