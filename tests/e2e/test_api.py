"""The HTTP interface as design/interface.md has it, against a real system: every position, filter and format of
/changes, what a change looks like, and what the other resources say."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import re
import socket
import threading
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Iterator

import msgpack
import pytest

from harness import (
    Http,
    Oneslot,
    Postgres,
    Programs,
    Response,
    assert_tables_equal,
    check_log,
    fold,
    lsn,
    wait_until,
)
from harness.system import NOT_YET

Change = dict[str, Any]


def text_of_lsn(number: int) -> str:
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def start(oneslot: Oneslot) -> None:
    oneslot.start()
    oneslot.wait_streaming()


def rows(changes: list[Change]) -> list[int]:
    return [change["new"]["id"] for change in changes if change["op"] == "insert"]


def problem(answer: Response, status: int, *words: str) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["title"] and body["type"] == "about:blank", body
    for word in words:
        assert re.search(word, body["detail"]), (word, body)
    return body


# --- beginning


def test_who_is_answered_by_one_listener_finds_the_others(programs: Programs, make_oneslot: Callable[..., Oneslot]) -> None:
    """Each begins to listen 0.3 s after the one before it."""
    oneslot = make_oneslot(env=programs.preload("listen_shim"))
    oneslot.start_broker()
    either = [oneslot.http, oneslot.unix]

    def answers(http: Http) -> bool:
        try:
            return http.get("/healthz").status == 200
        except NOT_YET:
            return False

    wait_until(lambda: any(answers(http) for http in either), 30, "one of them answers")
    assert all(answers(http) for http in either)
    with socket.socket(socket.AF_UNIX) as append:
        append.connect(str(oneslot.data / "append.sock"))


# --- positions


def write_transactions(pg: Postgres, oneslot: Oneslot) -> list[int]:
    """Five transactions of two rows each, ids 10, 11, 20, 21, ...; where the WAL stood behind each."""
    ends = []
    with pg.connect() as connection:
        for number in range(1, 6):
            connection.execute(f"INSERT INTO t VALUES ({number}0), ({number}1)")
            ends.append(pg.flush_lsn())
    oneslot.wait_durable(pg)
    return ends


def all_rows(first: int, last: int = 5) -> list[int]:
    return [number * 10 + digit for number in range(first, last + 1) for digit in (0, 1)]


def test_changes_begin_and_end_at_every_form_of_a_position(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    start(oneslot)
    ends = write_transactions(pg, oneslot)
    changes = oneslot.changes()
    assert check_log(changes) == 10
    third = changes[4]
    assert third["new"] == {"id": 30} and third["seq"] == 0 and changes[5]["seq"] == 1

    def got(**query: Any) -> list[int]:
        return rows(oneslot.changes(**query))

    assert got() == got(from_="earliest") == all_rows(1)
    assert got(from_="latest") == []
    assert got(from_=third["offset"]) == all_rows(3)
    assert got(from_=third["offset"] + 1) == [31, *all_rows(4)], "resume behind the last offset"
    assert got(from_=changes[-1]["offset"] + 1) == []
    assert got(from_=third["lsn"]) == all_rows(3), "a commit LSN replays its transaction"
    assert got(from_=third["lsn"].lower()) == all_rows(3)
    assert got(from_=f"{third['epoch']}:{third['lsn']}") == all_rows(3)
    assert got(from_=text_of_lsn(ends[2])) == all_rows(4), "an end LSN starts after it"
    assert got(from_=text_of_lsn(lsn(third["lsn"]) - 1)) == all_rows(3)
    assert got(from_="0/1") == all_rows(1)
    assert got(from_="FFFF/0") == []
    assert got(from_=third["ts"]) == all_rows(3)
    just_after = datetime.fromisoformat(third["ts"].replace("Z", "+00:00")) + timedelta(microseconds=1)
    assert got(from_=just_after.isoformat()) == all_rows(4)
    assert got(from_=just_after.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()) == all_rows(4)
    assert got(from_="2000-01-01T00:00:00Z") == all_rows(1)
    assert got(from_="2100-01-01T00:00:00Z") == []

    assert got(until=third["offset"]) == all_rows(1, 3), "until includes its transaction"
    assert got(until=third["lsn"]) == got(until=f"1:{third['lsn']}") == all_rows(1, 3)
    assert got(until=text_of_lsn(lsn(third["lsn"]) - 1)) == all_rows(1, 2)
    assert got(until=third["ts"]) == all_rows(1, 3)
    assert got(until="earliest") == [10, 11]
    assert got(until="latest") == all_rows(1)
    assert got(from_=changes[2]["lsn"], until=third["lsn"]) == all_rows(2, 3)
    assert got(from_=third["lsn"], until=changes[0]["lsn"]) == []
    assert got(until="FFFF/0") == all_rows(1), "it may come; the answer ends at the tail"

    assert got(limit=3) == [10, 11, 20]
    assert got(limit=1, from_=third["lsn"]) == [30]
    assert got(limit=10**9) == all_rows(1)
    answer = oneslot.get_changes(limit=1)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["oneslot-earliest"] == str(changes[0]["offset"])
    assert answer.headers["oneslot-tail"] == str(changes[-1]["offset"] + 1)
    assert answer.headers["oneslot-epoch"] == "1"


def test_positions_resolve(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    start(oneslot)
    ends = write_transactions(pg, oneslot)
    changes = oneslot.changes()
    first, third, last = changes[0], changes[4], changes[-1]

    def place(text: str | int) -> dict[str, Any]:
        answer = oneslot.http.get(f"/positions/{text}")
        assert answer.status == 200, answer
        return answer.json()

    def of(change: Change) -> dict[str, Any]:
        return {name: change[name] for name in ("offset", "lsn", "ts")}

    end = {"offset": last["offset"] + 1, "lsn": None, "ts": None}
    assert place("earliest") == of(first)
    assert place("latest") == end
    assert place(third["offset"] + 1) == {**of(third), "offset": third["offset"] + 1}
    assert place(third["lsn"]) == place(f"1:{third['lsn']}") == of(third)
    assert place(text_of_lsn(ends[1])) == of(third)
    assert place(third["ts"]) == of(third)
    assert place("FFFF/0") == place(last["offset"] + 1) == end
    problem(oneslot.http.get("/positions/soon"), 400, "a position is")
    problem(oneslot.http.get("/positions/7:0/1"), 409, "epoch 7 is not in this log")
    assert problem(oneslot.http.get("/positions/1"), 410)["earliest"] == of(first)
    beyond = problem(oneslot.http.get(f"/positions/{last['offset'] + 2}"), 416)
    assert beyond["tail"] == {**of(last), "offset": last["offset"] + 1}


def test_filters_by_table_and_op(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE users (id int PRIMARY KEY, v text)")
    start(oneslot)
    pg.sql("INSERT INTO t VALUES (1); INSERT INTO users VALUES (1, 'a')")
    pg.sql("UPDATE users SET v = 'b'; DELETE FROM t; TRUNCATE users, t")
    pg.sql("SELECT pg_logical_emit_message(true, 'app', 'x')")
    oneslot.wait_durable(pg)

    def got(**query: Any) -> list[str]:
        return [change["op"][0] + change.get("table", "-")[0] for change in oneslot.changes(**query)]

    truncated = sorted(got()[4:6])
    assert got()[:4] == ["it", "iu", "uu", "dt"] and truncated == ["tt", "tu"] and got()[6:] == ["m-"]
    assert got(tables="public.users") == ["iu", "uu", "tu"]
    assert got(tables="public.u*") == got(tables="public.?sers") == got(tables="nothing.*,public.users")
    assert len(got(tables="public.*")) == 6, "a message belongs to no table"
    assert got(tables="nothing.*") == got(tables="public.USERS") == []
    assert got(ops="insert") == ["it", "iu"]
    assert got(ops="update,delete") == ["uu", "dt"]
    assert got(ops="message") == ["m-"]
    assert got(ops="read") == []
    assert got(ops="insert, truncate", tables="public.t") == ["it", "tt"]
    assert got(ops="insert", limit=1, tables="public.users") == ["iu"]


def test_what_cannot_be_answered_says_why(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    start(oneslot)
    pg.sql("INSERT INTO t VALUES (1)")
    oneslot.wait_durable(pg)
    (change,) = oneslot.changes()

    for name in ("from", "until"):
        for text in ("", "soon", "-1", "0/", "0/G", "1:2:0/1", "2026-13-01T00:00:00Z", "2026-01-01", str(2**64)):
            problem(oneslot.http.request("GET", "/changes", {name: text}), 400, f"^{name}: not a position", "2026-11-22")
    for query, words in (
        ({"limit": "0"}, "limit: a number of records, at least 1"),
        ({"limit": "many"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"follow": "yes"}, "follow: 1"),
        ({"wait": "-1"}, "wait: seconds"),
        ({"wait": "100000"}, "wait: seconds"),
        ({"ops": "upsert"}, "ops: one or more of insert"),
        ({"tables": "a.b.c"}, "^tables: "),
        ({"tables": "a.b,"}, "^tables"),
        ({"format": "xml"}, "format: one of ndjson, sse, msgpack"),
        ({"format": "debezium"}, "not in this version"),
        ({"colour": "red"}, "no parameter 'colour' here.*openapi"),
        ({"From": "earliest"}, "no parameter 'From'"),
    ):
        problem(oneslot.http.request("GET", "/changes", query), 400, words)
    problem(oneslot.get_changes(from_="7:0/1"), 409, "epoch 7 is not in this log")
    problem(oneslot.get_changes(from_="0:0/1"), 409)
    gone = problem(oneslot.get_changes(from_=change["offset"] - 1), 410, "no longer retained")
    assert gone["earliest"]["offset"] == change["offset"]
    beyond = problem(oneslot.get_changes(from_=change["offset"] + 2), 416, "beyond the end")
    assert beyond["tail"]["offset"] == change["offset"] + 1

    problem(oneslot.http.get("/none"), 404)
    problem(oneslot.http.get("/changes/more"), 404)
    problem(oneslot.http.get("/lag/none"), 404, "none")
    for method in ("POST", "PUT", "PATCH"):
        refused = oneslot.http.request(method, "/changes", body={} if method == "POST" else None)
        problem(refused, 405)
        assert refused.headers["allow"] == "GET"
    for path in ("/lag", "/metrics", "/healthz", "/readyz", "/openapi.json", "/positions/earliest"):
        problem(oneslot.http.get(path, colour="red"), 400, "no parameter 'colour'")


def test_what_retention_removed_is_gone_and_not_silently_skipped(
    pg: Postgres, make_oneslot: Callable[..., Oneslot]
) -> None:
    log = {"segment_bytes": "1MiB", "retain_bytes": "2MiB"}
    oneslot = make_oneslot(pg, config={"log": log, "sinks": None})
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    start(oneslot)
    pg.sql("INSERT INTO t VALUES (0, 'first')")
    oneslot.wait_durable(pg)
    (first,) = oneslot.changes()
    for number in range(1, 9):
        pg.sql("INSERT INTO t SELECT %s + i, repeat('x', 1000) FROM generate_series(1, 1000) i", [number * 1000])
    oneslot.wait_durable(pg)
    oneslot.wait(lambda: oneslot.lag()["log"]["earliest"]["offset"] > first["offset"], 30, "segments are removed")
    # From here on nothing more is removed under a reader.
    oneslot.wait(lambda: oneslot.lag()["log"]["bytes"] <= 2 << 20, 30, "the log is back within retain_bytes")
    for position in (first["offset"], first["lsn"], first["ts"]):
        gone = problem(oneslot.get_changes(from_=position), 410, "no longer")
        assert gone["earliest"] == oneslot.lag()["log"]["earliest"]
    changes = oneslot.changes()
    assert changes[0]["seq"] == 0 and check_log(changes) >= 1000
    assert changes[0]["offset"] == oneslot.lag()["log"]["earliest"]["offset"]


# --- formats, following, waiting


@contextlib.contextmanager
def later(seconds_after: Callable[[], None]) -> Iterator[None]:
    """Runs it in a thread of its own, so that the answer is being waited for meanwhile."""
    thread = threading.Thread(target=seconds_after)
    thread.start()
    yield
    thread.join()


def test_follow_goes_on_and_wait_holds_an_empty_answer_back(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    start(oneslot)
    pg.sql("INSERT INTO t VALUES (1)")
    oneslot.wait_durable(pg)
    numbers = itertools.count(2)

    with oneslot.http.stream("GET", "/changes", {"follow": 1}) as stream:
        assert stream.getheader("transfer-encoding") == "chunked"
        assert json.loads(stream.readline())["new"] == {"id": 1}
        for _ in range(3):
            number = next(numbers)
            pg.sql("INSERT INTO t VALUES (%s)", [number])
            assert json.loads(stream.readline())["new"] == {"id": number}
    with oneslot.http.stream("GET", "/changes", {"follow": 1, "from": "latest", "limit": 2}) as stream:
        pg.sql("INSERT INTO t VALUES (5), (6), (7)")
        assert rows([json.loads(line) for line in stream.read().splitlines()]) == [5, 6], "limit ends it"
    oneslot.wait_durable(pg)
    tail = oneslot.changes()[-1]["offset"] + 1
    with oneslot.http.stream("GET", "/changes", {"follow": 1, "until": tail, "from": tail}) as stream:
        pg.sql("INSERT INTO t VALUES (8), (9)")
        assert rows([json.loads(line) for line in stream.read().splitlines()]) == [8, 9], "until ends it"

    assert oneslot.changes(from_="latest", wait=0) == []
    assert oneslot.changes(from_="latest", wait=1) == []
    with later(lambda: pg.sql("INSERT INTO t VALUES (10)") and None):
        assert rows(oneslot.changes(from_=tail + 2, wait=30)) == [10]
    assert rows(oneslot.changes(from_=tail, wait=30)) == [8, 9, 10], "there is something: no wait"


def test_a_follower_ends_unterminated_when_the_broker_ends(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    start(oneslot)
    with oneslot.http.stream("GET", "/changes", {"follow": 1}) as stream:
        pg.sql("INSERT INTO t VALUES (1)")
        assert json.loads(stream.readline())["new"] == {"id": 1}
        oneslot.stop()
        with pytest.raises((OSError, EOFError, ValueError, AssertionError, Exception)):
            rest = stream.read()
            assert rest, "an end that looks like the end"


def events(stream: Any, count: int) -> list[tuple[int, Change]]:
    found = []
    while len(found) < count:
        line = stream.readline()
        assert line, "the stream ended"
        if line.startswith(b"id: "):
            data = stream.readline()
            assert data.startswith(b"data: ") and stream.readline() == b"\n"
            found.append((int(line[4:]), json.loads(data[6:])))
        else:
            assert line.startswith(b":") or line == b"\n", line
    return found


def test_server_sent_events_resume_by_last_event_id(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    start(oneslot)
    pg.sql("INSERT INTO t VALUES (1, E'two\\nlines\\r\\n'), (2, 'b'), (3, 'c')")
    oneslot.wait_durable(pg)
    lines = oneslot.changes()
    accept = {"Accept": "text/event-stream"}
    with oneslot.http.stream("GET", "/changes", {"follow": 1}, headers=accept) as stream:
        assert stream.getheader("content-type") == "text/event-stream"
        assert stream.getheader("cache-control") == "no-store"
        found = events(stream, 3)
        assert [change for _, change in found] == lines
        assert [number for number, _ in found] == [change["offset"] for change in lines]
    resumed = {**accept, "Last-Event-ID": str(found[1][0])}
    query = {"follow": 1, "from": "earliest"}  # the URL of an EventSource stays what it was
    with oneslot.http.stream("GET", "/changes", query, headers=resumed) as stream:
        assert events(stream, 1)[0][1] == lines[2]
        pg.sql("INSERT INTO t VALUES (4, 'd')")
        assert events(stream, 1)[0][1]["new"]["id"] == 4
    whole = oneslot.http.request("GET", "/changes", {"format": "sse", "limit": 1})
    assert whole.headers["content-type"] == "text/event-stream" and whole.body.endswith(b"\n\n")
    bad = {**accept, "Last-Event-ID": "x"}
    problem(oneslot.http.request("GET", "/changes", headers=bad), 400, "Last-Event-ID")
    ignored = oneslot.http.request("GET", "/changes", headers={"Last-Event-ID": "x"})
    assert ignored.status == 200, "it means nothing outside of text/event-stream"


def plain(value: Any) -> Any:
    """A msgpack change as its JSON form: bin is {"base64": ...} there."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def test_msgpack_says_the_same(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id bigint PRIMARY KEY, yes bool, real float8, n numeric, v text, raw bytea)")
    start(oneslot)
    pg.sql("INSERT INTO t VALUES (-9007199254740993, true, 0.1, 1.50, 'é', '\\x00'), (2, NULL, 1e300, 'NaN', NULL, NULL)")
    pg.sql("UPDATE t SET v = 'b' WHERE id = 2; UPDATE t SET id = 3 WHERE id = 2; DELETE FROM t; TRUNCATE t")
    oneslot.wait_durable(pg)
    expected = oneslot.changes()
    assert len(expected) == 7
    for answer in (
        oneslot.http.request("GET", "/changes", headers={"Accept": "application/msgpack"}),
        oneslot.http.request("GET", "/changes", headers={"Accept": "text/html;q=0.9, application/msgpack;q=0.8"}),
        oneslot.http.request("GET", "/changes", {"format": "msgpack"}),
    ):
        assert answer.status == 200 and answer.headers["content-type"] == "application/msgpack"
        assert [plain(change) for change in msgpack.Unpacker(io.BytesIO(answer.body))] == expected
    for accept in ("*/*", "application/json", "text/html"):
        assert oneslot.http.request("GET", "/changes", headers={"Accept": accept}).ndjson() == expected


# --- what a change looks like


def test_values_of_every_type(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql(
        """
        CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE DOMAIN amount AS int CHECK (VALUE > 0);
        CREATE TYPE pair AS (a int, b text);
        CREATE TABLE t (id uuid PRIMARY KEY, yes bool, no bool, small int2, normal int4, big int8, f4 float4, f8 float8,
            nan float8, inf float8, ninf float4, num numeric, precise numeric(20,10), numnan numeric, doc json, docb jsonb,
            scalar jsonb, raw bytea, words text[], matrix int[][], at timestamptz, ts timestamp, day date, span interval,
            money money, addr inet, m mood, dom amount, p pair, empty text, nothing text, odd text, "Col ""x""!" text)
        """
    )
    start(oneslot)
    pg.sql(
        """
        INSERT INTO t VALUES ('00000000-0000-0000-0000-00000000000a', true, false, -32768, 2147483647,
            9223372036854775807, 0.1, 0.1, 'NaN', 'Infinity', '-Infinity', 12345678901234567890.123456789, 1.5, 'NaN',
            E'{\\n "a" : [1, null],\\n "a": "dup" }', '{"b": 1.10, "a": "x y"}', 'null', '\\x00ff0a', '{a,NULL,"b c"}',
            '{{1,2},{3,4}}', '2026-01-02 03:04:05.6+02', '2026-01-02 03:04:05', '2026-01-02', '1 year 2 days 03:04:05',
            12.5, '10.0.0.0/8', 'sad', 7, ROW(1, 'x y'), '', NULL, E'"\\\\ \\t\\n \\u2028 \\U0001F600', 'y')
        """
    )
    oneslot.wait_durable(pg)
    line = oneslot.get_changes().body.decode()
    assert line.count("\n") == 1, "one change, one line"
    change = json.loads(line, parse_float=str)
    assert change["key"] == {"id": "00000000-0000-0000-0000-00000000000a"}
    new = change["new"]
    assert new.pop("money") in ("$12.50", "12.50")
    assert new == {
        "id": "00000000-0000-0000-0000-00000000000a",
        "yes": True,
        "no": False,
        "small": -32768,
        "normal": 2147483647,
        "big": 9223372036854775807,
        "f4": "0.1",
        "f8": "0.1",
        "nan": "NaN",
        "inf": "Infinity",
        "ninf": "-Infinity",
        "num": "12345678901234567890.123456789",
        "precise": "1.5000000000",
        "numnan": "NaN",
        "doc": {"a": "dup"},
        "docb": {"a": "x y", "b": "1.10"},
        "scalar": None,
        "raw": "\\x00ff0a",
        "words": '{a,NULL,"b c"}',
        "matrix": "{{1,2},{3,4}}",
        "at": "2026-01-02 01:04:05.6+00",
        "ts": "2026-01-02 03:04:05",
        "day": "2026-01-02",
        "span": "1 year 2 days 03:04:05",
        "addr": "10.0.0.0/8",
        "m": "sad",
        "dom": 7,
        "p": '(1,"x y")',
        "empty": "",
        "nothing": None,
        "odd": '"\\ \t\n \u2028 \U0001f600',
        'Col "x"!': "y",
    }
    assert '"f8":0.1,' in line and '"num":"12345678901234567890.123456789"' in line
    assert '"doc":{"a":[1,null],"a":"dup"}' in line, "json as it is, but for the line breaks"
    assert_tables_equal(pg, fold(oneslot.changes()), ["public.t"])


# Whatever a role or a database can set that changes a value's text, and more that one might think does.
ODD_SETTINGS = {
    "DateStyle": "'German'",
    "IntervalStyle": "'iso_8601'",
    "TimeZone": "'Asia/Kathmandu'",
    "timezone_abbreviations": "'India'",
    "extra_float_digits": "'-15'",
    "bytea_output": "'escape'",
    "lc_monetary": "'C.UTF-8'",
    "lc_numeric": "'C.UTF-8'",
    "lc_time": "'C.UTF-8'",
    "search_path": "'public'",
    "quote_all_identifiers": "'on'",
    "xmlbinary": "'hex'",
    "xmloption": "'document'",
    "array_nulls": "'off'",
    "standard_conforming_strings": "'off'",
    "default_text_search_config": "'pg_catalog.german'",
    "client_encoding": "'LATIN1'",
    "client_min_messages": "'error'",
}


@pytest.mark.parametrize("target", ["ROLE oneslot", "DATABASE app"])
def test_settings_of_the_role_and_the_database_change_no_text(pg: Postgres, oneslot: Oneslot, target: str) -> None:
    pg.sql(
        """
        CREATE TABLE t (id int PRIMARY KEY, day date, ts timestamp, at timestamptz, clock timetz, span interval,
            days daterange, ats tstzrange, f8 float8, spot point, raw bytea, raws bytea[], money money, doc xml,
            words text[], of_class regclass, own regclass, of_type regtype, of_proc regproc, of_procedure regprocedure,
            of_operator regoperator, of_role regrole, of_schema regnamespace, of_config regconfig, acl aclitem, txt text)
        """
    )
    for name, value in ODD_SETTINGS.items():
        pg.sql(f"ALTER {target} SET {name} = {value}", user="postgres")
    start(oneslot)
    pg.sql(
        """
        INSERT INTO t VALUES (1, '2026-01-02', '2026-01-02 03:04:05', '2026-01-02 03:04:05+02', '03:04:05+02',
            '1 year 2 days 03:04:05', '[2026-01-02,2026-01-04)', '[2026-01-02 00:00:00+00,)', 0.1::float8 + 0.2, '(0.1,0.3)',
            decode('00ff0a', 'hex'), ARRAY[decode('00', 'hex')], 12.5, xmlparse(CONTENT '<a>1</a><b/>'), ARRAY['a', NULL],
            'pg_catalog.pg_class', 'public.t', 'int4', 'pg_sleep', 'abs(int4)', '+(int4,int4)', 'oneslot', 'public',
            'pg_catalog.english', 'app=r/postgres', chr(382) || chr(8364))
        """
    )
    oneslot.wait_durable(pg)
    (change,) = oneslot.changes()
    assert change["new"] == {
        "id": 1,
        "day": "2026-01-02",
        "ts": "2026-01-02 03:04:05",
        "at": "2026-01-02 01:04:05+00",
        "clock": "03:04:05+02",
        "span": "1 year 2 days 03:04:05",
        "days": "[2026-01-02,2026-01-04)",
        "ats": '["2026-01-02 00:00:00+00",)',
        "f8": 0.30000000000000004,
        "spot": "(0.1,0.3)",
        "raw": "\\x00ff0a",
        "raws": '{"\\\\x00"}',
        "money": "$12.50",
        "doc": "<a>1</a><b/>",
        "words": "{a,NULL}",
        "of_class": "pg_class",
        "own": "public.t",
        "of_type": "integer",
        "of_proc": "pg_sleep",
        "of_procedure": "abs(integer)",
        "of_operator": "+(integer,integer)",
        "of_role": "oneslot",
        "of_schema": "public",
        "of_config": "english",
        "acl": "app=r/postgres",
        "txt": "ž€",
    }


def test_keys_old_values_and_unchanged_columns(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql(
        """
        CREATE TABLE plain (b int, a int, big text, v text, PRIMARY KEY (a, b));
        CREATE TABLE whole (id int PRIMARY KEY, big text, v text);
        CREATE TABLE bare (v text);
        CREATE TABLE by_index (id int PRIMARY KEY, name text NOT NULL UNIQUE, v text);
        ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
        ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
        ALTER TABLE whole REPLICA IDENTITY FULL;
        ALTER TABLE bare REPLICA IDENTITY FULL;
        ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_name_key;
        """
    )
    start(oneslot)
    pg.sql(
        """
        INSERT INTO plain VALUES (2, 1, repeat('x', 9000), 'a');
        UPDATE plain SET v = 'b';
        UPDATE plain SET a = 5;
        UPDATE plain SET big = 'short';
        DELETE FROM plain;
        INSERT INTO whole VALUES (1, repeat('y', 9000), 'a');
        UPDATE whole SET v = 'b';
        UPDATE whole SET id = 2;
        DELETE FROM whole;
        INSERT INTO bare VALUES ('a');
        UPDATE bare SET v = 'b';
        DELETE FROM bare;
        INSERT INTO by_index VALUES (1, 'n', 'a');
        UPDATE by_index SET name = 'm';
        DELETE FROM by_index;
        """
    )
    oneslot.wait_durable(pg)
    changes = oneslot.changes()
    assert check_log(changes) == 15
    shapes = [
        {name: change[name] for name in ("key", "new", "old", "unchanged") if name in change} for change in changes
    ]
    x, y = "x" * 9000, "y" * 9000
    assert shapes[:5] == [
        {"key": {"b": 2, "a": 1}, "new": {"b": 2, "a": 1, "big": x, "v": "a"}},
        {"key": {"b": 2, "a": 1}, "new": {"b": 2, "a": 1, "v": "b"}, "unchanged": ["big"]},
        {"key": {"b": 2, "a": 5}, "new": {"b": 2, "a": 5, "v": "b"}, "old": {"b": 2, "a": 1}, "unchanged": ["big"]},
        {"key": {"b": 2, "a": 5}, "new": {"b": 2, "a": 5, "big": "short", "v": "b"}},
        {"key": {"b": 2, "a": 5}, "old": {"b": 2, "a": 5}},
    ]
    was = {"id": 1, "big": y, "v": "a"}
    assert shapes[5] == {"key": {"id": 1}, "new": was}
    for shape, key, new, old in (
        (shapes[6], 1, {"id": 1, "big": y, "v": "b"}, was),
        (shapes[7], 2, {"id": 2, "big": y, "v": "b"}, {**was, "v": "b"}),
    ):
        assert shape["key"] == {"id": key} and shape["old"] == old
        assert {**shape["new"], **{name: y for name in shape.get("unchanged", [])}} == new
    assert shapes[8] == {"key": {"id": 2}, "old": {"id": 2, "big": y, "v": "b"}}
    assert shapes[9:12] == [{"new": {"v": "a"}}, {"new": {"v": "b"}, "old": {"v": "a"}}, {"old": {"v": "b"}}]
    assert shapes[12:] == [
        {"key": {"name": "n"}, "new": {"id": 1, "name": "n", "v": "a"}},
        {"key": {"name": "m"}, "new": {"id": 1, "name": "m", "v": "a"}, "old": {"name": "n"}},
        {"key": {"name": "m"}, "old": {"name": "m"}},
    ]


def test_truncate_messages_origins_and_commit_times(
    make_pg: Callable[..., Postgres], make_oneslot: Callable[..., Oneslot]
) -> None:
    pg = make_pg(settings={"track_commit_timestamp": "on"})
    oneslot = make_oneslot(pg)
    pg.sql("CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id int REFERENCES a)")
    pg.sql("ALTER TABLE b REPLICA IDENTITY FULL")
    start(oneslot)
    pg.sql("TRUNCATE a, b RESTART IDENTITY; TRUNCATE a CASCADE")
    before = pg.flush_lsn()
    pg.sql("SELECT pg_logical_emit_message(false, 'app', '\\x00ff'::bytea)")
    with pg.connect() as connection, connection.transaction():
        connection.execute("SELECT pg_logical_emit_message(true, 'in', 'text')")
        connection.execute("INSERT INTO a DEFAULT VALUES")
    pg.sql("SELECT pg_replication_origin_create('elsewhere')", user="postgres")
    with pg.connect("postgres") as connection, connection.transaction():
        connection.execute("SELECT pg_replication_origin_session_setup('elsewhere')")
        connection.execute("SELECT pg_replication_origin_xact_setup('0/1', '2026-01-02 03:04:05.123456+00')")
        connection.execute("INSERT INTO a VALUES (77)")
    oneslot.wait_durable(pg)
    changes = oneslot.changes()
    check_log(changes)
    by_op = {op: [change for change in changes if change["op"] == op] for op in ("truncate", "message", "insert")}
    flags = [(c["table"], c["cascade"], c["restart_identity"]) for c in by_op["truncate"]]
    assert sorted(flags[:2]) == [("a", False, True), ("b", False, True)]
    assert ("a", True, False) in flags[2:]
    assert not {"key", "new", "old", "prefix"} & set(by_op["truncate"][0])
    outside, inside = by_op["message"]
    assert outside["prefix"] == "app" and outside["transactional"] is False and "xid" not in outside
    assert base64.b64decode(outside["content"]) == b"\x00\xff" and lsn(outside["lsn"]) >= before
    assert not {"schema", "table", "key", "new"} & set(outside)
    assert inside["prefix"] == "in" and inside["transactional"] is True
    assert base64.b64decode(inside["content"]) == b"text"
    assert [c["seq"] for c in (inside, by_op["insert"][0])] == [0, 1] and inside["xid"] == by_op["insert"][0]["xid"]
    assert by_op["insert"][1]["origin"] == "elsewhere" and "origin" not in by_op["insert"][0]
    assert by_op["insert"][1]["ts"] == "2026-01-02T03:04:05.123456Z", "the time of the commit at the origin"
    for change in changes:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", change["ts"]), change
        if "xid" in change:
            asked = "SELECT pg_xact_commit_timestamp(%s::text::xid)::timestamptz AT TIME ZONE 'UTC' = %s::timestamp"
            assert pg.value(asked, [str(change["xid"]), change["ts"].rstrip("Z")]), change


def test_bytes_that_are_not_utf8_are_base64(pg: Postgres, make_oneslot: Callable[..., Oneslot]) -> None:
    create = "CREATE DATABASE raw OWNER app ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0"
    pg.sql(create, user="postgres", database="postgres")
    oneslot = make_oneslot(pg, config={"source": {"dsn": pg.dsn("oneslot", "raw")}})
    setup = "CREATE TABLE t (id int PRIMARY KEY, v text, n int)"
    pg.sql(setup, database="raw")
    start(oneslot)
    with pg.connect(database="raw", client_encoding="SQL_ASCII") as connection:
        connection.execute(b"INSERT INTO t VALUES (1, E'caf\\xe9', 5), (2, 'caf\xc3\xa9', NULL), (3, 'plain', 6)")
        connection.execute("DELETE FROM t WHERE id = 1")
    oneslot.wait(lambda: len(oneslot.changes()) == 4, 30, "all is there")
    found = [change.get("new", change.get("old")) for change in oneslot.changes()]
    assert found[:3] == [
        {"id": 1, "v": {"base64": base64.b64encode(b"caf\xe9").decode()}, "n": 5},
        {"id": 2, "v": "café", "n": None},
        {"id": 3, "v": "plain", "n": 6},
    ]
    unpacked = list(msgpack.Unpacker(io.BytesIO(oneslot.get_changes(format="msgpack").body)))
    assert unpacked[0]["new"]["v"] == b"caf\xe9" and unpacked[1]["new"]["v"] == "café"


# --- lag, metrics, health

SOURCE = {"state", "slot", "server_lsn", "received_lsn", "durable_lsn", "acked_lsn", "lag_bytes", "retained_wal_bytes"}
SOURCE |= {"wal_status", "safe_wal_bytes", "last_error"}
LOG = {"earliest", "tail", "records", "bytes", "segments", "disk_free_bytes"}
SINK = {"name", "kind", "state", "offset", "lsn", "ts", "records_behind", "bytes_behind", "seconds_behind"}
SINK |= {"records_per_second", "eta_seconds", "dead_letters", "retries", "last_success", "last_error"}


def test_lag_is_there_and_plausible(pg: Postgres, make_oneslot: Callable[..., Oneslot]) -> None:
    off = {"kind": "file", "path": "./off.ndjson", "enabled": False}
    oneslot = make_oneslot(pg, config={"sinks": {"off": off}})
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    oneslot.start()
    oneslot.wait_serving()
    assert oneslot.lag()["source"]["state"] in ("connecting", "streaming")
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    oneslot.wait_durable(pg)
    oneslot.wait_settled("file")
    wanted = pg.flush_lsn()
    oneslot.wait(lambda: lsn(oneslot.lag()["source"]["acked_lsn"] or "0/0") >= wanted, 30, "it is acknowledged")
    lag = oneslot.lag()
    source, log = lag["source"], lag["log"]
    assert SOURCE <= set(source) and LOG <= set(log) and set(lag) == {"source", "log", "sinks"}
    assert source["state"] == "streaming" and source["slot"] == "oneslot" and source["last_error"] is None
    assert lsn(source["acked_lsn"]) <= lsn(source["durable_lsn"]) <= lsn(source["received_lsn"])
    assert lsn(pg.slot()["confirmed_flush_lsn"]) <= lsn(source["durable_lsn"])
    assert source["wal_status"] == "reserved" and source["safe_wal_bytes"] is None
    assert 0 <= source["lag_bytes"] < 10**6 and 0 < source["retained_wal_bytes"] < 10**9
    changes = oneslot.changes()
    assert log["records"] == 1000 and log["segments"] == 1 and log["bytes"] > 1000 and log["disk_free_bytes"] > 0
    first, last = ({name: change[name] for name in ("offset", "lsn", "ts")} for change in (changes[0], changes[-1]))
    assert log["earliest"] == first and log["tail"] == {**last, "offset": last["offset"] + 1}
    sink, disabled = oneslot.sink("file"), oneslot.sink("off")
    assert SINK <= set(sink) and SINK <= set(disabled)
    assert {name: sink[name] for name in ("offset", "lsn", "ts")} == last
    assert sink["kind"] == "file" and sink["state"] == "running" and sink["last_error"] is None
    assert sink["records_behind"] == sink["bytes_behind"] == sink["eta_seconds"] == sink["dead_letters"] == 0
    assert sink["seconds_behind"] == 0 and sink["last_success"] and sink["records_per_second"] >= 0
    assert disabled["state"] == "paused" and disabled["offset"] is None
    alone = oneslot.http.get("/lag/file").json()
    assert alone["name"] == "file" and alone["offset"] == sink["offset"]

    oneslot.kill("sink:file", 19)  # SIGSTOP: the log goes on without it
    pg.sql("INSERT INTO t SELECT generate_series(1001, 1100)")
    oneslot.wait_durable(pg)
    behind = oneslot.sink("file")
    assert behind["records_behind"] == 100 and behind["bytes_behind"] > 100 and behind["seconds_behind"] > 0
    oneslot.kill("sink:file", 18)
    oneslot.wait_settled("file")
    pg.stop()
    source = oneslot.wait_state("retrying")
    assert "PostgreSQL" in source["last_error"] and lsn(source["durable_lsn"]) >= wanted
    assert oneslot.http.get("/readyz").status == 200, "a server that is away is no reason to be unready"


METRIC = re.compile(r'(oneslot_[a-z0-9_]+)(?:\{((?:[a-z_]+="[^"\\]*",?)*)\})? (-?[0-9.]+(?:e[+-]?\d+)?|NaN|[+-]Inf)')


def metrics(oneslot: Oneslot) -> dict[str, float]:
    answer = oneslot.http.get("/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    assert text.endswith("\n")
    found: dict[str, float] = {}
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types and kind in ("gauge", "counter"), line
            types[name] = kind
        elif not line.startswith("# HELP oneslot_"):
            match = METRIC.fullmatch(line)
            assert match and match[1] in types, f"not a metric, or without a type before it: {line}"
            series = f"{match[1]}{{{match[2]}}}" if match[2] else match[1]
            assert series not in found, f"twice: {series}"
            found[series] = float(match[3])
    for name, kind in types.items():
        assert name.startswith("oneslot_") and (kind == "counter") == name.endswith("_total"), name
    return found


def test_metrics_health_and_readiness(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    start(oneslot)
    pg.sql("INSERT INTO t SELECT generate_series(1, 100)")
    oneslot.wait_caught_up(pg)
    oneslot.changes()
    first = metrics(oneslot)
    lag = oneslot.lag()
    assert first["oneslot_log_records"] == 100 == first["oneslot_readers_records_total"]
    assert first["oneslot_log_tail_offset"] == lag["log"]["tail"]["offset"]
    assert first['oneslot_source_state{state="streaming"}'] == 1 and first['oneslot_source_state{state="refused"}'] == 0
    assert first["oneslot_source_durable_lsn"] <= lsn(lag["source"]["durable_lsn"])
    assert first['oneslot_sink_state{sink="file",kind="file",state="running"}'] == 1
    assert any(name.startswith("oneslot_build_info{version=") for name in first)
    pg.sql("INSERT INTO t VALUES (101)")
    oneslot.wait_durable(pg)
    again = metrics(oneslot)
    for name, value in first.items():
        if name.split("{")[0].endswith("_total"):
            assert again.get(name, 0) >= value, f"a counter went back: {name}"
    assert again["oneslot_writer_records_total"] == first["oneslot_writer_records_total"] + 1
    assert oneslot.http.get("/healthz").json()["status"] == "ok"
    assert oneslot.http.get("/readyz").json() == {"status": "ready", "reasons": []}
    index = oneslot.http.get("/")
    assert index.status == 200 and index.headers["content-type"].startswith("text/plain")
    for path in ("/lag", "/changes", "/metrics"):
        assert path in index.body.decode()
    assert "/internal" not in index.body.decode()


def test_sinks_show_their_configuration_and_can_be_forgotten(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    start(oneslot)
    pg.sql("INSERT INTO t VALUES (1)")
    oneslot.wait_caught_up(pg)
    shown = oneslot.http.get("/sinks").json()["sinks"]
    assert [sink["name"] for sink in shown] == ["file"] and shown[0] == oneslot.http.get("/sinks/file").json()
    assert "path" in shown[0]["configuration"]
    problem(oneslot.http.request("DELETE", "/sinks/file"), 409, "configured")
    problem(oneslot.http.request("DELETE", "/sinks/none"), 404)
    problem(oneslot.http.get("/sinks/none"), 404)
    oneslot.stop()
    oneslot.change_config(sinks=None)
    oneslot.start()
    oneslot.wait_streaming()
    (left,) = oneslot.lag()["sinks"]
    assert left["state"] == "stopped" and "not configured any more" in left["last_error"]
    assert oneslot.http.request("DELETE", "/sinks/file").status == 204
    assert oneslot.lag()["sinks"] == []
