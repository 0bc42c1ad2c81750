"""The model itself, on records made by hand: what a power cut takes and what it leaves."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from power_model import (
    ACK,
    ALLOCATE,
    CREATE,
    DSYNC,
    FAILED,
    FDATASYNC,
    FOUND,
    MKDIR,
    RENAME,
    SYNC,
    TRUNCATE,
    UNLINK,
    WRITE,
    Disk,
    Record,
    points,
)

INO = {".": 1, "a": 2, "b": 3, "d": 4, "d/a": 5, "e": 6, "a.tmp": 7}


def record(op: int, path: str = "", off: int = 0, data: bytes = b"", to: str = "", flags: int = 0) -> Record:
    return Record(op, flags, INO.get(path, 0), off, path, to, data)


def left(tmp_path: Path, records: list[Record], ignored: tuple[str, ...] = (), seed: int | None = None) -> dict[str, bytes]:
    """{path: content} after a power cut behind the records; folders with a slash at their end."""
    disk = Disk(ignored)
    for item in records:
        disk.apply(item)
    tmp_path.mkdir(exist_ok=True)
    disk.write_out(tmp_path, random.Random(seed) if seed is not None else None)
    found = sorted(tmp_path.rglob("*"))
    names = {str(path.relative_to(tmp_path)): path for path in found}
    return {f"{name}/" if path.is_dir() else name: b"" if path.is_dir() else path.read_bytes()
            for name, path in names.items()}


MADE = [record(CREATE, "a"), record(WRITE, "a", 0, b"one")]
SYNCED = [*MADE, record(SYNC, "a"), record(SYNC, ".")]
CASES: dict[str, tuple[list[Record], dict[str, bytes]]] = {
    "nothing synced": (MADE, {}),
    "a synced file in a folder that is not": ([*MADE, record(SYNC, "a")], {}),
    "a synced entry of a file that is not": ([*MADE, record(SYNC, ".")], {"a": b""}),
    "both": (SYNCED, {"a": b"one"}),
    "fdatasync keeps content and size": (
        [*SYNCED, record(WRITE, "a", 3, b"two"), record(SYNC, "a", flags=FDATASYNC)],
        {"a": b"onetwo"},
    ),
    "written behind the sync": ([*SYNCED, record(WRITE, "a", 0, b"two")], {"a": b"one"}),
    "cut behind the sync": ([*SYNCED, record(TRUNCATE, "a", 0)], {"a": b"one"}),
    "grown and synced": ([*SYNCED, record(ALLOCATE, "a", 5), record(SYNC, "a")], {"a": b"one\0\0"}),
    "an O_DSYNC write syncs itself alone": (
        [*SYNCED, record(WRITE, "a", 0, b"two"), record(WRITE, "a", 4, b"!", flags=DSYNC)],
        {"a": b"one\0!"},
    ),
    "a rename without its sync": ([*SYNCED, record(RENAME, "a", to="b")], {"a": b"one"}),
    "a rename with it": ([*SYNCED, record(RENAME, "a", to="b"), record(SYNC, ".")], {"b": b"one"}),
    "a removal without its sync": ([*SYNCED, record(UNLINK, "a")], {"a": b"one"}),
    "a removal with it": ([*SYNCED, record(UNLINK, "a"), record(SYNC, ".")], {}),
    "a folder's own entry": (
        [record(MKDIR, "d"), record(CREATE, "d/a"), record(SYNC, "d/a"), record(SYNC, "d")],
        {},
    ),
    "a folder and what is in it": (
        [record(MKDIR, "d"), record(CREATE, "d/a"), record(SYNC, "d"), record(SYNC, ".")],
        {"d/": b"", "d/a": b""},
    ),
    "moved to another folder, the new one synced": (
        [*SYNCED, record(MKDIR, "d"), record(SYNC, "."), record(RENAME, "a", to="d/b"), record(SYNC, "d")],
        {"a": b"one", "d/": b"", "d/b": b"one"},
    ),
    "moved to another folder, the old one synced": (
        [*SYNCED, record(MKDIR, "d"), record(SYNC, "."), record(RENAME, "a", to="d/b"), record(SYNC, ".")],
        {"d/": b""},
    ),
    "what a failed sync has lost no later one brings back": (
        [
            *SYNCED,
            record(WRITE, "a", 0, b"two"),
            record(SYNC, "a", flags=FAILED),
            record(WRITE, "a", 2, b"!"),
            record(SYNC, "a"),
        ],
        {"a": b"on!"},
    ),
    "an O_DSYNC write over an older one that was not synced": (
        [*SYNCED, record(WRITE, "a", 0, b"two"), record(WRITE, "a", 0, b"3", flags=DSYNC), record(SYNC, "a")],
        {"a": b"3wo"},
    ),
    "a failed O_DSYNC write": (
        [*SYNCED, record(WRITE, "a", 0, b"two", flags=DSYNC | FAILED), record(SYNC, "a")],
        {"a": b"one"},
    ),
    "a number that is used again is another file": (
        [*SYNCED, record(UNLINK, "a"), Record(CREATE, 0, INO["a"], 0, "b", "", b""), record(SYNC, ".")],
        {"b": b""},
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_strict(name: str, tmp_path: Path) -> None:
    records, expected = CASES[name]
    assert left(tmp_path / "disk", records) == expected


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [("fsync a (opened)", {"a": b""}), ("fsync . [+a]", {}), ("fsync b", {"a": b"one"})],
)
def test_a_sync_that_is_ignored(ignored: str, expected: dict[str, bytes], tmp_path: Path) -> None:
    assert left(tmp_path / "disk", SYNCED, (ignored,)) == expected


def test_the_adversary_may_take_or_leave_each_page_and_each_entry(tmp_path: Path) -> None:
    records = [*SYNCED, record(WRITE, "a", 0, b"A" * 8192), record(CREATE, "b"), record(RENAME, "b", to="e")]
    seen = set()
    for seed in range(200):
        found = left(tmp_path / str(seed), records, seed=seed)
        pages = found["a"]
        assert len(pages) in (3, 4096, 8192) and set(pages) <= set(b"oneA\0"), pages
        seen.add((pages[:1] == b"A", pages[4096:] == b"A" * 4096, "b" in found, "e" in found))
    everything = {(first, second, b, e) for first in (0, 1) for second in (0, 1) for b in (0, 1) for e in (0, 1)}
    assert seen == everything - {(first, second, 1, 1) for first in (0, 1) for second in (0, 1)}


def test_what_is_synced_the_adversary_cannot_take(tmp_path: Path) -> None:
    for seed in range(20):
        assert left(tmp_path / str(seed), SYNCED, seed=seed) == {"a": b"one"}


def test_a_point_counts_what_was_promised_until_the_next_sync() -> None:
    records = [*SYNCED, record(ACK, off=7), record(WRITE, "a", 0, b"x"), record(ACK, off=5), record(SYNC, "a")]
    found = [(point.at, point.label, point.acked) for point in points(records)]
    assert found == [(1, "start", 0), (2, "fsync a (opened)", 0), (6, "fsync . [+a]", 7), (7, "fsync a", 7)]


def test_a_sync_of_what_an_earlier_process_did_is_told_apart() -> None:
    def by(process: int, item: Record) -> Record:
        return dataclasses.replace(item, process=process)

    made = [by(1, record(CREATE, "a")), by(2, record(CREATE, "b.lock"))]
    synced = [by(2, record(SYNC, ".")), by(2, record(SYNC, ".")), by(2, record(CREATE, "e")), by(2, record(SYNC, "."))]
    labels = [point.label for point in points([*made, *synced])]
    assert labels == ["start", f"fsync . [+a]{FOUND}", "fsync . []", "fsync . [+e]"]
