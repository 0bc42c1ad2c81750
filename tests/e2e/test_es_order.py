"""Whatever the order in which things arrive, the documents are the table: key changes, TRUNCATE, unchanged TOAST,
replays, tombstones that are gone. Numbers in brackets: the pitfalls of facts/elasticsearch.md, section G."""

from __future__ import annotations

import signal
from typing import Any, Callable
from urllib.parse import quote

import pytest
from harness import Elasticsearch, FakeES, Postgres, Search, make_search, wait_until
from harness.fake_es import refuse_items

Make = Callable[..., Any]
BIG = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 400))"  # stored out of line


def begin(search: Search, columns: str = "id int PRIMARY KEY, v text", identity: str = "DEFAULT") -> None:
    search.pg.sql(f"CREATE TABLE t ({columns}); ALTER TABLE t REPLICA IDENTITY {identity}")
    search.start()


def in_one_transaction(pg: Postgres, *statements: str) -> None:
    with pg.connect(autocommit=False) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


# --- keys that change


def test_a_key_change_moves_the_document(search: Search, pg: Postgres) -> None:
    begin(search)
    pg.sql("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i")
    pg.sql("UPDATE t SET id = id + 1000 WHERE id % 2 = 0")
    pg.sql("UPDATE t SET id = id + 1, v = v || ' moved' WHERE id = 1002")
    search.check()


def test_keys_swapped_in_one_transaction(search: Search, pg: Postgres) -> None:
    """[6] By way of a third key, again and again, with other rows between."""
    begin(search)
    pg.sql("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 10) i")
    for _ in range(5):
        in_one_transaction(
            pg,
            "UPDATE t SET id = -1 WHERE id = 1",
            "UPDATE t SET id = 1 WHERE id = 2",
            "UPDATE t SET v = v || '.' WHERE id = 3",
            "UPDATE t SET id = 2, v = v || '+' WHERE id = -1",
        )
    search.check()


def test_a_key_change_to_a_key_that_was_deleted_and_back(search: Search, pg: Postgres) -> None:
    """[6]"""
    begin(search)
    pg.sql("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    search.check()
    in_one_transaction(pg, "DELETE FROM t WHERE id = 2", "UPDATE t SET id = 2 WHERE id = 1")
    search.check()
    in_one_transaction(pg, "UPDATE t SET id = 1 WHERE id = 2", "INSERT INTO t VALUES (2, 'again')", "DELETE FROM t WHERE id = 1")
    search.check()
    pg.sql("UPDATE t SET id = 1; INSERT INTO t VALUES (2, 'third')")
    search.check()


def test_a_key_that_two_rows_may_share_for_a_moment_is_none(search: Search, pg: Postgres) -> None:
    """Swapped at once under a deferrable constraint, the second row's move would delete what the first one's wrote."""
    begin(search, "id int PRIMARY KEY DEFERRABLE, v text", "FULL")
    pg.sql("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 10) i")
    pg.sql("UPDATE t SET id = 3 - id WHERE id IN (1, 2)")
    assert "no key" in search.wait_state("stopped")["last_error"]
    assert "key" not in search.oneslot.changes()[0]


def test_a_chain_of_key_changes_in_one_statement(search: Search, pg: Postgres) -> None:
    """Every row takes its neighbour's former key, from the far end."""
    begin(search)
    pg.sql("INSERT INTO t SELECT i * 10, 'v' || i FROM generate_series(1, 500) i")
    pg.sql("UPDATE t SET id = id + 1")
    with pg.connect(autocommit=False) as connection:
        for number in range(500, 400, -1):
            connection.execute(f"UPDATE t SET id = id + 10 WHERE id = {number * 10 + 1}")
    search.check()


# --- one row often, one transaction large


def test_one_row_changed_ten_thousand_times_in_one_transaction(search: Search, pg: Postgres) -> None:
    """[12]"""
    begin(search, "id int PRIMARY KEY, n int, v text")
    pg.sql("INSERT INTO t VALUES (1, 0, 'a'), (2, 0, 'b')")
    pg.sql("DO $$ BEGIN FOR i IN 1..10000 LOOP UPDATE t SET n = i WHERE id = 1; END LOOP; END $$")
    pg.sql("DO $$ BEGIN FOR i IN 1..500 LOOP DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, i, 'b'); END LOOP; END $$")
    search.check(timeout=120)


@pytest.mark.timeout(600)
def test_a_transaction_larger_than_many_batches(search: Search, pg: Postgres) -> None:
    """[12] With updates and deletes of its own rows."""
    begin(search, "id int PRIMARY KEY, n int, v text")
    in_one_transaction(
        pg,
        "INSERT INTO t SELECT i, 0, repeat('v', 100 + i % 900) FROM generate_series(1, 60000) i",
        "UPDATE t SET n = 1 WHERE id % 3 = 0",
        "DELETE FROM t WHERE id % 5 = 0",
    )
    search.check(timeout=240)


# --- TRUNCATE


def test_truncate_empties_the_index(search: Search, pg: Postgres) -> None:
    """[5] Also what was not refreshed, and nothing of other tables."""
    pg.sql("CREATE TABLE u (id int PRIMARY KEY)")
    begin(search)
    pg.sql("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 3000) i; INSERT INTO u VALUES (1)")
    pg.sql("TRUNCATE t")
    search.check("public.t", "public.u")
    assert search.documents() == {}
    pg.sql("INSERT INTO t VALUES (1, 'again')")
    search.check()


def test_truncate_and_insert_in_one_transaction(search: Search, pg: Postgres) -> None:
    """[5]"""
    begin(search)
    pg.sql("INSERT INTO t SELECT i, 'old' FROM generate_series(1, 100) i")
    in_one_transaction(
        pg,
        "INSERT INTO t VALUES (200, 'old')",
        "UPDATE t SET v = 'newer' WHERE id = 7",
        "TRUNCATE t",
        "INSERT INTO t SELECT i, 'new' FROM generate_series(50, 150) i",
        "UPDATE t SET v = 'newest' WHERE id = 60",
    )
    search.check()
    pg.sql("TRUNCATE t; INSERT INTO t VALUES (1, 'a'); TRUNCATE t; INSERT INTO t VALUES (2, 'b')")
    search.check()


def test_a_truncate_that_is_replayed_removes_nothing_newer(search: Search, pg: Postgres) -> None:
    """[5]"""
    begin(search)
    pg.sql("INSERT INTO t SELECT i, 'old' FROM generate_series(1, 50) i")
    pg.sql("TRUNCATE t")
    pg.sql("INSERT INTO t SELECT i, 'new' FROM generate_series(40, 60) i")
    search.check()
    before = search.versions()
    search.replay()
    search.check()
    assert search.versions() == before


def test_truncate_of_several_tables(search: Search, pg: Postgres) -> None:
    pg.sql("CREATE TABLE parent (id int PRIMARY KEY)")
    pg.sql("CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent)")
    begin(search)
    pg.sql("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1); INSERT INTO t VALUES (1, 'stays')")
    in_one_transaction(pg, "TRUNCATE parent CASCADE", "INSERT INTO parent VALUES (2)")
    search.check("public.parent", "public.child", "public.t")


# --- unchanged TOAST


def test_an_unchanged_value_is_taken_from_the_document(search: Search, pg: Postgres) -> None:
    """[7] The document is there: no row has to be read again."""
    begin(search, "id int PRIMARY KEY, n int, big text, js jsonb")
    pg.sql(f"INSERT INTO t SELECT i, 0, {BIG}, jsonb_build_object('k', {BIG}) FROM generate_series(1, 20) i")
    for number in range(5):
        pg.sql(f"UPDATE t SET n = {number}")
    search.check()
    assert count_ops(search, "read") == 0
    assert any(change.get("unchanged") for change in search.oneslot.changes()), "the case happened"


def test_an_unchanged_value_in_the_transaction_that_wrote_it(search: Search, pg: Postgres) -> None:
    """[7] Insert and update in one batch, with a delete and an insert again between."""
    begin(search, "id int PRIMARY KEY, n int, big text")
    in_one_transaction(
        pg,
        f"INSERT INTO t VALUES (1, 0, {BIG}), (2, 0, {BIG}), (3, 0, {BIG})",
        "UPDATE t SET n = 1",
        "DELETE FROM t WHERE id = 2",
        f"INSERT INTO t VALUES (2, 2, {BIG})",
        "UPDATE t SET n = 3 WHERE id = 2",
        "UPDATE t SET big = NULL WHERE id = 3",
        "UPDATE t SET n = 4 WHERE id = 3",
    )
    search.check()
    assert count_ops(search, "read") == 0


def test_a_value_set_to_null_is_not_brought_back(search: Search, pg: Postgres) -> None:
    begin(search, "id int PRIMARY KEY, n int, big text, other text")
    pg.sql(f"INSERT INTO t VALUES (1, 0, {BIG}, {BIG})")
    pg.sql("UPDATE t SET n = 1")
    pg.sql("UPDATE t SET big = NULL")
    pg.sql("UPDATE t SET n = 2")
    search.check()
    assert search.documents()["1"].source["big"] is None


def test_an_unchanged_value_without_a_document_is_read_again(search: Search, pg: Postgres) -> None:
    """[7] Somebody removed the document: the row comes through the log once more."""
    begin(search, "id int PRIMARY KEY, n int, big text")
    pg.sql(f"INSERT INTO t SELECT i, 0, {BIG} FROM generate_series(1, 5) i")
    search.check()
    for id in ("2", "4"):
        search.es.ask("DELETE", f"/public.t/_doc/{id}?refresh=true&version={search.versions()[id]}&version_type=external_gte")
    pg.sql("UPDATE t SET n = 1 WHERE id <= 3")
    pg.sql("UPDATE t SET n = 1 WHERE id > 3")
    search.check()
    assert {change["new"]["id"] for change in search.oneslot.changes(ops="read")} == {2, 4}
    pg.sql("UPDATE t SET n = 2")
    search.check()
    assert count_ops(search, "read") == 2, "what was read is trusted from then on"


def test_a_row_that_waits_to_be_read_again_lends_no_value(search: Search, pg: Postgres) -> None:
    """[7] The first update cannot be proven (the document does not know the column's new name), so the document lacks
    its `b`; the second one could take `b` from there, and the third carries it to another key."""
    begin(search, "id int PRIMARY KEY, a text, b text")
    pg.sql(f"INSERT INTO t VALUES (1, {BIG}, {BIG}), (3, {BIG}, {BIG})")
    search.check()
    pg.sql("ALTER TABLE t RENAME a TO a2")
    in_one_transaction(
        pg,
        f"UPDATE t SET b = {BIG}",
        "UPDATE t SET a2 = 'x'",
        "UPDATE t SET id = 2 WHERE id = 1",
    )
    search.check()
    assert len(search.oneslot.changes(ops="read")) >= 1, "the case happened"


def test_a_row_with_a_very_long_key_is_read_again(search: Search, pg: Postgres) -> None:
    begin(search, "id text PRIMARY KEY, v text, big text")
    pg.sql(f"INSERT INTO t VALUES (repeat('k', 100000), 'one', {BIG})")
    search.check()
    [(id, version)] = search.versions().items()
    search.es.ask("DELETE", f"/public.t/_doc/{quote(id)}?refresh=true&version={version}&version_type=external_gte")
    pg.sql("UPDATE t SET v = 'two'")
    search.check()
    assert len(search.oneslot.changes(ops="read")) == 1


def test_a_row_that_is_gone_is_not_read_again(search: Search, pg: Postgres) -> None:
    """It was deleted before it could be: no document, no letter, and the sink goes on."""
    begin(search, "id int PRIMARY KEY, n int, big text")
    pg.sql(f"INSERT INTO t SELECT i, 0, {BIG} FROM generate_series(1, 5) i")
    search.check()
    search.es.ask("DELETE", f"/public.t/_doc/2?version={search.versions()['2']}&version_type=external_gte")
    in_one_transaction(pg, "UPDATE t SET n = 1", "DELETE FROM t WHERE id = 2")
    search.check()
    pg.sql("UPDATE t SET n = 2")
    search.check()


def test_an_unchanged_value_under_full_comes_from_the_old_row(search: Search, pg: Postgres) -> None:
    """[7] Document present or not."""
    begin(search, "id int PRIMARY KEY, n int, big text", "FULL")
    pg.sql(f"INSERT INTO t SELECT i, 0, {BIG} FROM generate_series(1, 5) i")
    search.check()
    search.es.ask("DELETE", f"/public.t/_doc/2?version={search.versions()['2']}&version_type=external_gte")
    pg.sql("UPDATE t SET n = 1")
    search.check()
    assert count_ops(search, "read") == 0


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_a_key_change_carries_the_unchanged_value(search: Search, pg: Postgres, identity: str) -> None:
    """[6, 7] Also in a chain, a swap, and right behind the insert."""
    begin(search, "id int PRIMARY KEY, n int, big text", identity)
    pg.sql(f"INSERT INTO t SELECT i, 0, {BIG} FROM generate_series(1, 6) i")
    pg.sql("UPDATE t SET id = 100 WHERE id = 1")
    in_one_transaction(
        pg,
        "UPDATE t SET id = -1 WHERE id = 2",
        "UPDATE t SET id = 2 WHERE id = 3",
        "UPDATE t SET id = 3 WHERE id = -1",
        "UPDATE t SET n = 7",
    )
    in_one_transaction(pg, f"INSERT INTO t VALUES (50, 0, {BIG})", "UPDATE t SET id = 51 WHERE id = 50", "UPDATE t SET id = 52 WHERE id = 51")
    search.check()


def test_an_unchanged_value_behind_a_dead_letter_is_read_again(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """[7, 9] The document is there, but an earlier record never arrived: its value must not be taken from it."""
    search = faulty
    begin(search, "id int PRIMARY KEY, n int, big text")
    pg.sql(f"INSERT INTO t SELECT i, 0, {BIG} FROM generate_series(1, 3) i")
    search.check()
    fake_es.inject(refuse_items(400, "mapper_parsing_exception", lambda action: action.id == "2"))
    pg.sql(f"UPDATE t SET big = {BIG} WHERE id = 2")
    search.wait_letters(1)
    pg.sql("UPDATE t SET n = 1")
    search.check()
    assert [change["new"]["id"] for change in search.oneslot.changes(ops="read")] == [2]


def count_ops(search: Search, op: str) -> int:
    return len(search.oneslot.changes(ops=op))


# --- replay


def write_a_history(pg: Postgres) -> None:
    pg.sql(f"INSERT INTO t SELECT i, 0, {BIG} FROM generate_series(1, 60) i")
    pg.sql("UPDATE t SET n = n + 1 WHERE id % 2 = 0")
    pg.sql("DELETE FROM t WHERE id % 5 = 0")
    pg.sql("UPDATE t SET id = id + 1000 WHERE id % 7 = 0")
    in_one_transaction(pg, "DELETE FROM t WHERE id = 1", f"INSERT INTO t VALUES (1, 9, {BIG})", "UPDATE t SET n = 10 WHERE id = 1")
    pg.sql("UPDATE t SET n = n + 1 WHERE id % 3 = 0")


HISTORY = "id int PRIMARY KEY, n int, big text"


def test_a_replay_twice_leaves_the_index_unchanged(search: Search, pg: Postgres) -> None:
    """[3] 409 counts as success: nothing is rejected, nothing is read again."""
    begin(search, HISTORY)
    write_a_history(pg)
    search.check()
    before = search.documents()
    for _ in range(2):
        assert search.replay() > 0
        search.check()
        assert search.documents() == before
    assert count_ops(search, "read") == 0


def test_a_replay_from_the_middle_leaves_the_index_unchanged(search: Search, pg: Postgres) -> None:
    begin(search, HISTORY)
    write_a_history(pg)
    search.check()
    before = search.documents()
    changes = search.oneslot.changes()
    for change in changes[1 :: max(1, len(changes) // 7)]:
        search.replay(change["offset"])
        assert search.documents() == before


def test_a_second_index_filled_by_replay_equals_the_live_one(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    """A sink added later gets everything from the beginning; documents and versions are the same."""
    search = make_search(make_oneslot, pg, es)
    begin(search, HISTORY)
    write_a_history(pg)
    search.check()
    search.oneslot.stop()
    second = {"kind": "elasticsearch", "url": es.url, "index": "second-{table}"}
    search.oneslot.change_config(sinks={"second": second})
    search.start()
    pg.sql("UPDATE t SET n = 100 WHERE id = 2")
    search.check()
    search.check(name="second")
    live, copy = search.documents(), search.documents(name="second")
    assert {id: (d.version, d.source) for id, d in live.items()} == {id: (d.version, d.source) for id, d in copy.items()}


def forget_tombstones(search: Search) -> None:
    """More than gc_deletes later: a document that was deleted may be written with any version again."""
    es, index = search.es, search.index("public.t")
    es.set(index, gc_deletes="1ms")
    es.ask("PUT", f"/{index}/_doc/dropped", {})
    es.ask("DELETE", f"/{index}/_doc/dropped?refresh=true")

    def is_forgotten() -> bool:
        es.ask("POST", f"/{index}/_refresh")
        answer = es.request("PUT", f"/{index}/_doc/dropped?version=1&version_type=external_gte", {})
        return answer.status < 300

    wait_until(is_forgotten, 90, "the tombstone is gone")
    es.ask("DELETE", f"/{index}/_doc/dropped?version=2&version_type=external_gte&refresh=true")


@pytest.mark.timeout(400)
def test_a_replay_long_after_the_deletes_ends_equal_to_the_table(search: Search, pg: Postgres) -> None:
    """[4] The older write brings the document back; the later delete of the same replay removes it."""
    begin(search, HISTORY)
    write_a_history(pg)
    search.check()
    forget_tombstones(search)
    search.replay()
    search.check()
    pg.sql("TRUNCATE t")
    pg.sql(f"INSERT INTO t VALUES (3, 3, {BIG})")
    search.check()
    forget_tombstones(search)
    search.replay()
    search.check()


def test_a_replay_after_the_node_was_restarted_ends_equal_to_the_table(search: Search, pg: Postgres) -> None:
    """[4] A restart forgets tombstones too."""
    begin(search, HISTORY)
    write_a_history(pg)
    search.check()
    search.es.ask("POST", "/_all/_flush")
    search.es.restart()
    search.replay()
    search.check()


def test_a_late_worker_does_no_harm(search: Search, pg: Postgres) -> None:
    """Stopped in the middle of its work, past everything, and continued."""
    begin(search)
    pg.sql("INSERT INTO t SELECT i, 'old' FROM generate_series(1, 5000) i")
    search.oneslot.kill("sink", signal.SIGSTOP)
    pg.sql("UPDATE t SET v = 'new'")
    pg.sql("DELETE FROM t WHERE id % 2 = 0")
    search.oneslot.wait_durable(pg)
    search.oneslot.kill("sink", signal.SIGCONT)
    search.check()


def test_without_unchanged_columns_an_absent_document_is_written_whole(search: Search, pg: Postgres) -> None:
    begin(search)
    pg.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    search.check()
    search.es.ask("DELETE", f"/public.t/_doc/1?version={search.versions()['1']}&version_type=external_gte")
    pg.sql("UPDATE t SET v = 'c'")
    search.check()
