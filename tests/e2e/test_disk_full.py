"""A full disk holds the log up and loses nothing: reading from PostgreSQL stops, /readyz says why, PostgreSQL keeps
its WAL, and all of it goes on by itself when space returns. A full disk of a target holds up its sink only."""

from __future__ import annotations

import threading
from typing import Any, Callable, Iterator

import pytest

from harness import Oneslot, Postgres, WorkFolder, assert_tables_equal, check_log, file_sink, fold, lsn, wait_until
from harness.disk import SmallDisk
from harness.system import Programs

MIB = 1 << 20


@pytest.fixture
def make_disk(work: WorkFolder) -> Iterator[Callable[[int], SmallDisk]]:
    made: list[SmallDisk] = []

    def make(size: int) -> SmallDisk:
        made.append(SmallDisk(work, size))
        return made[-1]

    yield make
    for disk in made:
        disk.close()


@pytest.fixture
def disk(make_disk: Callable[[int], SmallDisk]) -> SmallDisk:
    return make_disk(48 * MIB)


@pytest.fixture
def small(
    disk: SmallDisk, pg: Postgres, programs: Programs, work: WorkFolder, make_oneslot: Callable[..., Oneslot]
) -> Oneslot:
    """Its data folder on the small disk, the sink's file on the large one."""
    oneslot = make_oneslot(pg, programs=disk.programs(programs, work))
    disk.adopt(oneslot)
    pg.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    return oneslot


def insert(pg: Postgres, first: int, count: int) -> None:
    """About 1 KiB a row that does not compress."""
    pg.sql(
        "INSERT INTO t SELECT i, (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 32) j)"
        " FROM generate_series(%s::bigint, %s::bigint) i",
        [first, first + count - 1],
    )


def says_full(oneslot: Oneslot) -> bool:
    answer = oneslot.http.get("/readyz")
    if answer.status == 200:
        return False
    assert answer.status == 503 and answer.headers["content-type"] == "application/problem+json"
    return any("no space left on the disk of data_dir" in reason for reason in answer.json()["reasons"])


def assert_complete(pg: Postgres, oneslot: Oneslot) -> None:
    oneslot.wait_caught_up(pg)
    changes = oneslot.changes()
    check_log(changes)
    assert_tables_equal(pg, fold(changes), ["public.t"])
    assert_tables_equal(pg, fold(oneslot.file_changes()), ["public.t"], "the fold of the file")


def test_a_full_disk_holds_reading_up_and_lets_it_go_on(pg: Postgres, small: Oneslot, disk: SmallDisk) -> None:
    process = small.start()
    small.wait_streaming()
    assert "kind=tmpfs" in small.log_text(), "a file system that forgets is warned about"
    insert(pg, 1, 1000)
    small.wait_caught_up(pg)
    disk.fill()
    insert(pg, 1001, 3000)
    wanted = pg.flush_lsn()
    small.wait(lambda: says_full(small), 30, "/readyz says that the disk is full")
    confirmed = lsn(pg.slot()["confirmed_flush_lsn"])
    assert confirmed < wanted, "nothing is acknowledged that is not in the log"
    lag = small.lag()
    assert lsn(lag["source"]["durable_lsn"]) < wanted and lag["log"]["disk_free_bytes"] < MIB
    assert "disk" in (lag["source"]["last_error"] or "") or lag["log"]["out_of_space"]
    assert small.http.get("/healthz").status == 200
    assert len(small.changes()) == 1000, "what is there is served"
    assert int(pg.value("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots")) > 3 * MIB
    assert lsn(pg.slot()["confirmed_flush_lsn"]) < wanted
    disk.empty()
    small.wait_durable(pg)
    small.wait(lambda: not says_full(small) and small.http.get("/readyz").status == 200, 20, "it is ready again")
    assert_complete(pg, small)
    assert process.is_running()


def test_space_that_returns_is_noticed_although_nothing_is_appended(
    pg: Postgres, small: Oneslot, disk: SmallDisk
) -> None:
    small.start_broker()
    small.wait_serving()
    small.start_replicator()
    small.wait_streaming()
    disk.fill()
    insert(pg, 1, 3000)
    small.wait(lambda: says_full(small), 30, "/readyz says that the disk is full")
    small.kill_and_wait("replicator")
    assert says_full(small) and small.lag()["log"]["out_of_space"]
    disk.empty()
    small.wait(lambda: not says_full(small), 30, "/readyz takes it back")
    assert not small.lag()["log"]["out_of_space"]


def test_a_disk_that_fills_up_and_empties_again_while_it_ingests(
    pg: Postgres, small: Oneslot, disk: SmallDisk
) -> None:
    """By a file that grows beside it: the space may be gone between asking for it and using it."""
    small.start()
    small.wait_streaming()
    for turn in range(3):
        first = turn * 3000 + 1
        writer = threading.Thread(target=lambda: [insert(pg, n, 100) for n in range(first, first + 3000, 100)])
        writer.start()
        small.wait(lambda: small.changes(from_="latest", wait=5) or not writer.is_alive(), 30, "it ingests")
        disk.fill()
        small.wait(lambda: says_full(small), 30, "the disk is full")
        assert lsn(pg.slot()["confirmed_flush_lsn"]) <= lsn(small.lag()["source"]["durable_lsn"])
        writer.join()
        disk.empty()
        assert_complete(pg, small)


def test_a_full_disk_at_the_start_and_kills_while_it_is_full(
    pg: Postgres, small: Oneslot, disk: SmallDisk
) -> None:
    small.start()
    small.wait_streaming()
    insert(pg, 1, 500)
    small.wait_caught_up(pg)
    disk.fill()
    insert(pg, 501, 2000)
    small.wait(lambda: says_full(small), 30, "the disk is full")
    for role in ("replicator", "broker"):
        small.kill_and_wait(role)
        small.wait_serving()
        small.wait(lambda: says_full(small), 40, f"it says so again after a kill of the {role}")
    assert len(small.changes()) == 500
    small.stop()
    small.start()
    small.wait(lambda: says_full(small), 40, "it starts on a full disk, and says so")
    disk.empty()
    assert_complete(pg, small)


def test_a_transaction_larger_than_the_space_left_is_logged_whole_later(
    pg: Postgres, small: Oneslot, disk: SmallDisk
) -> None:
    disk.fill(leave=12 * MIB)
    small.start()
    small.wait_streaming()
    insert(pg, 1, 16000)
    small.wait(lambda: says_full(small), 60, "the disk is full")
    assert small.changes() == [], "no part of a transaction is visible"
    disk.empty()
    small.wait_durable(pg)
    assert len({change["xid"] for change in small.changes()}) == 1
    assert_complete(pg, small)


def test_a_full_disk_of_the_file_sink_holds_up_that_sink_only(
    pg: Postgres, disk: SmallDisk, programs: Programs, work: WorkFolder, make_oneslot: Callable[..., Oneslot]
) -> None:
    sinks: dict[str, Any] = {"small": {"kind": "file", "path": str(disk.path / "out.ndjson")}}
    oneslot = make_oneslot(pg, programs=disk.programs(programs, work), config={"sinks": sinks})
    pg.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    oneslot.start()
    oneslot.wait_streaming()
    insert(pg, 1, 500)
    oneslot.wait_caught_up(pg)
    disk.fill()
    insert(pg, 501, 3000)
    oneslot.wait_durable(pg)
    oneslot.wait_settled("file")
    oneslot.wait(lambda: oneslot.sink("small")["state"] == "retrying", 30, "the sink retries")
    sink = oneslot.sink("small")
    assert "space" in sink["last_error"].lower() and sink["records_behind"] > 0
    assert oneslot.http.get("/readyz").status == 200
    disk.empty()
    oneslot.wait_settled("small")
    changes = file_sink(disk.view / "out.ndjson")
    assert check_log(changes) == 3500
    assert_tables_equal(pg, fold(changes), ["public.t"])
    wait_until(lambda: oneslot.sink("small")["state"] == "running", 20, "it runs again")
