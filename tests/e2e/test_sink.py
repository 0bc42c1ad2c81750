"""P4, P5, P6: a sink's offset moves over what the target has, by compare-and-set; the file holds each change once; a
sink that is down disturbs nobody until the log is full, and then the operator's choice is carried out."""

from __future__ import annotations

import contextlib
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any, Callable

from harness import Http, Oneslot, Postgres, Response, assert_tables_equal, check_log, fold, lsn, wait_until
from harness.system import ACCOUNT

Make = Callable[..., Any]
TWO_SINKS = {"file": {"kind": "file", "path": "./changes.ndjson"}, "slow": {"kind": "file", "path": "./slow.ndjson"}}


def begin(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot.start()
    oneslot.wait_streaming()


def insert(pg: Postgres, first: int, last: int, size: int = 20) -> None:
    pg.sql(f"INSERT INTO t SELECT i, repeat('x', {size}) FROM generate_series({first}, {last}) i")


def check_file(pg: Postgres, oneslot: Oneslot, sink: str = "file") -> list[dict[str, Any]]:
    oneslot.wait_durable(pg)
    oneslot.wait_settled(sink)
    written = oneslot.file_changes(sink)
    check_log(written)
    assert_tables_equal(pg, fold(written), ["public.t"], f"the file of {sink}")
    return written


# --- killed


def test_a_sink_killed_again_and_again_holds_each_change_once(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot.start_broker()
    oneslot.wait_serving()
    oneslot.start_replicator()
    oneslot.wait_streaming()
    settled = 0
    for number in range(12):
        oneslot.start_sink()
        insert(pg, number * 1000, number * 1000 + 999)
        wait_until(lambda: is_written_beyond(oneslot, number * 700), 30, "some of it is written")
        oneslot.kill_and_wait("sink")
        now = oneslot.sink()["next"]
        assert now >= settled, "the offset went back"
        settled = now
    oneslot.start_sink()
    assert check_file(pg, oneslot) == oneslot.changes()


def is_written_beyond(oneslot: Oneslot, lines: int) -> bool:
    path = oneslot.folder / "changes.ndjson"
    return path.exists() and path.read_bytes().count(b"\n") > lines


def test_what_a_killed_writer_left_is_gone_on_from(pg: Postgres, oneslot: Oneslot) -> None:
    """Some lines behind the sink's offset are whole: they are not written again. The last one is torn: it is."""
    begin(pg, oneslot)
    insert(pg, 1, 10)
    oneslot.wait_caught_up(pg)
    path = oneslot.folder / "changes.ndjson"
    for whole, bytes_of_next in ((0, 1), (0, 40), (3, 0), (3, 70), (4, -1)):
        oneslot.kill("sink", signal.SIGSTOP)
        before = path.read_bytes()
        insert(pg, *next_rows(pg))
        oneslot.wait_durable(pg)
        oneslot.kill_all()
        oneslot.start_broker()
        oneslot.wait_serving()
        lines = oneslot.get_changes().body.splitlines(keepends=True)[before.count(b"\n") :]
        path.write_bytes(before + b"".join(lines[:whole]) + lines[whole][:bytes_of_next])
        oneslot.kill_all()
        oneslot.start()
        oneslot.wait_streaming()
        assert check_file(pg, oneslot) == oneslot.changes()


def next_rows(pg: Postgres) -> tuple[int, int]:
    first = pg.value("SELECT max(id) + 1 FROM t")
    return first, first + 4


def test_a_file_that_lost_what_was_settled_stops_its_sink(pg: Postgres, oneslot: Oneslot) -> None:
    """No killed process leaves that: whoever cut the file has to hear of it, and nothing more is written."""
    begin(pg, oneslot)
    insert(pg, 1, 10)
    oneslot.wait_caught_up(pg)
    oneslot.kill_all()
    path = oneslot.folder / "changes.ndjson"
    cut = path.read_bytes()[:-30]
    path.write_bytes(cut)
    oneslot.start()
    oneslot.wait_streaming()
    oneslot.wait(lambda: oneslot.sink()["state"] == "stopped", 30, "the sink stops")
    assert "was damaged after it was written" in oneslot.sink()["last_error"]
    insert(pg, 11, 20)
    oneslot.wait_durable(pg)
    assert path.read_bytes() == cut


# --- names


def test_a_name_may_look_like_an_option(pg: Postgres, make_oneslot: Callable[..., Oneslot]) -> None:
    names = ("-h", "-c", "--version", "--", "-")
    sinks = {name: {"kind": "file", "path": f"./{number}.ndjson"} for number, name in enumerate(names)}
    oneslot = make_oneslot(pg, config={"sinks": sinks})
    begin(pg, oneslot)
    insert(pg, 1, 3)
    oneslot.wait_caught_up(pg)
    for name in names:
        assert len(oneslot.file_changes(name)) == 3, name
    checked = oneslot.cli("check")
    assert checked.returncode == 0, checked
    shown = oneslot.cli("config")
    assert shown.returncode == 0 and all(f"# sink {name}: options of its kind (file)" in shown.stdout for name in names)
    paused = subprocess.run(
        [oneslot.programs.path(), "sinks", "-c", str(oneslot.config_path), "pause", "--", "-h"],
        env=oneslot.env,
        capture_output=True,
        text=True,
        check=False,
        **ACCOUNT.popen_options(),
    )
    assert paused.returncode == 0, paused
    oneslot.wait(lambda: oneslot.sink("-h")["state"] == "paused", 20, "it is paused")


# --- two workers of one name


def test_the_older_of_two_workers_is_fenced(pg: Postgres, oneslot: Oneslot) -> None:
    """The older stands still in the middle of its work while a newer one takes over; when it wakes up it may not
    move the offset to where it thinks it is."""
    begin(pg, oneslot)
    insert(pg, 1, 10)
    check_file(pg, oneslot)
    older = oneslot.pid("sink")
    assert oneslot.kill("sink", signal.SIGSTOP) == [older]
    insert(pg, 11, 2000)
    with oneslot.rival("file", lambda text: text.replace("./changes.ndjson", "./rival.ndjson")) as newer:
        oneslot.wait_durable(pg)
        oneslot.wait_settled()
        tail = oneslot.sink()["next"]
        oneslot.kill("sink", signal.SIGCONT)
        insert(pg, 2001, 2010)
        oneslot.wait(lambda: "FENCED" in oneslot.log_text(), 30, "one of them is fenced")
        oneslot.wait_durable(pg)
        oneslot.wait_settled()
        assert oneslot.sink()["next"] == tail + 10
        newer.end(signal.SIGKILL)
    insert(pg, 2011, 2020)
    oneslot.wait_durable(pg)
    oneslot.wait_settled()
    theirs = [line["offset"] for line in oneslot.file_changes()]
    path = oneslot.folder / "elsewhere" / "rival.ndjson"
    ours = [int(line.split(b":")[1].split(b",")[0]) for line in path.read_bytes().splitlines()]
    assert set(ours) | set(theirs) == {change["offset"] for change in oneslot.changes()}, "nothing is left out"
    for offsets in (ours, theirs):
        assert offsets == sorted(set(offsets))


def test_two_workers_of_one_file_take_turns(pg: Postgres, oneslot: Oneslot) -> None:
    """Even where both write one file it holds each change once."""
    begin(pg, oneslot)
    insert(pg, 1, 10)
    check_file(pg, oneslot)
    path = str(oneslot.folder / "changes.ndjson")
    with oneslot.rival("file", lambda text: text.replace("./changes.ndjson", path)):
        for first in range(11, 1000, 100):
            insert(pg, first, first + 99)
            oneslot.wait_durable(pg)
        oneslot.wait_settled()
        oneslot.kill("sink")
    assert check_file(pg, oneslot) == oneslot.changes()


# --- the calls themselves


def packed(value: Any) -> bytes:
    """msgpack, as far as our calls need it."""
    if isinstance(value, dict):
        return bytes([0x80 | len(value)]) + b"".join(packed(key) + packed(item) for key, item in value.items())
    if isinstance(value, str):
        return b"\xda" + struct.pack(">H", len(value.encode())) + value.encode()
    return b"\xcf" + struct.pack(">Q", value)


def number_in(body: bytes, name: str) -> int:
    """The number behind a key."""
    at = body.index(name.encode()) + len(name)
    kind = body[at]
    sizes = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
    return int.from_bytes(body[at + 1 : at + 1 + sizes[kind]]) if kind in sizes else kind


def call(oneslot: Oneslot, path: str, body: dict[str, Any]) -> Response:
    headers = {"Content-Type": "application/msgpack"}
    return Http(unix=str(oneslot.data / "oneslot.sock")).request("POST", path, body=packed(body), headers=headers)


def open_raw_session(oneslot: Oneslot) -> Response:
    return call(oneslot, "/internal/sinks/raw/session", {"kind": "file", "start": "earliest", "tables": ""})


def test_an_offset_moves_by_compare_and_set_only(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    insert(pg, 1, 10)
    oneslot.wait_caught_up(pg)
    changes = oneslot.changes()
    first, tail = changes[0]["offset"], changes[-1]["offset"] + 1
    opened = [open_raw_session(oneslot), open_raw_session(oneslot)]
    assert [answer.status for answer in opened] == [200, 200]
    old, new = (number_in(answer.body, "generation") for answer in opened)
    assert new > old and number_in(opened[1].body, "next") == first

    def commit(generation: int, expect: int, to: int) -> int:
        body = {"generation": generation, "expect": expect, "next": to}
        return call(oneslot, "/internal/sinks/raw/commit", body).status

    assert commit(old, first, first + 3) == 409, "fenced"
    assert commit(new, first, first + 3) == 200
    assert commit(new, first, first + 5) == 409, "it does not stand there"
    assert commit(new, first + 3, first) == 400, "never back"
    assert commit(new, first + 3, tail + 1) == 416, "beyond the log"
    assert commit(new, first + 3, tail) == 200
    assert commit(old, tail, tail) == 409, "still fenced"
    oneslot.kill_all()
    oneslot.start()
    oneslot.wait_serving()
    again = open_raw_session(oneslot)
    assert number_in(again.body, "next") == tail, "it was durable"
    assert number_in(again.body, "generation") > new


# --- down


def test_a_sink_that_stands_still_changes_nothing_for_the_others(pg: Postgres, make_oneslot: Make) -> None:
    oneslot = make_oneslot(pg, config={"sinks": TWO_SINKS})
    begin(pg, oneslot)
    insert(pg, 1, 10)
    oneslot.wait_caught_up(pg)
    assert oneslot.kill("sink:slow", signal.SIGSTOP)
    for first in range(11, 3000, 500):
        insert(pg, first, first + 499)
    wanted = pg.flush_lsn()
    check_file(pg, oneslot)
    wait_until(lambda: lsn(pg.slot()["confirmed_flush_lsn"]) >= wanted, 30, "the slot moves on")
    slow = oneslot.sink("slow")
    assert slow["records_behind"] == 3000 and slow["seconds_behind"] > 0 and slow["bytes_behind"] > 0
    oneslot.kill("sink:slow", signal.SIGCONT)
    assert check_file(pg, oneslot, "slow") == oneslot.changes(), "it goes on by itself"


def test_a_sink_added_later_gets_everything_from_the_beginning(pg: Postgres, oneslot: Oneslot) -> None:
    begin(pg, oneslot)
    insert(pg, 1, 100)
    oneslot.wait_caught_up(pg)
    oneslot.stop()
    oneslot.change_config(sinks=TWO_SINKS | {"new": {"kind": "file", "path": "./new.ndjson", "start": "latest"}})
    oneslot.start()
    oneslot.wait_streaming()
    oneslot.wait(lambda: oneslot.sink("new")["state"] == "running", 30, "the new sink is registered")
    insert(pg, 101, 110)
    assert check_file(pg, oneslot, "slow") == oneslot.changes()
    oneslot.wait_settled("new")
    assert [change["new"]["id"] for change in oneslot.file_changes("new")] == list(range(101, 111))


# --- the log is full

FULL = {"segment_bytes": "1MiB", "retain_bytes": "4MiB"}


def fill(pg: Postgres, oneslot: Oneslot, sink: str, done: Callable[[], object]) -> None:
    """Writes with the sink standing still until done() is true."""
    assert oneslot.kill(f"sink:{sink}", signal.SIGSTOP)

    def write_and_look() -> object:
        insert(pg, *_next_hundred(pg), size=2000)
        return done()

    oneslot.wait(write_and_look, 90, "the log fills")


def _next_hundred(pg: Postgres) -> tuple[int, int]:
    first = pg.value("SELECT coalesce(max(id), 0) + 1 FROM t")
    return first, first + 99


def log_bytes(data: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (data / "log").glob("**/*.mdb"))


def test_block_stops_reading_and_goes_on_when_the_sink_does(pg: Postgres, make_oneslot: Make) -> None:
    oneslot = make_oneslot(pg, config={"sinks": TWO_SINKS, "log": FULL | {"when_full": "block"}})
    begin(pg, oneslot)
    insert(pg, 1, 10)
    oneslot.wait_caught_up(pg)
    walsender = pg.slot()["active_pid"]
    fill(pg, oneslot, "slow", lambda: "retain_bytes" in str(oneslot.lag()["source"]["last_error"]))
    limit = lsn(oneslot.lag()["source"]["durable_lsn"])
    for _ in range(5):
        insert(pg, *_next_hundred(pg), size=2000)
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: lsn(pg.slot()["confirmed_flush_lsn"]) > limit, 6, "it is acknowledged")
    assert lsn(pg.slot()["confirmed_flush_lsn"]) <= limit, "PostgreSQL keeps what the log has no room for"
    others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    assert pg.sql(f"SELECT pg_terminate_backend(pid) {others}", user="postgres"), "the replicator has some"
    oneslot.wait(lambda: pg.value(f"SELECT count(*) {others}", user="postgres") > 0, 30, "connections that end are opened again")
    assert pg.slot()["active_pid"] == walsender, "the connection is kept"
    assert log_bytes(oneslot.data) < 12 << 20
    assert oneslot.http.get("/readyz").status == 503
    assert oneslot.changes()[0]["new"]["id"] == 1, "nothing that a sink needs is removed"
    oneslot.kill("sink:slow", signal.SIGCONT)
    for sink in TWO_SINKS:
        check_file(pg, oneslot, sink)
    oneslot.wait(lambda: oneslot.http.get("/readyz").status == 200, 30, "it is ready again")
    assert oneslot.lag()["source"]["last_error"] is None


def test_a_server_can_stop_while_the_log_is_full(pg: Postgres, make_oneslot: Make) -> None:
    """It waits for an acknowledgement that cannot come: the replicator lets go of it."""
    oneslot = make_oneslot(pg, config={"sinks": TWO_SINKS, "log": FULL | {"when_full": "block"}})
    begin(pg, oneslot)
    insert(pg, 1, 10)
    oneslot.wait_caught_up(pg)

    def is_full() -> bool:
        return "retain_bytes" in str(oneslot.lag()["source"]["last_error"])

    fill(pg, oneslot, "slow", is_full)
    for _ in range(2):
        assert pg.stop("fast") < 5
        pg.start()
        oneslot.wait(lambda: pg.slot()["active_pid"] is not None, 60, "the slot is read again")
        insert(pg, *_next_hundred(pg), size=2000)
        oneslot.wait(is_full, 60, "the log is still full")
    oneslot.kill("sink:slow", signal.SIGCONT)
    for sink in TWO_SINKS:
        check_file(pg, oneslot, sink)


def test_evict_gives_the_slow_sink_an_explicit_gap(pg: Postgres, make_oneslot: Make) -> None:
    oneslot = make_oneslot(pg, config={"sinks": TWO_SINKS, "log": FULL | {"when_full": "evict"}})
    begin(pg, oneslot)
    insert(pg, 1, 10)
    oneslot.wait_caught_up(pg)
    stands_at = oneslot.sink("slow")["next"]
    fill(pg, oneslot, "slow", lambda: oneslot.lag()["log"]["earliest"]["offset"] > stands_at)
    check_file(pg, oneslot)
    earliest = oneslot.lag()["log"]["earliest"]["offset"]
    gone = oneslot.get_changes(from_=stands_at)
    assert gone.status == 410 and gone.json()["earliest"]["offset"] >= earliest
    oneslot.kill("sink:slow", signal.SIGCONT)
    oneslot.wait(lambda: oneslot.sink("slow")["state"] == "stopped", 30, "the slow sink stops")

    def has_settled() -> bool:  # it may have had a batch already when it was stopped
        return bool(oneslot.sink("slow")["next"] > oneslot.file_changes("slow")[-1]["offset"])

    oneslot.wait(has_settled, 30, "what it wrote is settled")
    slow = oneslot.sink("slow")
    assert "no longer retained" in slow["last_error"] and stands_at <= slow["next"] < earliest
    assert oneslot.lag()["source"]["state"] == "streaming"
    insert(pg, *_next_hundred(pg))
    everything, has = check_file(pg, oneslot), oneslot.file_changes("slow")
    assert has == everything[: len(has)] and has[-1]["offset"] < earliest, "nothing beyond the gap"
