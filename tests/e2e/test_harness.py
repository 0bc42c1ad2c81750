"""The judge judged: what fold, check_log and table_rows must notice, and that a server of a test's own works.
Every other verdict of these folders rests on them."""

from __future__ import annotations

import time
from typing import Any, Callable

import psycopg
import pytest
from harness import FoldError, Postgres, assert_tables_equal, check_log, fold, table_rows

Change = dict[str, Any]


def change(op: str, number: int, key: Any = None, **more: Any) -> Change:
    row = {"offset": number, "epoch": 1, "lsn": f"0/{number:X}", "xid": number, "seq": 0, "op": op}
    row |= {"schema": "public", "table": "t"}
    if key is not None:
        row["key"] = {"id": key}
    return row | more


def rows_of(*changes: Change) -> list[dict[str, Any]]:
    return list(fold(changes)["public.t"].values())


def insert(number: int, key: Any, **values: Any) -> Change:
    return change("insert", number, key, new={"id": key, **values})


def test_fold_follows_updates_deletes_and_truncates() -> None:
    first = [insert(1, "a", v=1), insert(2, "b", v=2), change("update", 3, "a", new={"id": "a", "v": 3})]
    assert rows_of(*first) == [{"id": "b", "v": 2}, {"id": "a", "v": 3}]
    assert rows_of(*first, change("delete", 4, "b", old={"id": "b"})) == [{"id": "a", "v": 3}]
    assert rows_of(*first, change("truncate", 4)) == []


def test_fold_moves_a_row_to_its_new_key_and_keeps_unchanged_values() -> None:
    moved = change("update", 2, "b", new={"id": "b"}, old={"id": "a"}, unchanged=["v"])
    assert rows_of(insert(1, "a", v="long"), moved) == [{"id": "b", "v": "long"}]


def test_fold_follows_a_swap_of_keys_under_full_identity() -> None:
    swap = [
        change("update", 3, "b", new={"id": "b", "v": 1}, old={"id": "a", "v": 1}),
        change("update", 4, "a", new={"id": "a", "v": 2}, old={"id": "b", "v": 2}),
    ]
    found = rows_of(insert(1, "a", v=1), insert(2, "b", v=2), *swap)
    assert sorted(found, key=lambda row: row["id"]) == [{"id": "a", "v": 2}, {"id": "b", "v": 1}]


def test_fold_counts_equal_rows_of_a_table_without_key() -> None:
    row = {"v": 1}
    same = [change("insert", 1, new=row), change("insert", 2, new=row)]
    assert rows_of(*same) == [row, row]
    assert rows_of(*same, change("delete", 3, old=row)) == [row]


@pytest.mark.parametrize(
    "wrong",
    [
        [change("update", 1, "a", new={"id": "a"})],
        [change("delete", 1, "a", old={"id": "a"})],
        [insert(1, "a"), insert(2, "a")],
        [change("upsert", 1, "a", new={})],
    ],
    ids=["update of nothing", "delete of nothing", "insert twice", "unknown op"],
)
def test_fold_refuses_what_cannot_have_happened(wrong: list[Change]) -> None:
    with pytest.raises(FoldError):
        fold(wrong)


@pytest.mark.parametrize(
    "second, complaint",
    [
        (insert(2, "b") | {"lsn": "0/1", "xid": 1}, "twice"),
        (insert(1, "b") | {"lsn": "0/2"}, "offsets"),
        (insert(2, "b") | {"lsn": "0/0"}, "LSNs"),
        (insert(2, "b") | {"seq": 1}, "seq"),
        (insert(2, "b") | {"lsn": "0/1", "xid": 1, "seq": 2}, "seq"),
    ],
)
def test_check_log_notices(second: Change, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_log([insert(1, "a"), second])


def test_a_server_starts_fast_stops_and_keeps_its_rows(make_pg: Callable[..., Postgres]) -> None:
    make_pg()  # makes the template, if this is the session's first
    began = time.monotonic()
    pg = make_pg()
    assert time.monotonic() - began < 5, "a start from the template takes well below a second"
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    pg.sql("INSERT INTO t VALUES (1)")
    before = pg.flush_lsn()
    pg.restart("immediate")
    assert pg.sql("SELECT * FROM t") == [(1,)]
    assert pg.flush_lsn() >= before
    pg.stop("fast")
    with pytest.raises(psycopg.OperationalError):
        pg.connect()


def test_role_oneslot_can_do_what_it_has_to(pg: Postgres) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    pg.sql("CREATE PUBLICATION p FOR TABLE t", user="oneslot")
    pg.sql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')", user="oneslot")
    assert pg.slot("s")["plugin"] == "pgoutput"
    assert pg.slot("none") == {}
    assert pg.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'oneslot'") is False


def test_clusters_have_identities(make_pg: Callable[..., Postgres]) -> None:
    def identifier(pg: Postgres) -> int:
        return pg.value("SELECT system_identifier FROM pg_control_system()", user="postgres")

    pg, other = make_pg(), make_pg(new_cluster=True)
    assert identifier(pg) != identifier(other)
    mine = identifier(pg)
    pg.stop()
    copy = pg.clone().start()
    try:
        assert identifier(copy) == mine
    finally:
        copy.close()


def test_table_rows_have_the_types_of_the_interface(pg: Postgres) -> None:
    pg.sql(
        """
        CREATE TABLE t (id bigint PRIMARY KEY, yes bool, real float8, nan float4, n numeric, doc jsonb, raw bytea,
                        at timestamptz, nothing text, gone int, twice bigint GENERATED ALWAYS AS (id * 2) STORED);
        ALTER TABLE t DROP COLUMN gone;
        INSERT INTO t VALUES (9007199254740993, true, 0.1, 'NaN', 1.50, '{"a": [1, null]}', '\\x00ff',
                              '2026-01-02 03:04:05.6+02', NULL)
        """
    )
    assert list(table_rows(pg, "public.t").values()) == [
        {
            "id": 9007199254740993,
            "yes": True,
            "real": 0.1,
            "nan": "NaN",
            "n": "1.50",
            "doc": {"a": [1, None]},
            "raw": "\\x00ff",
            "at": "2026-01-02 01:04:05.6+00",
            "nothing": None,
        }
    ]


def test_comparison_names_what_differs(pg: Postgres) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    right = fold([insert(1, 1, v="a"), insert(2, 2, v="b")])
    assert_tables_equal(pg, right, ["public.t"])
    for wrong, complaint in (
        ([insert(1, 1, v="a")], "lacks 1 of 2"),
        ([insert(1, 1, v="a"), insert(2, 2, v="b"), insert(3, 3, v="c")], "has too much 1"),
        ([insert(1, 1, v="a"), insert(2, 2, v="c")], "1 rows differ"),
    ):
        with pytest.raises(AssertionError, match=complaint):
            assert_tables_equal(pg, fold(wrong), ["public.t"])
