"""The http kind with a receiver that verifies signatures, keeps what it got and misbehaves: tests judge its state."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Iterator

import pytest
from harness import Oneslot, Postgres, assert_tables_equal, check_log, fold
from harness.workload import Workload

Make = Callable[..., Any]
Change = dict[str, Any]
SECRET = "a secret of the test"


def is_signed(secret: str, header: str, body: bytes, tolerance: int = 300) -> bool:
    """As sinks/http/README.md shows it."""
    fields = dict(part.split("=", 1) for part in header.split(","))
    want = hmac.new(secret.encode(), f"{fields['t']}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(want, fields["v1"]) and abs(time.time() - int(fields["t"])) < tolerance


class Receiver:
    """Takes a change when it has none of its offset. `fault`: asked for each request with its changes; an answer of
    its own, or None for an honest one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changes: dict[int, Change] = {}  # in the order of arrival
        self.repeated = self.requests = 0
        self.bad: list[str] = []  # what no request may look like
        self.fault: Callable[[list[Change]], tuple[int, Any] | None] = lambda changes: None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?from=oneslot"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def take(self, changes: list[Change]) -> None:
        for change in changes:
            if change["offset"] in self.changes:
                self.repeated += 1
            self.changes.setdefault(change["offset"], change)

    def check(self, headers: Any, changes: list[Change], body: bytes) -> None:
        key = f"{changes[0]['offset']}-{changes[-1]['offset']}"
        if headers["Idempotency-Key"] != key or headers["Oneslot-Sink"] != "hook":
            self.bad.append(f"headers {headers}")
        if not is_signed(SECRET, headers["Oneslot-Signature"], body):
            self.bad.append(f"the signature of {key}")

    def answer(self, headers: Any, body: bytes) -> tuple[int, Any]:
        is_array = headers["Content-Type"] == "application/json"
        changes = json.loads(body) if is_array else [json.loads(line) for line in body.splitlines()]
        with self.lock:
            self.requests += 1
            self.check(headers, changes, body)
            fault = self.fault(changes)
            if fault is not None:
                return fault
            self.take(changes)
            return 204, None

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, said = receiver.answer(self.headers, body)
                if status == 0:
                    self.close_connection = True
                    return
                text = b"" if said is None else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()
    assert not receiver.bad


@pytest.fixture
def make_hook(make_oneslot: Make, receiver: Receiver) -> Make:
    def make(pg: Postgres, tables: tuple[str, ...] = ("public.*",), **options: Any) -> Oneslot:
        sink = {"kind": "http", "url": receiver.url, "secret_file": "./secret", **options}
        one: Oneslot = make_oneslot(pg, tables=tables, config={"sinks": {"file": None, "hook": sink}})
        secret = one.folder / "secret"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o644)
        return one

    return make


def settle(pg: Postgres, one: Oneslot) -> None:
    one.wait_durable(pg)
    one.wait_settled("hook", 120)


def letters(one: Oneslot) -> list[dict[str, Any]]:
    answer = one.http.get("/sinks/hook/dead-letters")
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.json()["letters"]
    return found


def misbehave(receiver: Receiver, rng: random.Random) -> Callable[[list[Change]], tuple[int, Any] | None]:
    """Refuses, takes without answering, takes the first half and says so: never out of order."""

    def fault(changes: list[Change]) -> tuple[int, Any] | None:
        what = rng.random()
        if what < 0.1:
            return rng.choice([429, 500, 503, 408]), None
        if what < 0.2:
            receiver.take(changes)
            return 0, None
        if what < 0.3:
            half = rng.randrange(len(changes) + 1)
            receiver.take(changes[:half])
            named = [{"offset": c["offset"], "status": "ok"} for c in changes[:half]]
            return 200, {"results": named}
        if what < 0.4 and len(changes) > 1:
            return rng.choice([413, 400, 422]), None
        return None

    return fault


@pytest.mark.timeout(300)
@pytest.mark.parametrize("body", ["ndjson", "json"])
def test_a_receiver_that_knows_offsets_ends_with_each_change_once(
    make_pg: Make, make_hook: Make, receiver: Receiver, rng: random.Random, body: str
) -> None:
    load = Workload(make_pg(settings={"deadlock_timeout": "'100ms'"}), rng)
    load.create()
    one = make_hook(load.pg, tuple(load.patterns), format=body, batch_records=20)
    receiver.fault = misbehave(receiver, rng)
    one.start()
    one.wait_streaming()
    load.start(1)
    for _ in range(3):
        before = receiver.requests
        one.wait(lambda: receiver.requests > before + 8, 60, "the sink runs again and sends")
        one.kill("sink")
    one.wait(lambda: receiver.repeated > 0, 60, "something is sent twice: the faults happen")
    load.stop()
    load.pg.sql("INSERT INTO parent VALUES (nextval('fresh'), 0)")
    receiver.fault = lambda changes: None
    settle(load.pg, one)
    arrived = list(receiver.changes.values())
    assert sorted(arrived, key=lambda change: change["offset"]) == one.changes()
    check_log(one.changes())
    assert_tables_equal(load.pg, fold(arrived), load.names, "what arrived, in the order of arrival")
    assert letters(one) == []


def test_one_poisoned_record_is_one_dead_letter_and_the_rest_arrives(
    pg: Postgres, make_hook: Make, receiver: Receiver
) -> None:
    def fault(changes: list[Change]) -> tuple[int, Any] | None:
        return (422, {"detail": "poison"}) if any(c["new"]["v"] == "poison" for c in changes) else None

    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    receiver.fault = fault
    one = make_hook(pg)
    one.start()
    one.wait_streaming()
    pg.sql("INSERT INTO t SELECT i, CASE i WHEN 77 THEN 'poison' ELSE 'x' END FROM generate_series(1, 200) i")
    settle(pg, one)
    assert {c["key"]["id"] for c in receiver.changes.values()} == set(range(1, 201)) - {77}
    (letter,) = letters(one)
    assert "422 to this record alone" in letter["reason"] and "poison" not in letter["reason"]


def test_a_record_that_the_receiver_rejects_by_name_is_a_dead_letter_with_its_reason(
    pg: Postgres, make_hook: Make, receiver: Receiver
) -> None:
    def fault(changes: list[Change]) -> tuple[int, Any] | None:
        bad = [c for c in changes if c["key"]["id"] == 3]
        receiver.take([c for c in changes if c not in bad])
        named = [{"offset": c["offset"], "status": "reject" if c in bad else "ok", "reason": "no"} for c in changes]
        return 200, {"results": named}

    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    receiver.fault = fault
    one = make_hook(pg)
    one.start()
    one.wait_streaming()
    pg.sql("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 10) i")
    settle(pg, one)
    assert {c["key"]["id"] for c in receiver.changes.values()} == set(range(1, 11)) - {3}
    assert [letter["reason"] for letter in letters(one)] == ["the receiver rejects it: no"]


def test_what_left_out_a_value_that_was_rejected_in_the_same_request_is_read_again(
    pg: Postgres, make_hook: Make, receiver: Receiver
) -> None:
    """The update was accepted, and its note stands in the insert that was not: only the whole row can mend that."""

    def fault(changes: list[Change]) -> tuple[int, Any] | None:
        bad = [c for c in changes if c["key"]["id"] == 2 and c["op"] == "insert"]
        receiver.take([c for c in changes if c not in bad])
        named = [{"offset": c["offset"], "status": "reject" if c in bad else "ok", "reason": "no"} for c in changes]
        return 200, {"results": named}

    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text, note text)")
    pg.sql("ALTER TABLE t ALTER note SET STORAGE EXTERNAL")
    receiver.fault = fault
    one = make_hook(pg)
    one.start()
    one.wait_streaming()
    pg.sql("INSERT INTO t VALUES (1, 'x', 'small')")
    settle(pg, one)
    pg.sql(
        "BEGIN; INSERT INTO t VALUES (2, 'x', repeat('n', 10000)); UPDATE t SET v = 'y' WHERE id = 2; COMMIT",
    )
    one.wait(lambda: any(c["op"] == "read" for c in receiver.changes.values()), 30, "the row arrives whole")
    settle(pg, one)
    last = max((c for c in receiver.changes.values() if c["key"]["id"] == 2), key=lambda c: c["offset"])
    assert last["op"] == "read" and last["new"] == {"id": 2, "v": "y", "note": "n" * 10000}
    assert letters(one) == []


def is_key_change(change: Change) -> bool:
    return change["op"] == "update" and "id" in change.get("old", {}) and change["old"]["id"] != change["key"]["id"]


def redrive(one: Oneslot, **what: Any) -> None:
    assert one.http.post("/sinks/hook/dead-letters/retry", what).status == 200


def test_what_follows_a_rejected_key_change_arrives_behind_it(
    pg: Postgres, make_hook: Make, receiver: Receiver
) -> None:
    """Its receiver has no versions: a later record of either key would be lost to it, or would hide that the former
    key is gone."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text, note text)")
    pg.sql("ALTER TABLE t ALTER note SET STORAGE EXTERNAL")
    receiver.fault = lambda changes: (422, None) if any(map(is_key_change, changes)) else None
    one = make_hook(pg)
    one.start()
    one.wait_streaming()
    pg.sql("INSERT INTO t VALUES (1, 'a', repeat('n', 10000)), (9, 'other', NULL)")
    pg.sql("UPDATE t SET id = 2 WHERE id = 1")
    pg.sql("UPDATE t SET v = 'b' WHERE id = 2")  # note unchanged
    pg.sql("UPDATE t SET v = 'c', note = 'small' WHERE id = 2")  # whole
    pg.sql("INSERT INTO t VALUES (1, 'again', NULL)")
    pg.sql("UPDATE t SET id = 3 WHERE id = 2")
    pg.sql("DELETE FROM t WHERE id = 3")
    pg.sql("INSERT INTO t VALUES (3, 'd', NULL)")
    pg.sql("UPDATE t SET v = 'free' WHERE id = 9")
    settle(pg, one)
    held = letters(one)
    assert len(held) == 7 and "422" in held[0]["reason"]
    first = held[0]["offset"]
    assert {letter["reason"] for letter in held[1:5]} == {f"it follows the key change in the dead letter at offset {first}"}
    assert {letter["reason"] for letter in held[5:]} == {
        f"it follows the key change in the dead letter at offset {held[4]['offset']}"
    }
    assert [change["key"]["id"] for change in receiver.changes.values()] == [1, 9, 9]

    receiver.fault = lambda changes: None
    for later in held[3], held[6]:  # the row inserted again, the end of the chain: not before what they follow
        redrive(one, ids=[later["offset"]])
        one.wait(lambda: [t["attempts"] for t in letters(one) if t == {**t, "offset": later["offset"]}] == [2], 30, "it stays")
    one.kill("sink")  # and all of it is known to the next one
    pg.sql("UPDATE t SET v = 'later' WHERE id = 1")
    settle(pg, one)
    assert len(letters(one)) == 8 and len(receiver.changes) == 3

    redrive(one, all=True)
    one.wait(lambda: letters(one) == [], 30, "all are accepted")
    settle(pg, one)
    assert_tables_equal(pg, fold(receiver.changes.values()), ["public.t"], "what arrived, in the order of arrival")
    pg.sql("UPDATE t SET v = 'freed' WHERE id = 1")
    settle(pg, one)
    assert letters(one) == []
    assert_tables_equal(pg, fold(receiver.changes.values()), ["public.t"], "nothing is held any more")


@pytest.mark.parametrize("status, says", [(401, "token_file"), (404, "its path"), (302, "redirects are not followed")])
def test_a_status_that_no_waiting_mends_stops_and_buries_nothing(
    pg: Postgres, make_hook: Make, receiver: Receiver, status: int, says: str
) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    receiver.fault = lambda changes: (status, None)
    one = make_hook(pg)
    one.start()
    one.wait_streaming()
    pg.sql("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 50) i")
    one.wait(lambda: one.sink("hook")["state"] == "stopped", 30, "the sink stops")
    assert says in one.sink("hook")["last_error"]
    assert letters(one) == [] and receiver.changes == {}
    receiver.fault = lambda changes: None
    one.kill("sink")
    settle(pg, one)
    assert len(receiver.changes) == 50 and letters(one) == []
