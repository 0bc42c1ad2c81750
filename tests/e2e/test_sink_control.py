"""What an operator does to a sink, over HTTP and by command: pause, resume, replay (P6), dead letters. Where a test is
about the broker's side alone, it speaks for the worker itself, in the calls of proto/api.h on the Unix socket."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from typing import Any, Callable

import msgpack
import pytest

from harness import Oneslot, Postgres, Response
from test_commands import on_a_terminal

MSGPACK = {"Content-Type": "application/msgpack"}
WITH_IDLE = {"sinks": {"idle": {"kind": "file", "path": "./idle.ndjson", "enabled": False}}}
Make = Callable[..., Any]


class Worker:
    """A sink's worker as far as the broker can tell: a session, letters, rows to be read again."""

    def __init__(self, oneslot: Oneslot, sink: str = "idle") -> None:
        self.oneslot = oneslot
        self.sink = sink
        self.session = self.open()

    def call(self, what: str, body: Any) -> Response:
        path = f"/internal/sinks/{self.sink}/{what}"
        return self.oneslot.unix.request("POST", path, body=msgpack.packb(body), headers=MSGPACK)

    def open(self) -> dict[str, Any]:
        answer = self.call("session", {"kind": "file", "start": "earliest", "tables": ""})
        assert answer.status == 200, answer
        self.session = msgpack.unpackb(answer.body)
        return self.session

    def commit(self, next_offset: int) -> Response:
        generation, expect = self.session["generation"], self.session["next"]
        answer = self.call("commit", {"generation": generation, "expect": expect, "next": next_offset})
        if answer.status == 200:
            self.session = msgpack.unpackb(answer.body)
        return answer

    def bury(self, change: dict[str, Any], reason: str = "no such field", **changes: Any) -> Response:
        batch = self.oneslot.unix.request("GET", "/internal/fetch", {"from": change["offset"], "max": 1})
        assert batch.status == 200
        letter = {
            "generation": self.session["generation"],
            "offset": change["offset"],
            "state": 0,
            "is_whole": True,
            "key": row_key(change),
            "former": b"",
            "ns": change["schema"],
            "table": change["table"],
            "op": change["op"],
            "reason": reason,
            "record": batch.body,
        }
        return self.call("bury", {**letter, **changes})

    def raise_key(self, change: dict[str, Any], offset: int) -> Response:
        raised = {"generation": self.session["generation"], "offset": offset, "is_prefix": False}
        return self.call("raise", {**raised, "key": row_key(change)})

    def letters(self) -> list[tuple[int, int]]:
        """(offset, state) of each."""
        answer = self.oneslot.unix.get(f"/internal/sinks/{self.sink}/letters")
        assert answer.status == 200, answer
        return [(offset, state) for offset, state, *_ in msgpack.unpackb(answer.body)]


def row_key(change: dict[str, Any]) -> bytes:
    """proto/record_key.h"""
    texts = [change["schema"], change["table"], *(str(value) for value in change["key"].values())]
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


@pytest.fixture
def idle(pg: Postgres, make_oneslot: Make) -> Oneslot:
    """Ten inserted rows in the log, sink `file` level with it, sink `idle` registered and without a worker."""
    oneslot: Oneslot = make_oneslot(pg, config=WITH_IDLE)
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot.start()
    oneslot.wait_streaming()
    for number in range(10):
        pg.sql(f"INSERT INTO t VALUES ({number}, 'v{number}')")
    oneslot.wait_durable(pg)
    oneslot.wait_settled("file")
    return oneslot


def post(oneslot: Oneslot, path: str, body: Any = None, status: int = 200) -> Any:
    answer = oneslot.http.post(path, {} if body is None else body)
    assert answer.status == status, answer
    return answer.json()


def command(oneslot: Oneslot, *args: str, status: int = 0) -> str:
    done = oneslot.cli(*args)
    assert done.returncode == status, done
    return done.stdout if status == 0 else done.stderr


# --- orders


def test_orders_in_a_row_are_followed_at_once(idle: Oneslot) -> None:
    """An order ends the worker's session, however young it is; that is no failure, and nothing to wait after."""
    def sessions() -> int:
        return idle.log_text().count("prog=sink:file ev=session_opened")

    for _ in range(4):
        before = sessions()
        post(idle, "/sinks/file/replay", {"from": "earliest"})
        post(idle, "/sinks/file/resume")
        idle.wait(lambda: sessions() > before, 30, "it is followed")
        idle.wait_settled("file")
    assert not idle.log_contains("ev=sink_retrying")


# --- pause


def test_a_paused_sink_writes_nothing_until_it_is_resumed(pg: Postgres, idle: Oneslot) -> None:
    assert "paused" in command(idle, "sinks", "pause", "file")
    assert idle.sink()["state"] == "paused"
    # The worker asks at least once a second: it learns of it then.
    idle.wait(lambda: idle.log_text().count("ev=sink_session sink=file") >= 2, 20, "a session that is paused")
    before = idle.file_changes()
    pg.sql("INSERT INTO t SELECT i, 'later' FROM generate_series(100, 199) i")
    idle.wait_durable(pg)
    # Whoever may write is level with the log: `file` would be, too.
    idle.wait(lambda: "paused" == idle.sink()["state"] and idle.sink()["records_behind"] == 100, 20, "it stands")
    idle.stop()
    idle.start()  # it stays so over a restart
    idle.wait_streaming()
    idle.wait(lambda: idle.log_text().count("ev=sink_session sink=file") >= 3, 20, "another session")
    assert idle.file_changes() == before and idle.sink()["records_behind"] == 100
    assert idle.sink()["state"] == "paused"
    assert [sink["paused"] for sink in idle.http.get("/sinks").json()["sinks"]] == [True, False]
    assert "goes on" in command(idle, "sinks", "resume", "file")
    idle.wait_settled("file")
    assert idle.file_changes() == idle.changes()
    assert idle.sink()["state"] in ("starting", "running")


def test_pausing_ends_the_session_of_the_worker(idle: Oneslot) -> None:
    worker = Worker(idle)
    assert not worker.session["is_paused"]
    assert post(idle, "/sinks/idle/pause") == {"name": "idle", "paused": True}
    assert worker.commit(worker.session["next"]).status == 409
    assert worker.open()["is_paused"]
    assert post(idle, "/sinks/idle/pause")["paused"], "again: nothing changes"
    assert worker.commit(worker.session["next"]).status == 200
    post(idle, "/sinks/idle/resume")
    assert worker.commit(worker.session["next"]).status == 409
    assert not worker.open()["is_paused"]


# --- replay


def test_replay_says_how_much_it_is_and_writes_it_again(idle: Oneslot) -> None:
    changes = idle.changes()
    middle = changes[5]["offset"]
    dry = json.loads(command(idle, "replay", "file", "--from", changes[5]["lsn"], "--dry-run", "--json"))
    assert dry["records"] == 5 and not dry["moved"] and dry["offset"] == changes[-1]["offset"] == idle.sink()["offset"]
    assert dry["from"]["offset"] == middle
    assert "write again 5 records" in command(idle, "replay", "file", "--from", str(middle), "--dry-run")
    assert idle.sink()["records_behind"] == 0, "nothing moved"
    assert "--yes" in command(idle, "replay", "file", "--from", "earliest", status=2)
    status, shown = on_a_terminal(idle, ["replay", "file", "--from", str(middle)], "n\n")
    assert status == 1 and "write again 5 records" in shown and "nothing was moved" in shown, shown
    status, shown = on_a_terminal(idle, ["replay", "file", "--from", str(middle)], "y\n")
    assert status == 0 and "to be written again: 5" in shown, shown
    idle.wait_settled("file")
    assert idle.file_changes() == changes, "this kind writes no line twice"
    (idle.folder / "changes.ndjson").rename(idle.folder / "old.ndjson")
    command(idle, "replay", "file", "--from", str(middle), "--yes")
    idle.kill("sink:file")
    idle.wait(lambda: (idle.folder / "changes.ndjson").exists(), 30, "a new file")
    idle.wait_settled("file")
    assert idle.file_changes() == changes[5:]


def test_replay_moves_only_a_sink_that_stands_where_it_was_seen(idle: Oneslot) -> None:
    worker = Worker(idle)
    changes = idle.changes()
    assert worker.commit(changes[7]["offset"]).status == 200
    last = changes[7]["offset"] - 1  # what /lag calls offset, and an answer to a replay
    assert post(idle, "/sinks/idle/replay", {"from": "earliest", "dry_run": True})["offset"] == last
    wrong = command(idle, "replay", "idle", "--from", "earliest", "--expect", str(last + 1), "--yes", status=1)
    assert "nothing was moved" in wrong and str(last) in wrong
    assert worker.commit(changes[7]["offset"]).status == 200, "nobody was fenced"
    moved = json.loads(
        command(idle, "replay", "idle", "--from", "earliest", "--expect", str(last), "--yes", "--json")
    )
    assert moved["moved"] and moved["records"] == 7
    assert worker.commit(changes[8]["offset"]).status == 409, "a former session moves nothing"
    assert worker.open()["next"] == changes[0]["offset"]


def test_forward_is_a_skip_and_has_to_be_said(idle: Oneslot) -> None:
    worker = Worker(idle)
    changes = idle.changes()
    assert worker.session["next"] == worker.session["floor"] == changes[0]["offset"]
    refused = command(idle, "replay", "idle", "--from", str(changes[4]["offset"]), "--yes", status=1)
    assert "--skip" in refused and "4 records" in refused
    beyond = {"from": str(changes[-1]["offset"] + 2), "skip": True}
    assert "tail" in post(idle, "/sinks/idle/replay", beyond, 416)
    assert "passed over: 4" in command(idle, "replay", "idle", "--from", str(changes[4]["offset"]), "--skip", "--yes")
    session = worker.open()
    assert session["next"] == session["floor"] == changes[4]["offset"]
    post(idle, "/sinks/idle/replay", {"from": "earliest"})
    assert worker.open()["floor"] == changes[4]["offset"], "what it missed once it may have missed"


def test_what_is_not_retained_is_410_and_a_gap_is_passed_by_skip(pg: Postgres, make_oneslot: Make) -> None:
    """when_full: evict takes away what `idle` still needs: it stands before a gap until somebody says skip."""
    small = {"segment_bytes": "1MiB", "retain_bytes": "2MiB", "when_full": "evict"}
    oneslot: Oneslot = make_oneslot(pg, config={**WITH_IDLE, "log": small})
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot.start()
    oneslot.wait_streaming()
    first = 0

    def evicted() -> bool:
        nonlocal first
        pg.sql(f"INSERT INTO t SELECT i, repeat(md5(i::text), 30) FROM generate_series({first}, {first + 499}) i")
        first += 500
        return oneslot.lag()["log"]["earliest"]["offset"] > oneslot.sink("idle")["next"]

    oneslot.wait(evicted, 60, "a segment that idle needs is gone")
    gone = oneslot.sink("idle")["next"]
    assert oneslot.unix.get("/internal/fetch", **{"from": gone, "max": 1}).status == 410
    assert "earliest" in post(oneslot, "/sinks/file/replay", {"from": gone}, 410)
    assert oneslot.http.post("/sinks/idle/replay", {"from": "earliest"}).status == 409
    command(oneslot, "replay", "idle", "--from", "earliest", "--skip", "--yes")
    session = Worker(oneslot).session
    assert session["next"] == session["floor"] > gone


# --- dead letters


def test_a_letter_from_burial_to_its_end(pg: Postgres, idle: Oneslot) -> None:
    worker = Worker(idle)
    changes = idle.changes()
    assert worker.bury(changes[0], "the field v cannot be a date").status == 204
    assert worker.bury(changes[1]).status == 204
    assert worker.commit(changes[2]["offset"]).status == 200, "burying fences nobody"
    assert idle.sink("idle")["dead_letters"] == 2
    listed = command(idle, "dead-letters", "idle")
    assert str(changes[0]["offset"]) in listed and "the field v cannot be a date" in listed
    page = json.loads(command(idle, "dead-letters", "idle", "show", str(changes[0]["offset"]), "--json"))
    assert page["letters"][0]["change"] == changes[0] and page["letters"][0]["attempts"] == 1
    shown = command(idle, "dead-letters", "idle", "show", str(changes[1]["offset"]))
    assert "insert public.t id=1 v=v1" in shown and "no such field" in shown
    idle.kill_all()  # and all of it is there again
    idle.start()
    idle.wait_streaming()
    assert worker.commit(changes[2]["offset"]).status == 200, "a session outlives the broker"

    assert "1 letter will be sent again" in command(idle, "dead-letters", "idle", "retry", str(changes[0]["offset"]))
    assert worker.commit(changes[2]["offset"]).status == 409, "so the worker learns of it"
    assert worker.open()["letters"] == 2
    assert worker.letters() == [(changes[0]["offset"], 1), (changes[1]["offset"], 0)]
    record = idle.unix.get(f"/internal/sinks/idle/letters/{changes[0]['offset']}")
    assert record.status == 200 and b"v0" in record.body
    assert worker.raise_key(changes[0], changes[0]["offset"]).status == 204
    assert worker.letters() == [(changes[1]["offset"], 0)]

    assert "--yes" in command(idle, "dead-letters", "idle", "discard", "--all", status=2)
    assert "1 letter given up" in command(idle, "dead-letters", "idle", "discard", "--all", "--yes")
    assert idle.sink("idle")["dead_letters"] == 0
    assert worker.open()["letters"] == 1 and worker.letters() == [(changes[1]["offset"], 2)], "a mark stays"
    assert "only a mark" in command(idle, "dead-letters", "idle", "show", str(changes[1]["offset"]))
    assert "only a mark" in command(idle, "dead-letters", "idle", "retry", str(changes[1]["offset"]), status=1)
    assert worker.raise_key(changes[1], changes[9]["offset"]).status == 204
    assert worker.letters() == [] and worker.open()["letters"] == 0


def test_the_counts_of_all_sinks_are_shown(idle: Oneslot) -> None:
    worker = Worker(idle)
    assert worker.bury(idle.changes()[3]).status == 204
    table = command(idle, "dead-letters").splitlines()
    assert [line.split()[:2] for line in table] == [["SINK", "DEAD"], ["file", "0"], ["idle", "1"]]
    pages = [json.loads(line) for line in command(idle, "dead-letters", "--json").splitlines()]
    assert [(page["sink"], page["dead"]) for page in pages] == [("file", 0), ("idle", 1)]
    metrics = idle.http.get("/metrics").body.decode()
    assert 'oneslot_sink_dead_letters{sink="idle",kind="file"} 1\n' in metrics
    assert "oneslot_rereads_waiting 0\n" in metrics


def test_many_letters_come_in_pages(idle: Oneslot) -> None:
    worker = Worker(idle)
    changes = idle.changes()
    for change in changes:
        assert worker.bury(change).status == 204
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = idle.http.get("/sinks/idle/dead-letters", limit=3, after=after).json()
        seen += [letter["offset"] for letter in page["letters"]]
        after = page["after"]
    assert seen == [change["offset"] for change in changes]
    ids = {"ids": seen[:4]}
    assert post(idle, "/sinks/idle/dead-letters/retry", ids) == {"letters": 4}
    assert post(idle, "/sinks/idle/dead-letters/retry", {"all": True}) == {"letters": 6}
    assert post(idle, "/sinks/idle/dead-letters/discard", {"ids": [seen[0], 7]}, 404)["status"] == 404
    assert [state for _, state in worker.letters()] == [1] * 10, "all of those named, or none"


def test_forgetting_a_sink_takes_its_letters_with_it(pg: Postgres, idle: Oneslot) -> None:
    worker = Worker(idle)
    assert worker.bury(idle.changes()[0]).status == 204
    idle.stop()
    idle.change_config(sinks={"idle": None})
    idle.start()
    idle.wait_streaming()
    assert idle.http.get("/sinks/idle/dead-letters").json()["dead"] == 1
    assert idle.http.request("DELETE", "/sinks/idle").status == 204
    assert idle.http.get("/sinks/idle/dead-letters").status == 404
    former = worker.session
    assert Worker(idle).session["letters"] == 0, "one of that name that comes later begins anew"
    assert Worker(idle).session["generation"] > former["generation"]
    late = worker.call("commit", {"generation": former["generation"], "expect": former["next"], "next": former["next"]})
    assert late.status == 409, "and a worker of the former life is not taken for its own"


def test_letters_that_are_gone_are_missed(idle: Oneslot) -> None:
    idle.stop()
    (idle.data / "dead").rename(idle.folder / "elsewhere")
    broker = idle.start_broker()
    assert broker.wait(30) == 1 and "put back the folder" in idle.log_text(broker)
    (idle.folder / "elsewhere").rename(idle.data / "dead")
    idle.processes.remove(broker)
    idle.start()
    idle.wait_streaming()


# --- rows to be read again


def test_a_row_waits_until_it_was_read(idle: Oneslot) -> None:
    worker = Worker(idle)
    tail = idle.lag()["log"]["tail"]["offset"]
    for offset in (tail - 3, tail - 2):  # the same row: one request, raised
        assert worker.call("reread", [[0, offset, "public", "t", ["id", "7"]]]).status == 204
    waiting = msgpack.unpackb(idle.unix.get("/internal/rereads", max=10).body)
    assert [request[1:] for request in waiting] in ([], [[tail - 2, b"public", b"t", [b"id", b"7"]]])


# --- the commands say what is wrong


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["sinks", "stop", "file"], 2, "pause, resume or show"),
        (["sinks", "pause"], 2, "which sink?"),
        (["sinks", "pause", "nobody"], 1, "no sink is called 'nobody'"),
        (["sinks", "--help", "nothing"], 2, "'nothing'"),
        (["replay", "--from", "earliest"], 2, "which sink?"),
        (["replay", "file"], 2, "from where?"),
        (["replay", "file", "--from", "nowhere", "--dry-run"], 1, "position"),
        (["replay", "nobody", "--from", "earliest", "--dry-run"], 1, "no sink is called 'nobody'"),
        (["dead-letters", "file", "burn", "1"], 2, "show, retry or discard"),
        (["dead-letters", "file", "retry"], 2, "which letters?"),
        (["dead-letters", "file", "retry", "x"], 2, "an ID is the offset"),
        (["dead-letters", "file", "show", "1"], 1, "no dead letter 1"),
        (["dead-letters", "file", "retry", "1"], 1, "no dead letter 1"),
        (["dead-letters", "nobody"], 1, "no sink is called 'nobody'"),
    ],
)
def test_commands_teach(shared: Oneslot, args: list[str], status: int, says: str) -> None:
    done = shared.cli(*args)
    assert done.returncode == status and says in done.stderr, done


@pytest.fixture
def shared(make_oneslot: Make) -> Oneslot:
    """A broker alone; sink `file` is registered."""
    oneslot: Oneslot = make_oneslot()
    oneslot.start_broker()
    oneslot.wait_serving()
    return oneslot


def test_sinks_are_shown(shared: Oneslot) -> None:
    table = command(shared, "sinks").splitlines()
    assert table[0].split()[:3] == ["SINK", "KIND", "STATE"] and table[1].split()[:2] == ["file", "file"]
    assert "path" in command(shared, "sinks", "show", "file")
    assert json.loads(command(shared, "sinks", "show", "file", "--json"))["name"] == "file"
    assert json.loads(command(shared, "sinks", "pause", "file", "--json")) == {"name": "file", "paused": True}
    assert "path" in shared.cli("sinks", "--help", "file", config=False).stdout


@pytest.mark.parametrize("args", [["sinks"], ["replay", "file", "--from", "earliest"], ["dead-letters"]])
def test_without_a_broker_it_is_unreachable(make_oneslot: Make, args: list[str]) -> None:
    done = make_oneslot().cli(*args)
    assert done.returncode == 69 and "oneslot run" in done.stderr, done


# --- check


def tables_of(oneslot: Oneslot) -> dict[str, bool]:
    """What the replicator tells a sink's check: which tables, and whether their rows have a key."""
    argv = [oneslot.programs.path("oneslot-replicator"), "--tables", "-c", str(oneslot.config_path)]
    done = subprocess.run(argv, env=oneslot.env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done
    return {f"{line['schema']}.{line['table']}": line["key"] for line in map(json.loads, done.stdout.splitlines())}


def test_check_asks_the_targets_about_the_tables(pg: Postgres, make_oneslot: Make) -> None:
    oneslot: Oneslot = make_oneslot(pg, config=WITH_IDLE)
    pg.sql('CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE "odd \n name" (id int PRIMARY KEY)')
    pg.sql("CREATE TABLE full_keyed (id int PRIMARY KEY); ALTER TABLE full_keyed REPLICA IDENTITY FULL")
    pg.sql("CREATE TABLE keyless (v int); ALTER TABLE keyless REPLICA IDENTITY FULL")
    pg.sql("CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    pg.sql("CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    expected = {
        "public.keyed": True,
        "public.odd \n name": True,
        "public.full_keyed": True,
        "public.keyless": False,
        "public.part": True,
    }
    assert tables_of(oneslot) == expected, "before anything is published"
    shown = command(oneslot, "check")
    assert re.search(r"^ok +target +file: .*5 tables", shown, re.MULTILINE), shown
    assert "idle:" not in re.sub(r"^.* sink .*$", "", shown, flags=re.MULTILINE), "it is not enabled"
    oneslot.start()
    oneslot.wait_streaming()
    assert tables_of(oneslot) == expected, "and afterwards"
    assert oneslot.cli("check").returncode == 0, "also while it runs"
    pg.sql("ALTER PUBLICATION oneslot SET (publish_via_partition_root = true)", user="postgres")
    via_root = {name: key for name, key in expected.items() if name != "public.part"} | {"public.parts": True}
    assert tables_of(oneslot) == via_root, "changes of a partition come under its parent's name"
    oneslot.change_config(sinks={"file": {"path": "./no/such/folder/x"}})
    failed = json.loads(oneslot.cli("check", "--json").stdout)
    faults = [check for check in failed["checks"] if check["result"] == "FAIL"]
    assert [fault["what"] for fault in faults] == ["target"] and "no/such/folder" in faults[0]["detail"]
