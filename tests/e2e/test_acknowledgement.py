"""P1: a change is acknowledged to PostgreSQL only after it is on stable storage, and then soon: a server never waits
for us to stop, and no WAL is kept for an idle database."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Callable, Iterator

import psycopg
import pytest
from harness import Oneslot, Postgres, assert_tables_equal, check_log, fold, lsn, wait_until

Make = Callable[..., Any]


def confirmed(pg: Postgres) -> int:
    return lsn(pg.slot()["confirmed_flush_lsn"])


def begin(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
    oneslot.start()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t (v) VALUES ('first')")
    oneslot.wait_caught_up(pg)


def check_all(pg: Postgres, oneslot: Oneslot) -> None:
    oneslot.wait_caught_up(pg)
    changes = oneslot.changes()
    check_log(changes)
    assert_tables_equal(pg, fold(changes), ["public.t"])
    written = oneslot.file_changes()
    assert written == changes


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still, as under a disk that does not answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def writers(pg: Postgres, statement: str, number: int = 2, **where: str) -> Iterator[list[int]]:
    """Sessions that commit the statement again and again while the server lets them; counts their commits."""
    stop = threading.Event()
    commits = [0] * number

    def write(place: int) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            with pg.connect(**where) as connection:
                while not stop.is_set():
                    connection.execute(statement)
                    commits[place] += 1

    threads = [threading.Thread(target=write, args=[place], daemon=True) for place in range(number)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(commits), 20, "the writers write")
        yield commits
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


SLOWLY = "INSERT INTO t (v) SELECT repeat('x', 200) FROM generate_series(1, 5); SELECT pg_sleep(0.01)"
WRITE = "INSERT INTO t (v) SELECT repeat('x', 200) FROM generate_series(1, 5)"


def watch_confirmed(pg: Postgres, limit: int, seconds: float) -> None:
    """For so long, through keepalives and status messages, the slot must not pass the limit."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: confirmed(pg) > limit, seconds, "it passes")
    assert confirmed(pg) <= limit, "acknowledged what is not durable"


def test_nothing_is_acknowledged_while_the_broker_stands_still(make_pg: Make, make_oneslot: Make) -> None:
    """WAL that is not published goes on, so that keepalives run far ahead of the change that is in flight. The server's
    wal_sender_timeout is short and does not count: the connection has one of its own (PINNED_OPTIONS in pgconn.c)."""
    pg = make_pg(settings={"wal_sender_timeout": "4s"})
    oneslot = make_oneslot(pg)
    begin(pg, oneslot)
    with stopped(oneslot.pid("broker")):
        pg.sql("INSERT INTO t (v) VALUES ('in flight')")
        end = pg.flush_lsn()
        for _ in range(20):
            pg.sql("SELECT pg_logical_emit_message(true, 'x', repeat('y', 100000))", database="postgres")
        assert pg.flush_lsn() > end + 1_000_000
        watch_confirmed(pg, end - 1, 9)
        assert pg.slot()["active"], "the connection lives: status messages go on"
    check_all(pg, oneslot)
    assert oneslot.changes()[-1]["new"]["v"] == "in flight"
    oneslot.wait(lambda: confirmed(pg) >= end, 30, "the slot moves on")


def test_nothing_is_acknowledged_inside_a_transaction_that_is_in_flight(make_pg: Make, make_oneslot: Make) -> None:
    """A transaction much larger than what fits under way: some of it is in the log and not visible, some is on its
    way, some with the server, when the broker stands still."""
    pg = make_pg(settings={"wal_sender_timeout": "4s"})
    oneslot = make_oneslot(pg)
    begin(pg, oneslot)
    before = log_bytes(oneslot)
    pg.sql("INSERT INTO t (v) SELECT repeat(md5(i::text), 40) FROM generate_series(1, 30000) i")
    end = pg.flush_lsn()
    oneslot.wait(lambda: log_bytes(oneslot) > before + 2_000_000, 30, "some of it is in the log")
    with stopped(oneslot.pid("broker")):
        assert len(oneslot.file_changes(allow_torn=True)) == 1, "and none of it is visible"
        watch_confirmed(pg, end - 1, 5)
    check_all(pg, oneslot)
    assert len(oneslot.file_changes()) == 30001


def log_bytes(oneslot: Oneslot) -> int:
    return sum(path.stat().st_blocks * 512 for path in (oneslot.data / "log").glob("**/*.mdb"))


def test_a_connection_outlives_a_broker_that_stands_still(make_pg: Make, make_oneslot: Make) -> None:
    """Three times the server's wal_sender_timeout: the connection has one of its own."""
    pg = make_pg(settings={"wal_sender_timeout": "5s"})
    oneslot = make_oneslot(pg)
    begin(pg, oneslot)
    walsender = pg.slot()["active_pid"]
    with writers(pg, SLOWLY), stopped(oneslot.pid("broker")):
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: pg.slot()["active_pid"] != walsender, 15, "the walsender ends")
        assert pg.slot()["active_pid"] == walsender
    check_all(pg, oneslot)
    assert pg.slot()["active_pid"] == walsender
    assert "terminating walsender process due to replication timeout" not in pg.log_text()


# --- the server's end


def test_a_fast_stop_of_an_idle_server_takes_no_time(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    assert pg.stop("fast") < 5
    pg.start()
    check_all(pg, oneslot)


def test_a_fast_stop_under_load_takes_no_time(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    with writers(pg, WRITE):
        assert pg.stop("fast") < 5
    pg.start()
    check_all(pg, oneslot)


def fill_busy(rows: int) -> str:
    return f"INSERT INTO busy SELECT repeat('x', 500) FROM generate_series(1, {rows})"


def test_a_fast_stop_beside_a_busy_database_takes_no_time(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    pg.sql("CREATE TABLE busy (v text)", database="postgres", user="postgres")
    with writers(pg, fill_busy(500), database="postgres", user="postgres"):
        wait_until(lambda: pg.flush_lsn() - confirmed(pg) > 2_000_000, 20, "the other database writes")
        assert pg.stop("fast") < 5
    pg.start()
    check_all(pg, oneslot)


def test_a_fast_stop_with_a_broker_that_stands_still_takes_no_time(pg: Postgres, oneslot: Oneslot) -> None:
    """What is in flight cannot be acknowledged: the replicator lets go of the server, which sends it again."""
    begin(pg, oneslot)
    with stopped(oneslot.pid("broker")):
        pg.sql("INSERT INTO t (v) VALUES ('in flight')")
        assert pg.stop("fast") < 5
        pg.start()
    check_all(pg, oneslot)


def test_an_idle_database_beside_a_busy_one_moves_its_slot_on(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    pg.sql("CREATE TABLE busy (v text)", database="postgres", user="postgres")
    pg.sql(fill_busy(20_000), database="postgres", user="postgres")
    wanted = pg.flush_lsn()
    with writers(pg, "INSERT INTO busy VALUES ('x')", 1, database="postgres", user="postgres"):
        wait_until(lambda: confirmed(pg) >= wanted, 60, "the slot of the idle database moves on")
        source = oneslot.lag()["source"]
        assert lsn(source["durable_lsn"]) >= wanted, "the ledger proves it before the slot says it"
    restart_lsn = lsn(pg.slot()["restart_lsn"])
    assert wanted - restart_lsn < 64 << 20
    oneslot.kill_and_wait("broker")
    oneslot.wait_streaming(60)
    assert lsn(oneslot.lag()["source"]["durable_lsn"]) >= wanted, "P1: it was in the ledger"
    check_all(pg, oneslot)


# --- a slot that goes back


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_server_that_stops_at_once_gives_no_duplicates(pg: Postgres, oneslot: Oneslot, mode: str) -> None:
    begin(pg, oneslot)
    for _ in range(5):
        with writers(pg, WRITE) as commits:
            goal = sum(commits) + 100
            wait_until(lambda: sum(commits) >= goal, 30, "the writers write")
            pg.stop(mode)
        pg.start()
    check_all(pg, oneslot)


def test_a_slot_that_goes_back_gives_no_duplicates(pg: Postgres, oneslot: Oneslot) -> None:
    """The server writes a slot's position now and then: after a crash it may stand where it stood at the time."""
    begin(pg, oneslot)
    pg.sql("CHECKPOINT", user="postgres")
    on_disk = pg.data / "pg_replslot" / "oneslot" / "state"
    saved = on_disk.read_bytes()
    for number in range(50):
        pg.sql("INSERT INTO t (v) VALUES (%s)", [str(number)])
    pg.emit("the last one")
    end = oneslot.wait_durable(pg)
    oneslot.wait(lambda: confirmed(pg) >= end, 30, "all of it is acknowledged")
    oneslot.kill_all()
    pg.stop("immediate")
    on_disk.write_bytes(saved)
    pg.start()
    assert confirmed(pg) < end, "the slot has gone back"
    oneslot.start()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t (v) VALUES ('after')")
    check_all(pg, oneslot)
    assert [change["op"] for change in oneslot.changes()].count("message") == 1
