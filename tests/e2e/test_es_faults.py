"""What goes wrong between the sink and its index, and that nothing is lost, doubled or passed over for it: the documents
are the table afterwards. Numbers in brackets: the pitfalls of facts/elasticsearch.md, section G."""

from __future__ import annotations

import base64
import email.utils
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable

import pytest
from harness import Elasticsearch, FakeES, Postgres, Search, free_port, make_search
from harness.elasticsearch import MAX_BODY_MIB, PASSWORD, USER, VERSION
from harness.fake_es import (
    Fault,
    change_items,
    cut_off,
    cut_short,
    drip,
    drop_after_applying,
    drop_before,
    endless,
    garble,
    pretend,
    refuse_items,
    status,
    truncate,
)
from harness.system import ACCOUNT, WorkFolder

Make = Callable[..., Any]
REJECTED = "es_rejected_execution_exception"
MAPPING = "mapper_parsing_exception"
WITH_SECURITY = "7.17.9" if VERSION.startswith("opensearch") else VERSION


def begin(search: Search, columns: str = "id int PRIMARY KEY, v text") -> None:
    search.pg.sql(f"CREATE TABLE t ({columns})")
    search.start()


def write(pg: Postgres, first: int = 1, last: int = 200) -> None:
    """Inserts, updates of some, deletes of some, key changes of some."""
    ids = f"id BETWEEN {first} AND {last}"
    pg.sql(f"INSERT INTO t SELECT i, 'v' || i FROM generate_series({first}, {last}) i")
    pg.sql(f"UPDATE t SET v = v || ' again' WHERE {ids} AND id % 3 = 0")
    pg.sql(f"DELETE FROM t WHERE {ids} AND id % 5 = 0")
    pg.sql(f"UPDATE t SET id = id + 100000 WHERE {ids} AND id % 7 = 0")


def has_even_id(action: Any) -> bool:
    return action.id.isdigit() and int(action.id) % 2 == 0


# --- one answer that is not the plain success


def busy_until(seconds: float) -> Fault:
    """429 with a Retry-After that is a date, in whole seconds from the request on."""

    def fault(request: Any, forward: Any) -> Any:
        date = email.utils.formatdate(time.time() + seconds, usegmt=True)
        return status(429, REJECTED, {"Retry-After": date})(request, forward)

    return fault


WHOLE: dict[str, Fault] = {
    "429": status(429, REJECTED),
    "429 with Retry-After": status(429, REJECTED, {"Retry-After": "1"}),
    "429 with Retry-After as a date": busy_until(1),
    "429 with Retry-After as a date that is past": busy_until(-86400),
    "429 with a Retry-After that is none": status(429, REJECTED, {"Retry-After": "soon"}),
    "500": status(500),
    "502": status(502),
    "503": status(503, "", {"Retry-After": "1"}),
    "408": status(408),
    "cut before": drop_before,
    "cut after applying": drop_after_applying,
    "truncated": truncate(0.5),
    "truncated to nothing": truncate(0.0),
    "one item too few": change_items(lambda items: items[:-1]),
    "one item too many": change_items(lambda items: [*items, items[-1]]),
    "no items": change_items(lambda items: []),
    "not JSON": garble(lambda body: b"<html>a proxy's page</html>"),
    "JSON of something else": garble(lambda body: b'{"items":{"index":{"status":200}}}'),
    "empty": garble(lambda body: b""),
    "deeply nested": garble(lambda body: b'{"items":' + b"[" * 100_000),
    "a status of no kind": change_items(lambda items: [{"index": {"status": 10**30}} for _ in items]),
    "429 of some items": refuse_items(429, REJECTED, has_even_id),
    "503 of some items": refuse_items(503, "unavailable_shards_exception", has_even_id),
    "429 of all items": refuse_items(429, REJECTED),
    "one item too few of what was not applied": pretend(lambda items: items[:-1]),
    "one item too many of what was not applied": pretend(lambda items: [*items, items[-1]]),
    "no items of what was not applied": pretend(lambda items: []),
    "broken off before it was applied": pretend(lambda items: items, cut_off),
    "cut short before it was applied": pretend(lambda items: items, cut_short),
}  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_after_bad_answers_the_documents_are_the_table(
    faulty: Search, pg: Postgres, fake_es: FakeES, part: int
) -> None:
    """[1, 2] Nothing is rejected, nothing is missing, nothing stops, whichever answer it was."""
    begin(faulty)
    for number, name in enumerate(list(WHOLE)[part::4]):
        rule = fake_es.inject(WHOLE[name], times=3)
        write(pg, number * 200 + 1, number * 200 + 200)
        faulty.check()
        assert rule.used > 0, name
        print(f"survived: {name}")
        fake_es.heal()


def test_errors_true_with_one_failed_item_is_one_dead_letter(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """[1] HTTP 200 hides nothing, and the others of the batch arrive."""
    begin(faulty)
    fake_es.inject(refuse_items(400, MAPPING, lambda action: action.id == "7"), times=None)
    pg.sql("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 50) i")
    (letter,) = faulty.wait_letters(1)
    faulty.settle()
    assert sorted(faulty.documents(), key=int) == [str(i) for i in range(1, 51) if i != 7]
    assert MAPPING in letter["reason"] and letter["key"] == {"id": 7} and letter["op"] == "insert"
    fake_es.heal()
    pg.sql("UPDATE t SET v = 'good' WHERE id = 7")
    faulty.check()


def test_429_for_as_long_as_it_takes(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """[2] Beyond any number of attempts; the sink says so meanwhile, and no letter is written."""
    begin(faulty)
    rule = fake_es.inject(refuse_items(429, REJECTED), times=None)
    write(pg)
    fake_es.wait_used(rule, 6)
    faulty.wait_state("retrying")
    assert faulty.oneslot.sink("search")["dead_letters"] == 0
    fake_es.heal()
    faulty.check()
    faulty.wait_state("running")


@pytest.mark.parametrize(
    "fault", [status(429, REJECTED, {"Retry-After": "3"}), busy_until(4)], ids=["seconds", "date"]
)
def test_retry_after_is_waited_for(faulty: Search, pg: Postgres, fake_es: FakeES, fault: Fault) -> None:
    """[2] No request of that kind earlier than the target asked for."""
    begin(faulty)
    pg.sql("INSERT INTO t VALUES (1, 'a')")
    faulty.check()
    rule = fake_es.inject(fault, times=1)
    before = len(fake_es.bulks())
    pg.sql("INSERT INTO t VALUES (2, 'b')")
    fake_es.wait_used(rule)
    faulty.check()
    first, second = [request.at for request in fake_es.bulks()[before:]][:2]
    assert 3.0 <= second - first < 10.0


def test_an_answer_larger_than_any_buffer(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """[1] Every item carries an error with a long text: it is read whole, or the sink retries; never taken for good."""
    begin(faulty)
    text = "x" * 20000

    def long_errors(items: list[Any]) -> list[Any]:
        failed = {"status": 429, "error": {"type": REJECTED, "reason": text, "caused_by": {"type": text}}}
        return [{op: failed for op in item} for item in items]

    fake_es.inject(change_items(long_errors), times=3)
    pg.sql("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 2000) i")
    faulty.check()


# --- time


@pytest.mark.parametrize("fault", [drip(1.0), endless], ids=["slow", "endless"])
def test_a_slow_or_endless_answer_times_out(
    make_oneslot: Make, pg: Postgres, es: Elasticsearch, fake_es: FakeES, fault: Fault
) -> None:
    faulty = make_search(make_oneslot, pg, es, via=fake_es, sink={"timeout": "2s"})
    begin(faulty)
    fake_es.inject(fault, times=2)
    write(pg)
    faulty.check(timeout=90)


def test_a_node_that_stands_still_is_waited_for(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    """Connections stay open, nothing is answered; requests end by themselves and are sent again."""
    search = make_search(make_oneslot, pg, es, sink={"timeout": "2s"})
    begin(search)
    write(pg, 1, 100)
    search.check()
    with es.frozen():
        write(pg, 101, 300)
        search.wait_state("retrying", timeout=60)
    search.check(timeout=90)


# --- the node goes away


def test_a_node_killed_again_and_again(search: Search, pg: Postgres) -> None:
    """[2] SIGKILL in the middle of the work, three times; it catches up by itself."""
    begin(search)
    for number in range(3):
        write(pg, number * 2000 + 1, number * 2000 + 2000)
        search.es.kill()
        pg.sql("UPDATE t SET v = v || '.' WHERE id % 4 = 0")
        search.wait_state("retrying", timeout=60)
        search.es.start()
    search.check(timeout=120)


def test_a_sink_that_starts_before_its_node(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    """A refused connection is not an end: it waits, and the other sinks and the slot go on."""
    fake = FakeES(es)
    fake.close()
    search = make_search(make_oneslot, pg, es, url=fake.url, config={"sinks": {"file": {"kind": "file", "path": "./f"}}})
    begin(search)
    write(pg)
    search.settle("file")
    search.wait_state("retrying")
    fake.open()
    search.check()
    fake.close()


def test_several_urls_fail_over(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    first, second = FakeES(es), FakeES(es)
    dead = f"http://127.0.0.1:{free_port()}"
    search = make_search(make_oneslot, pg, es, url=[dead, first.url, second.url])
    begin(search)
    write(pg, 1, 100)
    search.check()
    for number, gone in enumerate((first, second, first), 1):
        gone.close()
        write(pg, number * 1000, number * 1000 + 100)
        search.check()
        gone.open()
    first.close()
    second.close()


# --- what is too much


def test_413_halves_until_it_fits(search: Search, pg: Postgres) -> None:
    """[10] A batch that is six times as long in JSON as in the log, and then beyond what the server takes; all of it
    arrives."""
    begin(search)
    pg.sql("INSERT INTO t SELECT i, repeat(E'\\x01', 1000000) FROM generate_series(1, 12) i")
    search.check(timeout=120)


def test_a_single_row_beyond_the_limit_is_a_dead_letter(search: Search, pg: Postgres) -> None:
    """[10] It alone; the rows beside it arrive, and a later version of it that fits takes its letter away."""
    begin(search)
    size = (MAX_BODY_MIB << 20) + 1000
    pg.sql(f"INSERT INTO t VALUES (1, 'a'), (2, repeat('x', {size})), (3, 'c')")
    (letter,) = search.wait_letters(1, timeout=60)
    search.settle()
    assert sorted(search.documents()) == ["1", "3"] and letter["key"] == {"id": 2} and "413" in letter["reason"]
    pg.sql("UPDATE t SET v = 'fits' WHERE id = 2")
    search.check()


def test_a_400_of_the_whole_request_costs_only_the_record_that_causes_it(
    faulty: Search, pg: Postgres, fake_es: FakeES
) -> None:
    """Halved down to the single record, which is then rejected."""
    begin(faulty)

    def poisoned(request: Any, forward: Any) -> Any:
        return status(400, "illegal_argument_exception")(request, forward) if b"poison" in request.body else forward(request)

    fake_es.inject(poisoned, times=None)
    pg.sql("INSERT INTO t SELECT i, CASE i WHEN 37 THEN 'poison' ELSE 'good' END FROM generate_series(1, 100) i")
    (letter,) = faulty.wait_letters(1)
    faulty.settle()
    assert len(faulty.documents()) == 99 and letter["key"] == {"id": 37}
    pg.sql("UPDATE t SET v = 'good' WHERE id = 37")
    faulty.check()


# --- a person is needed


def test_a_flood_stage_block_pauses_and_rejects_nothing(search: Search, pg: Postgres) -> None:
    """[10]"""
    begin(search)
    write(pg, 1, 50)
    search.check()
    with search.es.read_only("public.t"):
        write(pg, 51, 100)
        search.wait_error("block|read-only|flood")
        assert search.oneslot.sink("search")["dead_letters"] == 0
    search.check(timeout=120)


@pytest.mark.parametrize("block", ["read_only", "write"])
def test_a_block_by_a_person_rejects_nothing(search: Search, pg: Postgres, block: str) -> None:
    begin(search)
    write(pg, 1, 50)
    search.check()
    search.es.set("public.t", **{f"blocks__{block}": True})
    write(pg, 51, 100)
    search.wait_error("block")
    search.es.set("public.t", **{f"blocks__{block}": None})
    search.check(timeout=150)


@pytest.mark.parametrize("code", [401, 403])
def test_refused_credentials_stop_the_sink_and_say_so(faulty: Search, pg: Postgres, fake_es: FakeES, code: int) -> None:
    begin(faulty)
    write(pg, 1, 50)
    faulty.check()
    fake_es.inject(status(code, "security_exception"), times=None, path="/")
    write(pg, 51, 100)
    stopped = faulty.wait_state("stopped")
    assert str(code) in stopped["last_error"] and stopped["dead_letters"] == 0
    fake_es.heal()
    faulty.oneslot.kill("sink")
    faulty.check()


def test_an_item_that_is_forbidden_stops_the_sink(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """HTTP 200 with 403 inside: an API key without rights on one index. No letter for it."""
    begin(faulty)
    rule = fake_es.inject(refuse_items(403, "security_exception"), times=None)
    write(pg)
    fake_es.wait_used(rule)
    assert faulty.wait_state("stopped")["dead_letters"] == 0
    fake_es.heal()
    faulty.oneslot.kill("sink")
    faulty.check()


def test_five_keys_rejected_in_a_row_stop_the_sink(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """A wrong mapping is not a thousand dead letters."""
    begin(faulty)
    pg.sql("INSERT INTO t VALUES (0, 'good')")
    faulty.check()
    fake_es.inject(refuse_items(400, MAPPING), times=None)
    pg.sql("INSERT INTO t SELECT i, 'bad' FROM generate_series(1, 1000) i")
    stopped = faulty.wait_state("stopped")
    assert stopped["dead_letters"] <= 5 and stopped["last_error"]
    fake_es.heal()
    faulty.oneslot.kill("sink")
    faulty.settle()
    if faulty.letters():
        faulty.redrive()
    faulty.check()


def test_an_index_that_somebody_deleted_stops_the_sink(search: Search, pg: Postgres) -> None:
    """Writing on into an empty one would hide that everything before is missing: also in the next session. A replay
    from the beginning makes a new one, whole."""
    begin(search)
    write(pg, 1, 50)
    search.check()
    search.es.clear()
    write(pg, 51, 100)
    stopped = search.wait_state("stopped", timeout=60)
    assert stopped["dead_letters"] == 0 and "replay" in stopped["last_error"]
    assert search.es.indices() == [], "it made none that looks complete"
    for call in ("pause", "resume"):
        assert search.oneslot.http.post(f"/sinks/search/{call}").status == 200
        search.wait_state("paused" if call == "pause" else "stopped", timeout=60)
    assert search.es.indices() == []
    search.replay(timeout=60)
    search.check()


def lose_index(search: Search, ends: Callable[[], None]) -> None:
    """Two tables are filled; one of their indices is deleted while no process of the sink lives, and changes go on."""
    search.pg.sql("CREATE TABLE a (id int PRIMARY KEY, v text)")
    begin(search)
    search.pg.sql("INSERT INTO a SELECT i, 'a' FROM generate_series(1, 50) i")
    write(search.pg, 1, 50)
    search.check("public.a", "public.t")
    ends()
    (index,) = search.es.aliases()["public.t"]
    search.es.ask("DELETE", f"/{index}")
    search.pg.sql("INSERT INTO a SELECT i, 'a' FROM generate_series(51, 100) i")
    write(search.pg, 51, 100)
    search.start()
    stopped = search.wait_state("stopped", timeout=60)
    assert stopped["dead_letters"] == 0
    assert "public.t is gone" in stopped["last_error"] and "replay" in stopped["last_error"]
    assert "public.t" not in search.es.aliases(), "it made none that looks complete"


@pytest.mark.parametrize("how", ["stop", "kill_all"])
def test_an_index_deleted_while_the_sink_was_down_stops_it(make_oneslot: Make, pg: Postgres, es: Elasticsearch, how: str) -> None:
    """The next process knows what the last one had filled; a replay makes it, whole."""
    beside = {"sinks": {"file": {"kind": "file", "path": "./f"}}}
    search = make_search(make_oneslot, pg, es, config=beside)
    lose_index(search, getattr(search.oneslot, how))
    search.oneslot.kill_and_wait("sink:search")
    search.wait_error("public.t is gone")
    assert "public.t" not in es.aliases()
    done = search.oneslot.cli("replay", "search", "--from", "earliest", "--yes")
    assert done.returncode == 0, done
    search.check("public.a", "public.t")
    search.settle("file")
    assert sorted(path.name for path in search.oneslot.data.glob("sink-*")) == [
        "sink-file.lock",
        "sink-search.lock",
        "sink-search.seen",
    ]


def test_after_a_skip_a_lost_index_begins_anew(search: Search, pg: Postgres) -> None:
    """Whoever says skip does without what came before; what comes after counts again."""
    lose_index(search, search.oneslot.stop)
    assert search.oneslot.cli("replay", "search", "--from", "latest", "--skip", "--yes").returncode == 0
    search.settle()
    pg.sql("INSERT INTO t VALUES (1000, 'after')")
    search.settle()
    assert sorted(search.documents()) == ["1000"]
    search.oneslot.stop()
    search.es.clear()
    search.start()
    pg.sql("INSERT INTO t VALUES (1001, 'after')")
    search.wait_state("stopped", timeout=60)
    assert search.es.indices() == []


def test_a_forgotten_sink_that_lost_an_index_begins_anew(search: Search, pg: Postgres) -> None:
    lose_index(search, search.oneslot.stop)
    options = search.oneslot.config["sinks"]["search"]
    search.oneslot.stop()
    search.oneslot.change_config(sinks={"search": None})
    search.start()
    assert search.oneslot.http.request("DELETE", "/sinks/search").status == 204
    search.oneslot.stop()
    search.oneslot.change_config(sinks={"search": options})
    search.start()
    search.check("public.a", "public.t")


def test_a_damaged_memory_of_the_indices_stops_the_sink(search: Search, pg: Postgres) -> None:
    """Never taken for an empty one; removing it is a person's word that the indices are there."""
    begin(search)
    write(pg, 1, 50)
    search.check()
    memory = search.oneslot.data / "sink-search.seen"
    search.oneslot.stop()
    whole = memory.read_bytes()
    memory.write_bytes(whole[:-1])
    search.start()
    write(pg, 51, 100)
    stopped = search.wait_state("stopped", timeout=60)
    assert str(memory) in stopped["last_error"] and "damaged" in stopped["last_error"]
    memory.unlink()
    search.oneslot.kill("sink")
    search.check()


# --- another worker


def test_a_stopped_worker_writes_nothing_once_another_had_the_sink(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """It stands still with a write before it, for longer than the node remembers a deleted version: continued, it has
    to hear of its successor before it writes."""
    begin(faulty)
    pg.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    faulty.check()
    faulty.es.set("public.t", gc_deletes="0s")
    fake_es.inject(status(429, REJECTED, {"Retry-After": "8"}))
    pg.sql("UPDATE t SET v = 'old' WHERE id = 1")
    faulty.wait_state("retrying")
    stopped_at = time.monotonic()
    (older,) = faulty.oneslot.kill("sink:search", signal.SIGSTOP)
    pg.sql("DELETE FROM t WHERE id = 1")
    with faulty.oneslot.rival("search", lambda text: text.replace(fake_es.url, faulty.es.url)):
        faulty.settle()
        assert sorted(faulty.documents()) == ["2"]
        # Longer than a session is good for without a word of the broker: SESSION_GOOD_MS of sinks/worker.c.
        time.sleep(max(0.0, stopped_at + 12 - time.monotonic()))
        faulty.es.refresh()  # which forgets the deleted version
    before = len(fake_es.bulks())
    faulty.oneslot.kill("broker", signal.SIGSTOP)  # which would tell it at once
    assert faulty.oneslot.kill("sink:search", signal.SIGCONT) == [older]
    time.sleep(2)  # several times what a write takes
    faulty.oneslot.kill("broker", signal.SIGCONT)
    pg.sql("INSERT INTO t VALUES (3, 'c')")
    faulty.settle()
    written = b"".join(request.body for request in fake_es.bulks()[before:])
    assert b'"old"' not in written
    faulty.check()


# --- whose index it is


def test_an_index_of_another_log_stops_the_sink(make_oneslot: Make, pg: Postgres, make_pg: Make, es: Elasticsearch) -> None:
    """[3] A second installation with the same table names must not mix its rows in, nor its versions."""
    search = make_search(make_oneslot, pg, es)
    begin(search)
    pg.sql("INSERT INTO t SELECT i, 'ours' FROM generate_series(1, 10) i")
    search.check()
    other = make_search(make_oneslot, make_pg(), es)
    begin(other)
    other.pg.sql("INSERT INTO t SELECT i, 'theirs' FROM generate_series(1, 20) i")
    stopped = other.wait_state("stopped", timeout=60)
    assert "public.t" in stopped["last_error"]
    assert {d.source["v"] for d in es.documents("public.t").values()} == {"ours"}
    search.check()


@pytest.mark.parametrize("how", ["index", "alias"])
def test_an_index_that_no_sink_made_stops_the_sink(search: Search, pg: Postgres, how: str) -> None:
    """A name that somebody else uses: nothing is written over what is there."""
    es = search.es
    es.ask("PUT", "/public.t" if how == "index" else "/somebodys", {} if how == "index" else {"aliases": {"public.t": {}}})
    es.ask("PUT", "/public.t/_doc/1?refresh=true", {"mine": True})
    begin(search)
    pg.sql("INSERT INTO t VALUES (1, 'theirs')")
    stopped = search.wait_state("stopped", timeout=60)
    assert "public.t" in stopped["last_error"]
    assert {id: d.source for id, d in es.documents("public.t").items()} == {"1": {"mine": True}}


def test_a_missing_index_is_not_made_by_a_write(search: Search, pg: Postgres) -> None:
    """require_alias: auto-creation would make an index with a guessed mapping."""
    begin(search)
    pg.sql("INSERT INTO t VALUES (1, 'a')")
    search.check()
    search.oneslot.kill("sink", signal.SIGSTOP)
    search.es.clear()
    pg.sql("INSERT INTO t VALUES (2, 'b')")
    search.oneslot.kill("sink", signal.SIGCONT)
    search.wait_state("stopped", timeout=60)
    assert search.es.indices() == []


def refused(search: Search, error: str) -> None:
    """By `check`, and by the sink before any of these tables has changed; nothing of it stops the log."""
    checked = search.oneslot.cli("check")
    assert checked.returncode == 1 and error in checked.stdout
    search.start()
    stopped = search.wait_state("stopped", timeout=60)
    assert error in stopped["last_error"] and stopped["dead_letters"] == 0
    assert search.es.indices() == [] and search.oneslot.changes() == []


def look_again(search: Search) -> None:
    """The replicator says which tables are published when it connects, and every 15 seconds."""
    search.oneslot.kill_and_wait("replicator")
    search.wait_state("running")


def test_two_tables_of_one_index_are_refused(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    pg.sql('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE "T" (id int PRIMARY KEY)')
    beside = {"sinks": {"file": {"kind": "file", "path": "./f"}}}
    search = make_search(make_oneslot, pg, es, config=beside)
    refused(search, "share the index public.t")
    pg.sql('INSERT INTO t VALUES (1); INSERT INTO "T" VALUES (2)')
    search.settle("file")
    assert search.oneslot.sink("search")["state"] == "stopped" and es.indices() == []
    pg.sql('ALTER TABLE "T" RENAME TO other')
    assert search.oneslot.cli("replay", "search", "--from", "latest", "--skip", "--yes").returncode == 0
    look_again(search)
    pg.sql("UPDATE t SET id = 3; INSERT INTO other VALUES (4)")
    search.settle()
    assert sorted(search.documents()) == ["3"] and sorted(search.documents("public.other")) == ["4"]


def test_a_table_published_later_that_it_cannot_take_stops_the_sink(search: Search, pg: Postgres) -> None:
    """While nothing changes in it, too; and at its first change, whoever is first: none of its rows is mixed in."""
    pg.sql("CREATE PUBLICATION oneslot FOR ALL TABLES", user="postgres")
    begin(search, "id int PRIMARY KEY, v text")
    pg.sql("INSERT INTO t VALUES (1, 'a')")
    search.check()
    pg.sql("CREATE TABLE keyless (v text)")
    assert "public.keyless has no key" in search.wait_state("stopped")["last_error"]
    pg.sql("DROP TABLE keyless; INSERT INTO t VALUES (2, 'a')")
    search.wait_state("running")
    search.check()
    pg.sql('CREATE TABLE "T" (id int PRIMARY KEY, v text)')
    pg.sql("""INSERT INTO "T" VALUES (1, 'b')""")
    assert "public.T" in search.wait_state("stopped", timeout=60)["last_error"]
    assert search.documents()["1"].source["v"] == "a"


def test_an_index_option_without_the_table_is_refused_for_two_tables(
    make_oneslot: Make, pg: Postgres, es: Elasticsearch
) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)")
    search = make_search(make_oneslot, pg, es, sink={"index": "all"})
    refused(search, "share the index all")


def test_a_table_without_a_key_is_refused(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    """Until it has one."""
    pg.sql("CREATE TABLE t (id int NOT NULL, v text); ALTER TABLE t REPLICA IDENTITY FULL")
    search = make_search(make_oneslot, pg, es)
    refused(search, "public.t has no key")
    pg.sql("ALTER TABLE t ADD PRIMARY KEY (id)")
    look_again(search)
    pg.sql("INSERT INTO t VALUES (1, 'a')")
    search.check()


# --- dead letters


def test_a_mapping_conflict_is_a_letter_that_a_redrive_delivers(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    """[9] The real server refuses it; once the mapping allows it the letter is sent again and gone."""
    options = {"mapping": {"public.t.v": '{"type":"integer"}'}}
    search = make_search(make_oneslot, pg, es, sink=options)
    begin(search)
    pg.sql("INSERT INTO t VALUES (1, '1'), (2, 'not a number'), (3, '3')")
    (letter,) = search.wait_letters(1)
    search.settle()
    assert sorted(search.documents()) == ["1", "3"] and letter["key"] == {"id": 2}
    assert "not a number" not in letter["reason"] and "not a number" not in search.oneslot.log_text()
    search.redrive()
    search.wait_letters(1)
    assert sorted(search.documents()) == ["1", "3"], "still refused"
    make_field_lenient(search)
    search.redrive()
    search.check()


def make_field_lenient(search: Search) -> None:
    """What a person would do to a mapping that refuses."""
    field = {"type": "integer", "ignore_malformed": True}
    search.es.ask("PUT", "/public.t/_mapping", {"properties": {"v": field}})


@pytest.mark.parametrize(
    "change, left", [("UPDATE t SET v = 'new' WHERE id = 1", "new"), ("DELETE FROM t WHERE id = 1", None)], ids=["update", "delete"]
)
def test_a_redriven_letter_never_overwrites_anything_newer(
    faulty: Search, pg: Postgres, fake_es: FakeES, change: str, left: str | None
) -> None:
    """[9] The target has taken what is newer and nobody heard of it, so the letter was not raised: redriven, it is the
    first that the next session sends. Nothing comes back, not for a moment either."""
    begin(faulty)
    fake_es.inject(refuse_items(400, MAPPING, lambda action: action.source == {"id": 1, "v": "old"}), times=None)
    pg.sql("INSERT INTO t VALUES (1, 'first'), (2, 'other')")
    faulty.check()
    pg.sql("UPDATE t SET v = 'old' WHERE id = 1")
    (letter,) = faulty.wait_letters(1)
    faulty.settle()
    fake_es.heal()
    is_open = threading.Event()
    after: list[tuple[bool, str | None]] = []

    def gate(request: Any, forward: Any) -> Any:
        if not is_open.is_set():
            return status(503)(request, forward)
        answer = forward(request)
        document = faulty.es.get("public.t", "1")
        after.append((b'"old"' in request.body, document and document.source["v"]))
        return answer

    unheard = fake_es.inject(drop_after_applying)
    fake_es.inject(gate, times=None)
    pg.sql(change)
    fake_es.wait_used(unheard)
    faulty.redrive(letter["offset"])
    assert [(found["offset"], found["state"]) for found in faulty.letters()] == [(letter["offset"], "retry")]
    faulty.oneslot.kill_and_wait("sink:search")
    is_open.set()
    faulty.check()
    assert any(is_letter for is_letter, _ in after), "it was sent again"
    assert {value for _, value in after} == {left}


def test_a_letter_of_a_row_that_was_deleted_is_gone(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """[9]"""
    begin(faulty)
    fake_es.inject(refuse_items(400, MAPPING, lambda action: action.op == "index" and action.id == "1"), times=None)
    pg.sql("INSERT INTO t VALUES (1, 'old'), (2, 'other')")
    faulty.wait_letters(1)
    pg.sql("DELETE FROM t WHERE id = 1")
    faulty.check()
    pg.sql("INSERT INTO t VALUES (1, 'again')")
    faulty.wait_letters(1)
    pg.sql("TRUNCATE t")
    faulty.check()


def test_a_letter_whose_key_changes(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """[9] The row moves on under another key: it arrives there, and the letter of the old key is settled with it."""
    begin(faulty)
    fake_es.inject(refuse_items(400, MAPPING, lambda action: action.op == "index" and action.id == "1"), times=None)
    pg.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    faulty.wait_letters(1)
    pg.sql("UPDATE t SET id = 10 WHERE id = 1")
    faulty.check()


def test_a_rejected_key_change_settles_the_letters_of_its_former_key(
    faulty: Search, pg: Postgres, fake_es: FakeES
) -> None:
    """The old document is deleted whatever becomes of the new one: redriving what is older would bring it back."""
    begin(faulty)
    pg.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    faulty.check()
    fake_es.inject(refuse_items(400, MAPPING, lambda action: action.op == "index" and action.id in ("1", "10")), times=None)
    pg.sql("UPDATE t SET v = 'c' WHERE id = 1")
    faulty.wait_letters(1)
    pg.sql("UPDATE t SET id = 10 WHERE id = 1")
    faulty.settle()
    (letter,) = faulty.letters()
    assert letter["key"] == {"id": 10} and sorted(faulty.documents()) == ["2"]
    fake_es.heal()
    faulty.redrive()
    faulty.check()


def test_letters_survive_everything_that_is_killed(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    begin(faulty)
    fake_es.inject(refuse_items(400, MAPPING, lambda action: action.id in ("3", "4")), times=None)
    pg.sql("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 50) i")
    faulty.wait_letters(2)
    faulty.settle()  # before that a killed worker sends them once more, and buries them again
    before = faulty.letters()
    faulty.oneslot.kill_all()
    faulty.start()
    assert faulty.letters() == before
    fake_es.heal()
    faulty.redrive()
    faulty.check()


def test_a_discarded_letter_stays_away_until_its_row_changes(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    begin(faulty)
    fake_es.inject(refuse_items(400, MAPPING, lambda action: action.id == "3"), times=None)
    pg.sql("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 5) i")
    (letter,) = faulty.wait_letters(1)
    faulty.settle()
    fake_es.heal()
    faulty.redrive(letter["offset"], what="discard")
    assert "3" not in faulty.documents()
    pg.sql("UPDATE t SET v = 'w'")
    faulty.check()


# --- how it speaks


def test_requests_are_what_every_server_and_proxy_takes(faulty: Search, pg: Postgres, fake_es: FakeES) -> None:
    """[19] A length instead of chunks, no Expect, the plain content type, no credentials where none are configured."""
    begin(faulty)
    pg.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 5000) i")
    faulty.check()
    assert max(len(request.body) for request in fake_es.bulks()) > 1 << 20, "where curl would say Expect"
    for request in fake_es.requests:
        assert "expect" not in request.headers and "transfer-encoding" not in request.headers
        assert "authorization" not in request.headers
    for request in fake_es.bulks():
        assert request.headers["content-type"] == "application/x-ndjson"
        assert not request.is_packed, "the loopback needs no gzip"


def write_secret(search: Search, text: str) -> None:
    path = search.oneslot.folder / "secret"
    path.write_text(text + "\n")
    path.chmod(0o600)
    ACCOUNT.own(path)


@pytest.mark.parametrize("is_right", [True, False])
def test_basic_authentication(make_oneslot: Make, pg: Postgres, make_es: Make, is_right: bool) -> None:
    """A real node's. A wrong password stops the sink, and is found in no log."""
    es = make_es(version=WITH_SECURITY, security=True)
    search = make_search(make_oneslot, pg, es, sink={"username": USER, "password_file": "./secret"})
    write_secret(search, PASSWORD if is_right else "wr0ng-secret")
    begin(search)
    pg.sql("INSERT INTO t VALUES (1, 'a')")
    if not is_right:
        stopped = search.wait_state("stopped")
        assert "401" in stopped["last_error"]
        write_secret(search, PASSWORD)
        search.oneslot.kill("sink")
    search.check()
    shown = search.oneslot.log_text() + search.oneslot.http.get("/sinks").body.decode()
    assert "wr0ng-secret" not in shown and PASSWORD not in shown


@pytest.mark.parametrize("text", ["the-id:the-key", base64.b64encode(b"the-id:the-key").decode()])
def test_an_api_key(make_oneslot: Make, pg: Postgres, es: Elasticsearch, fake_es: FakeES, text: str) -> None:
    """As it is sent, in both forms that people have (the node of 7.17 cannot make one)."""
    search = make_search(make_oneslot, pg, es, via=fake_es, sink={"api_key_file": "./secret"})
    write_secret(search, text)
    begin(search)
    pg.sql("INSERT INTO t VALUES (1, 'a')")
    search.settle()
    expected = "ApiKey " + base64.b64encode(b"the-id:the-key").decode()
    assert {request.headers.get("authorization") for request in fake_es.requests} == {expected}
    assert "the-key" not in search.oneslot.log_text()


def certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(argv, check=True, capture_output=True)
    return certificate, key


def test_tls_with_an_authority_of_its_own(make_oneslot: Make, pg: Postgres, es: Elasticsearch, work: WorkFolder) -> None:
    """Without ca_file nothing is sent to whoever cannot be verified."""
    pair = certificates(work.new("tls"))
    fake = FakeES(es, tls=pair)
    search = make_search(make_oneslot, pg, es, url=fake.url)
    begin(search)
    pg.sql("INSERT INTO t VALUES (1, 'a')")
    search.wait_error("certificate|TLS|SSL")
    assert not fake.requests and es.indices() == []
    search.oneslot.stop()
    search.oneslot.change_config(sinks={"search": {"ca_file": str(pair[0])}})
    search.start()
    search.check()
    fake.close()


def test_packed_requests(make_oneslot: Make, pg: Postgres, es: Elasticsearch, fake_es: FakeES) -> None:
    """What a remote server gets."""
    search = make_search(make_oneslot, pg, es, via=fake_es, sink={"compression": "gzip"})
    begin(search)
    pg.sql("INSERT INTO t SELECT i, repeat('long', 500) FROM generate_series(1, 500) i")
    search.check()
    large = [request for request in fake_es.bulks() if len(request.body) > 100_000]
    assert large and all(request.is_packed for request in large)
