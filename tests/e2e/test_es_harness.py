"""The judge of the Elasticsearch tests judged: the real node keeps versions as the sink relies on and its data through
SIGKILL, and the fake spoils what it says and nothing else."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from harness import Elasticsearch, FakeES, Http, Response
from harness.fake_es import Fault, actions_of, change_items, drop_after_applying, refuse_items, status, truncate
from harness.search import alias_of, as_stored, field_of


def line(op: str, id: str, version: int, source: Any = None) -> bytes:
    meta = {"_index": "t", "_id": id, "version": version, "version_type": "external_gte"}
    if op == "delete":
        return json.dumps({op: meta}).encode() + b"\n"
    return json.dumps({op: meta}).encode() + b"\n" + json.dumps(source).encode() + b"\n"


def bulk(port: int, *lines: bytes) -> Response:
    headers = {"Content-Type": "application/x-ndjson"}
    return Http(port=port).request("POST", "/_bulk", body=b"".join(lines), headers=headers)


def statuses(answer: Response) -> list[int]:
    return [entry["status"] for item in answer.json()["items"] for entry in item.values()]


def test_versions_decide_what_a_real_node_keeps(es: Elasticsearch) -> None:
    assert statuses(bulk(es.port, line("index", "a", 5, {"v": 1}))) == [201]
    assert statuses(bulk(es.port, line("index", "a", 5, {"v": 2}))) == [200]
    assert statuses(bulk(es.port, line("index", "a", 4, {"v": 3}))) == [409]
    assert statuses(bulk(es.port, line("delete", "a", 6))) == [200]
    assert statuses(bulk(es.port, line("index", "a", 5, {"v": 4}))) == [409], "a tombstone"
    assert statuses(bulk(es.port, line("delete", "b", 6))) == [404]
    assert es.documents("t") == {}


def test_a_node_keeps_its_documents_through_sigkill_and_forgets_tombstones(es: Elasticsearch) -> None:
    bulk(es.port, line("index", "a", 5, {"v": 1}), line("index", "b", 6, {"v": 1}), line("delete", "b", 7))
    es.ask("POST", "/t/_flush")  # what is still in the translog is remembered
    es.restart()
    assert {id: (d.version, d.source) for id, d in es.documents("t").items()} == {"a": (5, {"v": 1})}
    assert statuses(bulk(es.port, line("index", "b", 5, {"v": 0}))) == [201], "as the facts say"


def test_the_fake_passes_on_what_it_is_not_told_to_spoil(es: Elasticsearch, fake_es: FakeES) -> None:
    assert statuses(bulk(fake_es.port, line("index", "a", 5, {"v": "ä\n"}))) == [201]
    assert Http(port=fake_es.port).get("/t/_doc/a").json() == es.request("GET", "/t/_doc/a").json()
    assert Http(port=fake_es.port).request("HEAD", "/t").status == 200
    assert Http(port=fake_es.port).get("/no_such").status == 404


def test_faults_apply_what_they_say(es: Elasticsearch, fake_es: FakeES) -> None:
    fake_es.inject(refuse_items(429, "es_rejected_execution_exception", lambda action: action.id == "b"))
    answer = bulk(fake_es.port, line("index", "a", 1, {}), line("index", "b", 1, {}), line("index", "c", 1, {}))
    assert statuses(answer) == [201, 429, 201] and answer.json()["errors"]
    assert sorted(es.documents("t")) == ["a", "c"]
    fake_es.inject(status(503))
    assert bulk(fake_es.port, line("index", "d", 1, {})).status == 503
    fake_es.inject(change_items(lambda items: items[:-1]))
    assert len(bulk(fake_es.port, line("index", "e", 1, {}), line("index", "f", 1, {})).json()["items"]) == 1
    assert sorted(es.documents("t")) == ["a", "c", "e", "f"]


@pytest.mark.parametrize("fault", [drop_after_applying, truncate()])
def test_an_answer_that_breaks_off_was_applied(es: Elasticsearch, fake_es: FakeES, fault: Fault) -> None:
    rule = fake_es.inject(fault)
    with pytest.raises((OSError, http.client.HTTPException)):
        bulk(fake_es.port, line("index", "a", 1, {}))
    assert rule.used == 1 and sorted(es.documents("t")) == ["a"]
    assert statuses(bulk(fake_es.port, line("index", "b", 1, {}))) == [201], "once"


def test_a_fake_that_is_closed_refuses_and_opens_again(es: Elasticsearch, fake_es: FakeES) -> None:
    fake_es.close()
    with pytest.raises(OSError):
        Http(port=fake_es.port).get("/")
    fake_es.open()
    assert Http(port=fake_es.port).get("/").status == 200


def test_actions_are_read_strictly() -> None:
    found = actions_of(line("index", "a", 1, {"v": 1}) + line("delete", "b", 2))
    assert [(action.op, action.id, action.source) for action in found] == [
        ("index", "a", {"v": 1}),
        ("delete", "b", None),
    ]
    with pytest.raises((AssertionError, ValueError)):
        actions_of(b'{"index":{"_id":"a"}}\n{}')


def test_names_and_values_as_the_index_has_them() -> None:
    assert alias_of("Odd Schema.T.dot") == "odd%20schema.t.dot"
    assert alias_of("public.t", "copy-{table}") == "copy-t"
    assert field_of("a.b%") == "a%2Eb%25" and field_of("_id") == "%5Fid" and field_of("_name") == "_name"
    assert as_stored({"a": ["\ud83d", "\U0001f600"]}) == {"a": ["\ufffd", "\U0001f600"]}
