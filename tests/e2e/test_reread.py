"""Rows read again by key (issue 6): through the log, never older than what the log says already, and never lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any, Callable

import msgpack
import psycopg

from harness import Oneslot, Postgres, assert_tables_equal, check_log, fold, lsn, wait_until
from harness.rows import table_rows
from harness.values import ALL, USER_TYPES, definitions

MSGPACK = {"Content-Type": "application/msgpack"}
Key = dict[str, str]


def begin(oneslot: Oneslot) -> None:
    oneslot.start()
    oneslot.wait_streaming()
    oneslot.wait(lambda: oneslot.sink(), 30, "the sink is known")


def ask(oneslot: Oneslot, table: str, keys: list[Key], schema: str = "public", offset: int = 0) -> None:
    """What a worker posts for a record whose values it cannot prove."""
    for key in keys:
        columns = [part.encode() for pair in key.items() for part in pair]
        body = msgpack.packb([[0, offset, schema.encode(), table.encode(), columns]])
        answer = oneslot.unix.request("POST", "/internal/sinks/file/reread", body=body, headers=MSGPACK)
        assert answer.status in (200, 204), answer


def waiting(oneslot: Oneslot) -> list[Any]:
    answer = oneslot.unix.request("GET", "/internal/rereads", {"max": 1000})
    assert answer.status == 200, answer
    return msgpack.unpackb(answer.body)


def wait_answered(oneslot: Oneslot, timeout: float = 30) -> None:
    oneslot.wait(lambda: waiting(oneslot) == [], timeout, "every request is answered")


def reads(oneslot: Oneslot) -> list[dict[str, Any]]:
    return [change for change in oneslot.changes() if change["op"] == "read"]


def check_fold(pg: Postgres, oneslot: Oneslot, tables: list[str]) -> None:
    oneslot.wait_durable(pg)
    changes = oneslot.changes()
    check_log(changes)
    assert_tables_equal(pg, fold(changes), tables)


# --- values


def test_a_read_row_has_the_values_that_a_change_has(pg: Postgres, oneslot: Oneslot) -> None:
    """Every type; NULL; with a key of several columns, one with quotes, of a table that changed nothing since the
    stream began and of one that did."""
    pg.sql(USER_TYPES, user="postgres")
    pg.sql('GRANT USAGE ON SCHEMA "Other Types" TO app', user="postgres")
    pg.sql('CREATE SCHEMA "Odd Schema"; CREATE TABLE "Odd Schema"."T.dot" (id int)', user="postgres")
    pg.sql('GRANT USAGE ON SCHEMA "Odd Schema" TO app', user="postgres")
    pg.sql(f"CREATE TABLE types (a int, b text, {definitions()}, PRIMARY KEY (a, b))")
    begin(oneslot)
    longest = max(len(values) for _, values in ALL.values())
    names = ", ".join(ALL)
    for number in range(longest):
        row = ", ".join(values[number % len(values)] for _, values in ALL.values())
        pg.sql(f"INSERT INTO types (a, b, {names}) VALUES ({number}, 'it''s \"{number}\" \\', {row})")
    pg.sql("INSERT INTO types (a, b) VALUES (-1, '')")
    oneslot.wait_durable(pg)
    keys = [{"a": str(number), "b": f"it's \"{number}\" \\"} for number in range(longest)] + [{"a": "-1", "b": ""}]
    for restart in (False, True):
        if restart:
            oneslot.kill_and_wait("replicator")
            oneslot.wait_streaming()
        before = len(reads(oneslot))
        ask(oneslot, "types", keys)
        wait_answered(oneslot)
        written = reads(oneslot)[before:]
        assert len(written) == len(keys)
        inserted = {str(change["key"]): change["new"] for change in oneslot.changes() if change["op"] == "insert"}
        for change in written:
            assert change["new"] == inserted[str(change["key"])]
    check_fold(pg, oneslot, ["public.types"])


def test_toasted_values_and_other_kinds_of_keys(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql(
        """CREATE TABLE big (id uuid PRIMARY KEY, n int, v text); ALTER TABLE big ALTER v SET STORAGE EXTERNAL;
        CREATE TABLE "It's" ("k""ey" text PRIMARY KEY, g int GENERATED ALWAYS AS (1) STORED, v text);
        CREATE TABLE whole (id char(5) PRIMARY KEY, v text); ALTER TABLE whole REPLICA IDENTITY FULL;
        CREATE TABLE uniq (id int PRIMARY KEY, code numeric(8,2) UNIQUE NOT NULL);
        ALTER TABLE uniq REPLICA IDENTITY USING INDEX uniq_code_key;
        CREATE TABLE parts (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"""
    )
    begin(oneslot)
    pg.sql(
        """INSERT INTO big SELECT gen_random_uuid(), 1, repeat(md5(i::text), 40000) FROM generate_series(1, 4) i;
        UPDATE big SET n = 2; INSERT INTO "It's" ("k""ey", v) VALUES ('o''clock "x" \\', 'v');
        INSERT INTO whole VALUES ('ab', 'v'); INSERT INTO uniq VALUES (1, 2.50);
        INSERT INTO parts VALUES (1, '2026-02-03')"""
    )
    oneslot.wait_durable(pg)
    ids = [row[0] for row in pg.sql("SELECT id::text FROM big")]
    ask(oneslot, "big", [{"id": key} for key in ids])
    ask(oneslot, "It's", [{'k"ey': "o'clock \"x\" \\"}])
    ask(oneslot, "whole", [{"id": "ab   "}])
    ask(oneslot, "uniq", [{"code": "2.50"}])
    ask(oneslot, "parts_1", [{"id": "1", "day": "2026-02-03"}])
    wait_answered(oneslot)
    written = reads(oneslot)
    assert len(written) == len(ids) + 4
    for table in ("big", "It's", "whole", "uniq", "parts_1"):
        rows = table_rows(pg, f"public.{table}")
        found = [change["new"] for change in written if change["table"] == table]
        assert sorted(map(str, found)) == sorted(map(str, rows.values()))
        assert all("key" in change for change in written)
    check_fold(pg, oneslot, ["public.big", "public.It's", "public.whole", "public.uniq", "public.parts_1"])


def test_keys_of_types_that_extensions_bring(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext; CREATE EXTENSION citext SCHEMA ext")
    pg.sql("CREATE TABLE paths (id ext.ltree PRIMARY KEY, v text); CREATE TABLE mails (id ext.citext PRIMARY KEY, v text)")
    begin(oneslot)
    pg.sql("INSERT INTO paths VALUES ('a.b', 'one'), ('a.c', 'two'); INSERT INTO mails VALUES ('A@b', 'three')")
    oneslot.wait_durable(pg)
    ask(oneslot, "paths", [{"id": "a.b"}, {"id": "a.d"}])
    ask(oneslot, "mails", [{"id": "A@b"}])
    wait_answered(oneslot)
    assert sorted(change["new"]["v"] for change in reads(oneslot)) == ["one", "three"]


def test_what_the_publication_leaves_out_is_not_read(pg: Postgres, make_oneslot: Callable[..., Oneslot]) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text, secret text)")
    pg.sql("CREATE PUBLICATION oneslot FOR TABLE t (id, v) WHERE (id > 0)", user="postgres")
    oneslot = make_oneslot(pg)
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1, 'one', 'x'), (-1, 'minus one', 'x')")
    oneslot.wait_durable(pg)
    ask(oneslot, "t", [{"id": "1"}, {"id": "-1"}])
    wait_answered(oneslot)
    assert [change["new"] for change in reads(oneslot)] == [{"id": 1, "v": "one"}]


def test_what_is_gone_is_answered(pg: Postgres, oneslot: Oneslot) -> None:
    """A row, a key that the column does not take any more, a column of the key, a table."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1, 'one')")
    oneslot.wait_durable(pg)
    ask(oneslot, "t", [{"id": "2"}, {"id": "no number"}, {"id": "1"}])
    ask(oneslot, "t", [{"former": "1"}])
    ask(oneslot, "no_table", [{"id": "1"}])
    ask(oneslot, "t", [{"id": "1"}], schema="no schema")
    wait_answered(oneslot)
    assert [change["new"] for change in reads(oneslot)] == [{"id": 1, "v": "one"}]


# --- order


def test_rows_read_while_they_change_never_undo_a_change(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, n int, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
    begin(oneslot)
    pg.sql("INSERT INTO t SELECT i, 0, repeat('x', 5000) FROM generate_series(1, 20) i")
    ends = threading.Event()
    writers = [threading.Thread(target=write_on, args=(pg, ends, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(25):
            ask(oneslot, "t", [{"id": str(number)} for number in range(1, 21)], offset=0)
            wait_answered(oneslot)
    finally:
        ends.set()
        for writer in writers:
            writer.join()
    assert len(reads(oneslot)) >= 25 * 5
    check_fold(pg, oneslot, ["public.t"])
    check_last_word(oneslot)


def write_on(pg: Postgres, ends: threading.Event, number: int) -> None:
    """Each row counts up; a change of v now and then; one writer without synchronous commit; rollbacks."""
    with pg.connect() as connection:
        if number == 0:
            connection.execute("SET synchronous_commit = off")
        step = 0
        while not ends.is_set():
            step += 1
            row = 1 + (step * 7 + number) % 20
            value = ", v = repeat(chr(97 + n % 26), 5000)" if step % 5 == 0 else ""
            connection.execute("BEGIN")
            connection.execute(f"UPDATE t SET n = n + 1{value} WHERE id = {row}")
            connection.execute("ROLLBACK" if step % 11 == 0 else "COMMIT")


def check_last_word(oneslot: Oneslot) -> None:
    """n of a row never goes back: a read may be ahead of the changes that follow it, by no more than was committed."""
    changed: dict[int, int] = {}
    for change in oneslot.changes():
        key, n = change["new"]["id"], change["new"]["n"]
        if change["op"] == "read":
            assert n >= changed.get(key, 0), f"a read row is older than the log: {change['offset']}"
        else:
            changed[key] = n


def test_a_change_that_is_logged_but_not_visible_is_waited_for(pg: Postgres, oneslot: Oneslot) -> None:
    """A commit waits for a synchronous standby after it was sent to us: others see the row as it was before."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1, 'old'), (2, 'old')")
    oneslot.wait_durable(pg)
    pg.set(synchronous_standby_names="'nobody'")
    pg.reload()
    wait_until(lambda: pg.value("SHOW synchronous_standby_names") == "nobody", 10, "the setting counts")
    hanging = threading.Thread(target=update_hanging, args=(pg,))
    hanging.start()
    try:
        oneslot.wait(lambda: any(change["op"] == "update" for change in oneslot.changes()), 20, "it is in the log")
        assert pg.value("SELECT v FROM t WHERE id = 1") == "old"
        pg.sql("SET synchronous_commit = local; INSERT INTO t VALUES (0, 'a younger one')")
        ask(oneslot, "t", [{"id": "1"}, {"id": "2"}])
        oneslot.wait(lambda: oneslot.lag()["source"]["last_error"], 30, "last_error says why")
        assert "not visible" in oneslot.lag()["source"]["last_error"]
        assert reads(oneslot) == []
        pg.sql("SET synchronous_commit = local; INSERT INTO t VALUES (3, 'goes on')")
        oneslot.wait(lambda: oneslot.changes()[-1]["op"] == "insert", 20, "the stream goes on")
    finally:
        pg.set(synchronous_standby_names="''")
        pg.reload()
        hanging.join()
    wait_answered(oneslot)
    assert sorted(change["new"]["v"] for change in reads(oneslot)) == ["new", "old"]
    oneslot.wait(lambda: not oneslot.lag()["source"]["last_error"], 20, "the error is over")
    check_fold(pg, oneslot, ["public.t"])


def test_a_change_that_a_former_replicator_logged_is_waited_for(pg: Postgres, oneslot: Oneslot) -> None:
    """The same, and the next replicator has never seen the transaction: it is the newest, and no snapshot names it."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1, 'old')")
    oneslot.wait_durable(pg)
    pg.set(synchronous_standby_names="'nobody'")
    pg.reload()
    wait_until(lambda: pg.value("SHOW synchronous_standby_names") == "nobody", 10, "the setting counts")
    hanging = threading.Thread(target=update_hanging, args=(pg,))
    hanging.start()
    try:
        oneslot.wait(lambda: any(change["op"] == "update" for change in oneslot.changes()), 20, "it is in the log")
        oneslot.kill_and_wait("replicator")
        oneslot.wait_streaming()
        assert pg.value("SELECT v FROM t") == "old"
        ask(oneslot, "t", [{"id": "1"}])
        oneslot.wait(lambda: oneslot.lag()["source"]["last_error"] or reads(oneslot), 30, "last_error says why")
        assert reads(oneslot) == []
        assert "older than this connection" in oneslot.lag()["source"]["last_error"]
    finally:
        pg.set(synchronous_standby_names="''")
        pg.reload()
        hanging.join()
    wait_answered(oneslot)
    assert [change["new"]["v"] for change in reads(oneslot)] == ["new"]
    check_fold(pg, oneslot, ["public.t"])


def update_hanging(pg: Postgres) -> None:
    pg.sql("UPDATE t SET v = 'new' WHERE id = 1")


def test_what_could_be_lost_in_a_crash_is_not_read(make_pg: Callable[..., Postgres], make_oneslot: Callable[..., Oneslot]) -> None:
    """synchronous_commit = off: others see the change long before it is flushed."""
    pg = make_pg(settings={"wal_writer_delay": "4s"})
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot = make_oneslot(pg)
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1, 'old')")
    oneslot.wait_durable(pg)
    with pg.connect() as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("UPDATE t SET v = 'new'")
        end = lsn(connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()[0])
        assert pg.flush_lsn() < end, "the server was quicker than this test"
        ask(oneslot, "t", [{"id": "1"}])
        oneslot.wait(lambda: reads(oneslot), 30, "the row is read")
        assert pg.flush_lsn() >= end
    assert [change["new"]["v"] for change in reads(oneslot)] == ["new"]
    check_fold(pg, oneslot, ["public.t"])


# --- what is in the way


def test_a_locked_table_does_not_stop_the_stream(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY)")
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1, 'one')")
    with pg.connect() as connection:
        connection.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        ask(oneslot, "t", [{"id": "1"}])
        for number in range(20):
            pg.sql(f"INSERT INTO other VALUES ({number})")
            oneslot.wait_durable(pg, 5)
        ask(oneslot, "other", [{"id": "3"}])
        oneslot.wait(lambda: len(reads(oneslot)) == 1, 20, "another table is read meanwhile")
        assert len(waiting(oneslot)) == 1
        connection.execute("ROLLBACK")
    wait_answered(oneslot)
    assert [change["table"] for change in reads(oneslot)] == ["other", "t"]


def test_the_connection_outlives_a_stream_that_stands_still(
    make_pg: Callable[..., Postgres], make_oneslot: Callable[..., Oneslot]
) -> None:
    """Nothing is answered while rows are being read. The server's wal_sender_timeout is shorter than that, and does not
    count: the replicator's own connection has 60 s (PINNED_OPTIONS in replicator/pgconn.c)."""
    pg = make_pg(settings={"wal_sender_timeout": "1s"})
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id serial PRIMARY KEY)")
    oneslot = make_oneslot(pg)
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1, 'one')")
    ask(oneslot, "t", [{"id": "1"}])
    oneslot.wait(lambda: len(reads(oneslot)) == 1, 20, "it has a connection that reads rows")
    walsender = walsenders(pg)
    assert len(walsender) == 1
    reader = pg.value("SELECT pid FROM pg_stat_activity WHERE usename = 'oneslot' AND query = 'ROLLBACK'", user="postgres")
    os.kill(reader, signal.SIGSTOP)
    try:
        ask(oneslot, "t", [{"id": "1"}])
        oneslot.wait(lambda: seconds_of_a_change(pg, oneslot) > 1.2, 30, "the stream stands still")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(reader, signal.SIGCONT)
    wait_answered(oneslot)
    assert len(reads(oneslot)) == 2
    check_fold(pg, oneslot, ["public.t", "public.other"])
    assert walsenders(pg) == walsender
    assert "terminating walsender process due to replication timeout" not in pg.log_text()


def walsenders(pg: Postgres) -> list[Any]:
    return pg.sql("SELECT pid, backend_start::text FROM pg_stat_replication", user="postgres")


def seconds_of_a_change(pg: Postgres, oneslot: Oneslot) -> float:
    pg.sql("INSERT INTO other DEFAULT VALUES")
    began = time.monotonic()
    oneslot.wait_durable(pg)
    return time.monotonic() - began


def test_a_missing_right_is_named_and_waited_for(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY)")
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1, 'one'); INSERT INTO other VALUES (1); REVOKE SELECT ON t FROM app")
    oneslot.wait_durable(pg)
    ask(oneslot, "t", [{"id": str(number)} for number in range(1, 1002)])  # more than one answer of the broker holds
    ask(oneslot, "other", [{"id": "1"}])
    error = oneslot.wait(lambda: oneslot.lag()["source"]["last_error"], 30, "last_error says it")
    assert 'GRANT SELECT ON "public"."t" TO "oneslot"' in error
    oneslot.wait(lambda: len(reads(oneslot)) == 1, 20, "the other table is read")
    assert len(waiting(oneslot)) == 1000
    pg.sql("GRANT SELECT ON t TO oneslot")
    wait_answered(oneslot, 60)
    assert [change["table"] for change in reads(oneslot)] == ["other", "t"]
    oneslot.wait(lambda: not oneslot.lag()["source"]["last_error"], 20, "the error is over")


def test_rows_hidden_by_a_policy_are_not_taken_for_gone(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    pg.sql("ALTER TABLE t FORCE ROW LEVEL SECURITY")
    begin(oneslot)
    pg.sql("INSERT INTO t VALUES (1)", user="postgres")
    oneslot.wait_durable(pg)
    ask(oneslot, "t", [{"id": "1"}])
    error = oneslot.wait(lambda: oneslot.lag()["source"]["last_error"], 30, "last_error says it")
    assert "BYPASSRLS" in error
    assert len(waiting(oneslot)) == 1
    pg.sql("ALTER ROLE oneslot BYPASSRLS", user="postgres")
    wait_answered(oneslot, 60)
    assert len(reads(oneslot)) == 1


# --- killed


def test_a_killed_replicator_loses_no_request(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    begin(oneslot)
    pg.sql("INSERT INTO t SELECT i, repeat('x', 2000) FROM generate_series(1, 600) i")
    oneslot.wait_durable(pg)
    ask(oneslot, "t", [{"id": str(number)} for number in range(1, 601)])
    for number in range(6):
        oneslot.wait(lambda: oneslot.pids("replicator"), 20, "a replicator runs")
        pg.sql(f"UPDATE t SET v = 'round {number}' WHERE id % 6 = {number}")
        oneslot.kill_and_wait("replicator")
    wait_answered(oneslot, 60)
    assert {change["key"]["id"] for change in reads(oneslot)} == set(range(1, 601))
    check_fold(pg, oneslot, ["public.t"])
