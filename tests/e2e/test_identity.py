"""P3: `slot.confirmed_flush_lsn <= what the log can prove`. A slot that somebody moved, dropped or made again, another
cluster, another history: refused with the missing range, nothing changed at the server, what is there still served."""

from __future__ import annotations

import json
import os
import signal
from typing import Any, Callable

import pytest
from harness import Oneslot, Postgres, assert_tables_equal, check_log, fold, lsn, wait_until

Make = Callable[..., Any]


def begin(pg: Postgres, oneslot: Oneslot) -> list[dict[str, Any]]:
    """A log with three changes; nothing runs afterwards."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    oneslot.start()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t VALUES (1), (2), (3)")
    oneslot.wait_caught_up(pg)
    changes = oneslot.changes()
    assert len(changes) == 3
    oneslot.stop()
    return changes


def at_the_server(pg: Postgres) -> str:
    """What must stay as it is: slots and publications."""
    slots = pg.sql("SELECT slot_name, plugin, database, restart_lsn::text, confirmed_flush_lsn::text, active"
                   " FROM pg_replication_slots ORDER BY 1", user="postgres")
    tables = pg.sql("SELECT pubname, schemaname, tablename FROM pg_publication_tables ORDER BY 1, 2, 3")
    return json.dumps([slots, tables, pg.sql("SELECT pubname FROM pg_publication")])


def assert_refused(
    pg: Postgres, oneslot: Oneslot, changes: list[dict[str, Any]], *says: str, looks_again: bool = False
) -> str:
    """Refused for a reason that names all of this; everything else goes on. Returns the reason."""
    before = at_the_server(pg)
    oneslot.start()
    source = oneslot.wait_state("refused")
    for text in says:
        assert text in source["last_error"], source["last_error"]
    pid = oneslot.pid("replicator")
    assert oneslot.changes() == changes, "the log is served"
    assert oneslot.http.get("/healthz").status == 200
    oneslot.wait_settled()
    pg.sql("CREATE TABLE IF NOT EXISTS other (id int PRIMARY KEY)")
    pg.sql("INSERT INTO other SELECT coalesce(max(id), 0) + 1 FROM other")
    assert at_the_server(pg) == before, "the server is as it was"
    if looks_again:
        looks = pg.log_text().count("IDENTIFY_SYSTEM")
        oneslot.wait(lambda: pg.log_text().count("IDENTIFY_SYSTEM") > looks, 30, "it looks again, and refuses again")
        assert oneslot.lag()["source"]["state"] == "refused"
        assert at_the_server(pg) == before
    assert oneslot.pid("replicator") == pid and oneslot.pids("run"), "no process ends because of it"
    oneslot.stop()
    return str(source["last_error"])


def replace_server(former: Postgres, other: Postgres) -> Postgres:
    """Another server behind the same dsn."""
    for server in (former, other):
        if server.is_running():
            server.stop()
    other.port = former.port
    other.set()
    return other.start()


# --- a slot that was moved


def test_a_slot_advanced_by_hand_is_refused_with_the_range(pg: Postgres, oneslot: Oneslot) -> None:
    changes = begin(pg, oneslot)
    pg.sql("INSERT INTO t VALUES (4)")
    pg.sql("SELECT pg_replication_slot_advance('oneslot', pg_current_wal_flush_lsn())", user="postgres")
    reached = pg.slot()["confirmed_flush_lsn"]
    says = ("oneslot", reached, "missing", "new log in an empty data_dir")
    reason = assert_refused(pg, oneslot, changes, *says, looks_again=True)
    assert proven_in(reason) < lsn(reached)


def proven_in(reason: str) -> int:
    """The lowest LSN that the reason names: where the missing range begins."""
    found = [lsn(word.strip(",.;:()")) for word in reason.split() if _is_lsn(word.strip(",.;:()"))]
    assert len(found) >= 2, f"no range in: {reason}"
    return min(found)


def _is_lsn(word: str) -> bool:
    high, slash, low = word.partition("/")
    return bool(slash and high and low) and not set(high + low) - set("0123456789ABCDEF")


def test_a_slot_advanced_over_nothing_but_somebody_elses_changes_is_refused_too(
    pg: Postgres, oneslot: Oneslot
) -> None:
    """Nobody can know what was in there."""
    changes = begin(pg, oneslot)
    pg.sql("CREATE TABLE busy AS SELECT generate_series(1, 1000)", database="postgres", user="postgres")
    pg.sql("SELECT pg_replication_slot_advance('oneslot', pg_current_wal_flush_lsn())", user="postgres")
    assert_refused(pg, oneslot, changes, pg.slot()["confirmed_flush_lsn"], "missing")


def test_a_slot_that_stands_below_the_log_is_fine(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    pg.sql("INSERT INTO t VALUES (4)")
    oneslot.start()
    oneslot.wait_caught_up(pg)
    assert_tables_equal(pg, fold(oneslot.changes()), ["public.t"])


# --- a slot that is not there, or not the one


def test_a_dropped_slot_is_refused(pg: Postgres, oneslot: Oneslot) -> None:
    changes = begin(pg, oneslot)
    pg.sql("SELECT pg_drop_replication_slot('oneslot')", user="postgres")
    pg.sql("INSERT INTO t VALUES (4)")
    reason = assert_refused(pg, oneslot, changes, "no longer exists", "missing", "new log in an empty data_dir")
    proven_in(reason)
    assert pg.slot() == {}, "it is not made again in silence"


def test_a_slot_dropped_while_oneslot_runs_is_refused(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    oneslot.start()
    oneslot.wait_streaming()
    drop = "SELECT pg_terminate_backend(active_pid), pg_drop_replication_slot(slot_name) FROM pg_replication_slots"

    def dropped() -> bool:
        try:
            pg.sql(drop, user="postgres")
        except Exception as error:  # noqa: BLE001 in use: the replicator was quicker
            assert "is active" in str(error), error
            return False
        return True

    oneslot.wait(dropped, 20, "the slot is dropped")
    assert "no longer exists" in oneslot.wait_state("refused")["last_error"]
    assert pg.slot() == {}


def test_a_recreated_slot_is_refused(pg: Postgres, oneslot: Oneslot) -> None:
    changes = begin(pg, oneslot)
    pg.sql("SELECT pg_drop_replication_slot('oneslot')", user="postgres")
    pg.sql("INSERT INTO t VALUES (4)")
    pg.sql("SELECT pg_create_logical_replication_slot('oneslot', 'pgoutput')", user="postgres")
    assert_refused(pg, oneslot, changes, pg.slot()["confirmed_flush_lsn"], "advanced or recreated", "missing")


def test_a_slot_that_the_log_never_used_is_refused(pg: Postgres, oneslot: Oneslot) -> None:
    """It belongs to another log or another reader: two that take turns would each miss changes."""
    pg.sql("SELECT pg_create_logical_replication_slot('oneslot', 'pgoutput')", user="postgres")
    says = ('the slot "oneslot" exists', "another log", "oneslot uninstall", "pg_drop_replication_slot('oneslot')")
    assert_refused(pg, oneslot, [], *says, looks_again=True)


def test_a_slot_of_another_plugin_is_refused(pg: Postgres, oneslot: Oneslot) -> None:
    changes = begin(pg, oneslot)
    pg.sql("SELECT pg_drop_replication_slot('oneslot')", user="postgres")
    pg.sql("SELECT pg_create_logical_replication_slot('oneslot', 'test_decoding')", user="postgres")
    assert_refused(pg, oneslot, changes, "test_decoding")


def test_a_lost_slot_is_refused(make_pg: Make, make_oneslot: Make) -> None:
    pg = make_pg(settings={"max_slot_wal_keep_size": "'16MB'", "max_wal_size": "'32MB'", "min_wal_size": "'32MB'"})
    oneslot = make_oneslot(pg)
    changes = begin(pg, oneslot)

    def is_lost() -> bool:
        pg.sql("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t")
        pg.sql("SELECT pg_switch_wal()", user="postgres")
        pg.sql("CHECKPOINT", user="postgres")
        return pg.slot()["wal_status"] == "lost"

    wait_until(is_lost, 60, "the slot is lost")
    proven_in(assert_refused(pg, oneslot, changes, "invalidated", "missing", "max_slot_wal_keep_size"))


# --- another history


@pytest.mark.parametrize("with_slot", [False, True], ids=["empty", "with a slot of that name"])
def test_another_cluster_is_refused(pg: Postgres, make_pg: Make, oneslot: Oneslot, with_slot: bool) -> None:
    changes = begin(pg, oneslot)
    other = make_pg(new_cluster=True)
    other.sql("CREATE TABLE t (id int PRIMARY KEY)")
    if with_slot:
        other.sql("SELECT pg_create_logical_replication_slot('oneslot', 'pgoutput')", user="postgres")
    was, is_now = system_of(pg), system_of(other)
    replace_server(pg, other)
    assert_refused(other, oneslot, changes, was, is_now, "cluster")
    assert bool(other.slot()) == with_slot


def system_of(pg: Postgres) -> str:
    return str(pg.value("SELECT system_identifier FROM pg_control_system()", user="postgres"))


def test_another_database_is_refused(pg: Postgres, oneslot: Oneslot) -> None:
    changes = begin(pg, oneslot)
    oneslot.change_config(source={"dsn": pg.dsn("oneslot", "postgres")})
    assert_refused(pg, oneslot, changes, '"app"', '"postgres"')


def test_an_older_copy_of_the_cluster_is_refused(pg: Postgres, oneslot: Oneslot) -> None:
    """Same system, same timeline, slot and all, restored from before the log's last changes."""
    begin(pg, oneslot)
    pg.stop()
    copy = pg.clone()
    pg.start()
    oneslot.start()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t SELECT generate_series(1000, 3000)")
    oneslot.wait_caught_up(pg)
    changes = oneslot.changes()
    oneslot.stop()
    try:
        replace_server(pg, copy)
        assert_refused(copy, oneslot, changes, "older copy")
    finally:
        copy.close()


def test_a_newer_timeline_is_refused(pg: Postgres, oneslot: Oneslot) -> None:
    changes = begin(pg, oneslot)
    pg.stop()
    copy = pg.clone()
    try:
        (copy.data / "recovery.signal").touch()
        copy.set(restore_command="'false'")
        replace_server(pg, copy)
        wait_until(lambda: not copy.value("SELECT pg_is_in_recovery()"), 30, "it is promoted")
        assert_refused(copy, oneslot, changes, "timeline 2", "timeline 1")
    finally:
        copy.close()


# --- dying between the intent and the slot


def open_writer(pg: Postgres) -> Any:
    """A transaction that a slot's creation has to wait for."""
    writer = pg.connect(autocommit=False)
    writer.execute("INSERT INTO t VALUES (1)")
    return writer


def start_until_the_slot_is_being_created(pg: Postgres, oneslot: Oneslot) -> None:
    oneslot.start_broker()
    oneslot.wait_serving()
    oneslot.start_replicator()
    oneslot.wait(lambda: pg.slot() and pg.slot()["confirmed_flush_lsn"] is None, 30, "the slot is being created")


def check_adopted(pg: Postgres, oneslot: Oneslot, ids: list[int]) -> None:
    oneslot.start_replicator()
    oneslot.wait_streaming()
    assert oneslot.log_contains("ev=slot_adopted")
    oneslot.wait_durable(pg)
    changes = oneslot.changes()
    check_log(changes)
    assert [change["new"]["id"] for change in changes] == ids, "everything from the slot's start is there"


def test_a_slot_whose_creation_was_not_recorded_is_adopted(pg: Postgres, oneslot: Oneslot) -> None:
    """The replicator stands still while its slot comes to be, and is killed before it hears of it."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    writer = open_writer(pg)
    start_until_the_slot_is_being_created(pg, oneslot)
    oneslot.kill("replicator", signal.SIGSTOP)
    writer.commit()
    writer.close()
    oneslot.wait(lambda: pg.slot()["confirmed_flush_lsn"] and not pg.slot()["active"], 30, "the slot is created")
    pg.sql("INSERT INTO t VALUES (2)")
    oneslot.kill_and_wait("replicator")
    assert not oneslot.log_contains("ev=slot_created")
    pg.sql("INSERT INTO t VALUES (3)")
    check_adopted(pg, oneslot, [2, 3])


def test_a_replicator_killed_while_its_slot_is_being_created_waits_and_adopts(pg: Postgres, oneslot: Oneslot) -> None:
    """The server goes on creating the slot for one that is gone; it must be neither refused nor made twice."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    writer = open_writer(pg)
    start_until_the_slot_is_being_created(pg, oneslot)
    oneslot.kill_and_wait("replicator")
    oneslot.start_replicator()
    assert "still being created" in str(oneslot.wait_state("retrying")["last_error"])
    oneslot.kill_and_wait("replicator")
    writer.commit()
    writer.close()
    oneslot.wait(lambda: not pg.slot() or pg.slot()["confirmed_flush_lsn"], 30, "the creation has ended")
    if pg.slot():
        pg.sql("INSERT INTO t VALUES (2)")
        check_adopted(pg, oneslot, [2])
    else:  # the server noticed that its client is gone and gave the slot up
        oneslot.start_replicator()
        oneslot.wait_streaming()


def test_a_broker_killed_between_intent_and_slot_knows_of_the_intent(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    writer = open_writer(pg)
    start_until_the_slot_is_being_created(pg, oneslot)
    oneslot.kill("replicator", signal.SIGSTOP)
    oneslot.kill_and_wait("broker")
    writer.commit()
    writer.close()
    oneslot.wait(lambda: pg.slot()["confirmed_flush_lsn"] and not pg.slot()["active"], 30, "the slot is created")
    pg.sql("INSERT INTO t VALUES (2)")
    oneslot.kill_and_wait("replicator")
    oneslot.start_broker()
    oneslot.wait_serving()
    check_adopted(pg, oneslot, [2])
    assert not oneslot.log_contains("belongs to another log")
    assert os.path.exists(oneslot.data / "state")
