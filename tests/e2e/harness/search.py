"""A oneslot with an `elasticsearch` sink, and the judgement of what its indices hold: each document's `_source` is its
row, and there is no other document."""

from __future__ import annotations

import re
import time
from typing import Any, Iterable

from harness.elasticsearch import Document, Elasticsearch
from harness.fake_es import FakeES
from harness.fold import Row, key_text
from harness.oneslot import Oneslot, merged
from harness.postgres import Postgres
from harness.rows import differences, key_columns, table_rows

SINK = "search"
# Some of those that es_name.c knows.
OWN_FIELDS = ("_id", "_index", "_source", "_routing", "_type", "_version", "_seq_no")


def search_config(url: str | list[str], name: str = SINK, **options: Any) -> dict[str, Any]:
    """For make_oneslot(config=...): this sink instead of the file."""
    return {"sinks": {"file": None, name: {"kind": "elasticsearch", "url": url, **options}}}


def alias_of(table: str, index: str = "{schema}.{table}") -> str:
    """The name under which the documents of "schema.table" are found."""
    schema, name = table.split(".", 1)
    made = index.replace("{schema}", schema).replace("{table}", name).lower()
    return re.sub(r'[\\/*?"<>| ,#%:]', lambda m: f"%{ord(m.group()):02x}", made)


def field_of(column: str) -> str:
    """The field of a column (sinks/elasticsearch/es_name.h)."""
    is_reserved = column in OWN_FIELDS or not column.strip(" ")
    first = f"%{ord(column[0]):02X}" if is_reserved else ""
    return first + re.sub(r"[%.\x00-\x1f\x7f]", lambda m: f"%{ord(m.group()):02X}", column[len(first) > 0 :])


def as_stored(value: Any) -> Any:
    """A value as _source has it: Elasticsearch refuses half a surrogate pair, which only `json` can hold."""
    match value:
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffd", value)
        case list():
            return [as_stored(item) for item in value]
        case dict():
            return {as_stored(key): as_stored(item) for key, item in value.items()}
    return value


def _key(row: Row, keys: list[str]) -> str:
    """JSON writes the float 0 as 0: one number, whatever Python makes of it."""
    values = {column: row.get(column) for column in keys}
    return key_text({k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in values.items()})


class Search:
    def __init__(self, pg: Postgres, oneslot: Oneslot, es: Elasticsearch) -> None:
        self.pg = pg
        self.oneslot = oneslot
        self.es = es

    def start(self) -> "Search":
        self.oneslot.start()
        self.oneslot.wait_streaming()
        return self

    def settle(self, name: str = SINK, timeout: float = 60.0) -> None:
        """Until the sink has settled all that is committed now."""
        self.oneslot.wait_durable(self.pg, timeout)
        self.oneslot.wait_settled(name, timeout)

    def index(self, table: str, name: str = SINK) -> str:
        options = self.oneslot.config["sinks"][name]
        return alias_of(table, options.get("index", "{schema}.{table}"))

    def documents(self, table: str = "public.t", name: str = SINK) -> dict[str, Document]:
        return self.es.documents(self.index(table, name))

    def versions(self, table: str = "public.t", name: str = SINK) -> dict[str, int]:
        return {id: document.version for id, document in self.documents(table, name).items()}

    def check(self, *tables: str, name: str = SINK, timeout: float = 60.0) -> None:
        """The documents are the rows, no more and no less, and no letter is left; waited for, since a row that is
        read again comes later."""
        self.settle(name, timeout)
        deadline = time.monotonic() + timeout
        while problems := self._problems(tables or ("public.t",), name):
            assert time.monotonic() < deadline, "\n".join(problems) + "\n" + self.oneslot.log_tail()
            time.sleep(0.2)
            self.settle(name, timeout)

    def _problems(self, tables: Iterable[str], name: str) -> list[str]:
        problems = [line for table in tables for line in self._differences(table, name)]
        letters = self.letters(name)
        return problems + ([f"dead letters: {letters}"] if letters else [])

    def _differences(self, table: str, name: str) -> list[str]:
        keys = key_columns(self.pg, table)
        real = {_key(row, keys): as_stored(row) for row in table_rows(self.pg, table).values()}
        got = self._rows(table, keys, real, name)
        return differences(table, real, got, f"index {self.index(table, name)}")

    def _rows(self, table: str, keys: list[str], real: dict[str, Row], name: str) -> dict[str, Row]:
        """The documents as rows by key. A field that no column has keeps its name, so that it shows."""
        columns = {field_of(column): column for row in list(real.values())[:1] for column in row}
        found: dict[str, Row] = {}
        for document in self.documents(table, name).values():
            row = {columns.get(field, field): value for field, value in document.source.items()}
            key = _key(row, keys)
            found[key if key not in found else f"{key} again as {document.id!r}"] = row
        return found

    # --- the operator

    def letters(self, name: str = SINK) -> list[dict[str, Any]]:
        """Of any state; with the `key` of their change."""
        answer = self.oneslot.http.get(f"/sinks/{name}/dead-letters")
        assert answer.status == 200, answer
        found = answer.json()["letters"]
        for letter in found:
            letter["key"] = self.oneslot.changes(from_=letter["offset"], limit=1)[0].get("key")
        return found

    def wait_letters(self, number: int, name: str = SINK, timeout: float = 30.0) -> list[dict[str, Any]]:
        """Until so many are dead; those."""

        def dead() -> list[dict[str, Any]]:
            return [letter for letter in self.letters(name) if letter["state"] == "dead"]

        self.oneslot.wait(lambda: len(dead()) == number, timeout, f"{number} dead letters")
        return dead()

    def redrive(self, *offsets: int, what: str = "retry", name: str = SINK) -> None:
        """Sends letters again (or discards them); all of them when none is named."""
        body = {"ids": list(offsets)} if offsets else {"all": True}
        answer = self.oneslot.http.post(f"/sinks/{name}/dead-letters/{what}", body)
        assert answer.status == 200, answer

    def replay(self, position: str | int = "earliest", name: str = SINK, timeout: float = 60.0) -> int:
        """Back to there, and until the sink is level with the log again; the number of records."""
        answer = self.oneslot.http.post(f"/sinks/{name}/replay", {"from": str(position)})
        assert answer.status == 200, answer
        self.settle(name, timeout)
        return answer.json()["records"]

    def wait_state(self, state: str, name: str = SINK, timeout: float = 30.0) -> dict[str, Any]:
        self.oneslot.wait(lambda: self.oneslot.sink(name).get("state") == state, timeout, f"sink {name} is {state}")
        return self.oneslot.sink(name)

    def wait_error(self, pattern: str, name: str = SINK, timeout: float = 30.0) -> dict[str, Any]:
        """Until its last_error says so; its entry of /lag."""

        def found() -> bool:
            return re.search(pattern, str(self.oneslot.sink(name).get("last_error"))) is not None

        self.oneslot.wait(found, timeout, f"sink {name} says {pattern}")
        return self.oneslot.sink(name)


def make_search(make_oneslot: Any, pg: Postgres, es: Elasticsearch, via: FakeES | None = None, **options: Any) -> Search:
    """sink: its options. config: laid over the rest. source_tables, url, programs, env: as they say."""
    made: dict[str, Any] = {name: options.pop(name) for name in ("programs", "env") if name in options}
    tables = options.pop("source_tables", ("public.*",))
    config = merged(search_config(options.pop("url", (via or es).url), **options.pop("sink", {})), options.pop("config", {}))
    assert not options, f"unknown: {options}"
    return Search(pg, make_oneslot(pg, tables=tables, config=config, **made), es)
