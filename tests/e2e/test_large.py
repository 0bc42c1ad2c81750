"""Large transactions and large values: bounded memory, and whole."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from harness import Oneslot, Postgres, Programs, check_log

Make = Callable[..., Any]
MIB = 1 << 20


@pytest.fixture
def oneslot(make_oneslot: Make, pg: Postgres, plain_programs: Programs) -> Oneslot:
    """Without sanitizers: their shadow would be measured, and takes hours for this."""
    return make_oneslot(pg, programs=plain_programs)


def anonymous(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Anonymous in smaps_rollup")


class Memory:
    """The most anonymous memory that broker and replicator have together, looked at all the time."""

    def __init__(self, oneslot: Oneslot) -> None:
        self.pids = [oneslot.pid("broker"), oneslot.pid("replicator")]
        self.most = 0
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, sum(map(anonymous, self.pids)))
            self.looks += 1


def begin(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot.start()
    oneslot.wait_streaming()


@pytest.mark.sampled
def test_memory_stays_bounded_in_a_large_transaction(pg: Postgres, oneslot: Oneslot, soak: bool) -> None:
    rows = 5_000_000 if soak else 300_000
    begin(pg, oneslot)
    pg.sql("INSERT INTO t VALUES (0, 'first')")
    oneslot.wait_caught_up(pg)
    idle = sum(anonymous(oneslot.pid(role)) for role in ("broker", "replicator"))
    with Memory(oneslot) as memory:
        pg.sql(f"INSERT INTO t SELECT i, repeat(md5(i::text), 11) FROM generate_series(1, {rows}) i")
        oneslot.wait_caught_up(pg, 1800)
    print(f"anonymous memory of broker and replicator: idle {idle / MIB:.1f} MiB, at most {memory.most / MIB:.1f} MiB")
    assert memory.looks > 20
    assert idle < 16_000_000
    assert memory.most < 48_000_000
    assert count_lines(oneslot) == rows + 1
    tail = oneslot.lag()["log"]["tail"]["offset"]
    last = oneslot.changes(from_=tail - 2)
    assert [change["seq"] for change in last][-1] == rows - 1


def count_lines(oneslot: Oneslot) -> int:
    with open(oneslot.folder / "changes.ndjson", "rb") as file:
        return sum(1 for _ in file)


def test_a_value_of_200_megabytes_arrives_whole(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    size = 200_000_000
    pg.sql("INSERT INTO t VALUES (1, 'before')")
    pg.sql(f"INSERT INTO t SELECT 2, string_agg(md5(i::text), '') FROM generate_series(1, {size // 32}) i")
    pg.sql("UPDATE t SET id = 3 WHERE id = 1")
    oneslot.wait_caught_up(pg, 240)
    expected = pg.value("SELECT encode(sha256(v::bytea), 'hex') FROM t WHERE id = 2")
    changes = oneslot.changes()
    assert check_log(changes) == 3
    assert len(changes[1]["new"]["v"]) == size
    assert hashlib.sha256(changes[1]["new"]["v"].encode()).hexdigest() == expected
    assert oneslot.file_changes() == changes
    del changes
    restarted(oneslot)
    pg.sql("INSERT INTO t VALUES (4, 'after')")
    oneslot.wait_caught_up(pg, 120)
    assert count_lines(oneslot) == 4


def restarted(oneslot: Oneslot) -> None:
    oneslot.kill_all()
    oneslot.start()
    oneslot.wait_streaming()


def sizes() -> Iterator[int]:
    """Around what fits into a batch, a piece of a packed block, and a fetch."""
    for edge in (32 * 1024, MIB):
        yield from (edge - 200, edge - 1, edge, edge + 1, 2 * edge + 7)
    yield 16 * MIB + 1


def test_rows_larger_than_a_batch_stand_among_small_ones(make_oneslot: Make, pg: Postgres, programs: Programs) -> None:
    oneslot = make_oneslot(pg, programs=programs)
    begin(pg, oneslot)
    statements = []
    for number, size in enumerate(sizes()):
        first = number * 1000
        statements += [
            f"INSERT INTO t SELECT {first} + i, 'small' FROM generate_series(1, 40) i",
            f"INSERT INTO t SELECT {first} + 500, repeat('x', {size})",
            f"INSERT INTO t SELECT {first} + 500 + i, 'small' FROM generate_series(1, 40) i",
        ]
    for way in ("; ".join(statements), "TRUNCATE t; " + "; COMMIT; BEGIN; ".join(statements)):
        pg.sql(f"BEGIN; {way}; COMMIT")  # all in one transaction, then in one each
    oneslot.wait_caught_up(pg, 120)
    expected = dict(pg.sql("SELECT id, md5(v) FROM t"))
    changes = oneslot.changes()
    check_log(changes)
    assert [change["op"] for change in changes].count("truncate") == 1
    at = [change["op"] for change in changes].index("truncate")
    for part in (changes[:at], changes[at + 1 :]):
        assert {c["new"]["id"]: hashlib.md5(c["new"]["v"].encode()).hexdigest() for c in part} == expected
    with open(oneslot.folder / "changes.ndjson", "rb") as file:
        assert all(json.loads(line) == change for line, change in zip(file, changes, strict=True))
