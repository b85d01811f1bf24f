"""The evidence ring: bounded, readable when torn, and never a reason for a bus to stop."""

import asyncio
import gzip
import json
import random
from pathlib import Path

import pytest

from buffer.evidence import RETRY_AFTER, Evidence, Note, read, segments


def ring(directory: Path) -> Evidence:
    """One whose notes are in its files when `note` returns."""
    return Evidence(directory, megabytes=1, writer="inline")


def _fill(evidence: Evidence, count: int, *, seed: int = 1, first: int = 0) -> list[Note]:
    rng = random.Random(seed)
    notes = [Note(at=first + n, bus="bus-1", meter=f"电表{n % 8}", reason="garbled", sent=rng.randbytes(20),
                  seen=rng.randbytes(200)) for n in range(count)]  # fmt: skip
    for note in notes:
        evidence.note(bus=note.bus, meter=note.meter, at=note.at, reason=note.reason, sent=note.sent, seen=note.seen)
    return notes


def test_what_was_noted_is_read_back_in_order_also_while_it_is_written(tmp_path: Path) -> None:
    evidence = ring(tmp_path)
    notes = _fill(evidence, 50)
    assert list(read(tmp_path)) == notes
    asyncio.run(evidence.close())
    assert list(read(tmp_path)) == notes
    assert evidence.counters == {"overflowed": 0, "noted": 50, "dropped": 0, "disk_errors": 0, "segments_forgotten": 0}


def test_the_ring_keeps_the_newest_within_its_bound(tmp_path: Path) -> None:
    evidence = ring(tmp_path)
    notes = _fill(evidence, 6_000)
    kept = list(read(tmp_path))
    assert kept == notes[-len(kept) :]
    assert 2_000 < len(kept) < 6_000
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 1_000_000
    assert evidence.counters["segments_forgotten"] > 0


def test_a_restart_goes_on_beside_a_torn_end(tmp_path: Path) -> None:
    notes = _fill(ring(tmp_path), 30)
    (torn,) = segments(tmp_path)
    torn.write_bytes(torn.read_bytes()[:-7])
    evidence = ring(tmp_path)
    later = _fill(evidence, 5, seed=2, first=100)
    assert list(read(tmp_path)) == notes[:-1] + later


def test_damage_in_one_file_costs_no_other(tmp_path: Path) -> None:
    evidence = ring(tmp_path)
    _fill(evidence, 1_500)
    asyncio.run(evidence.close())
    files = segments(tmp_path)
    assert len(files) > 2
    content = bytearray(files[1].read_bytes())
    content[40:60] = bytes(20)
    files[1].write_bytes(content)
    kept = [note.at for note in read(tmp_path)]
    assert kept[0] == 0
    assert kept[-1] == 1_499
    assert 800 < len(kept) < 1_500


def test_a_closed_file_is_plain_gzip_of_json_lines(tmp_path: Path) -> None:
    evidence = ring(tmp_path)
    (note,) = _fill(evidence, 1)
    asyncio.run(evidence.close())
    (path,) = segments(tmp_path)
    line = json.loads(gzip.decompress(path.read_bytes()))
    assert line == {"at": 0, "bus": "bus-1", "meter": "电表0", "reason": "garbled", "sent": note.sent.hex().upper(),
                    "seen": note.seen.hex().upper()}  # fmt: skip


def test_trouble_with_the_disk_is_counted_and_never_raised(tmp_path: Path) -> None:
    blocked = tmp_path / "evidence"
    blocked.write_bytes(b"a file where the directory should be")
    evidence = ring(blocked)
    _fill(evidence, 1 + RETRY_AFTER)
    assert evidence.counters == {
        "overflowed": 0, "noted": 0, "dropped": 1 + RETRY_AFTER, "disk_errors": 1, "segments_forgotten": 0,
    }  # fmt: skip
    assert evidence.last_error
    blocked.unlink()
    notes = _fill(evidence, 3)
    assert list(read(blocked)) == notes


def test_a_full_disk_is_counted_and_never_raised(tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            self.closed = True

    evidence = ring(tmp_path)
    _fill(evidence, 1)
    evidence._file = Full()  # type: ignore[assignment]
    _fill(evidence, 1)
    assert evidence.counters["disk_errors"] == 1
    assert "No space" in evidence.last_error


def test_a_ring_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 MB"):
        Evidence(tmp_path, megabytes=0)
