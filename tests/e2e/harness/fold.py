"""The state of the tables that a run of changes amounts to, by the rules of design/interface.md, and checks of
the run itself."""

from __future__ import annotations

import json
from typing import Any, Iterable, Iterator, Mapping

Row = dict[str, Any]
Change = Mapping[str, Any]
# {"schema.table": {key: row}}; the key is the identity's values as JSON, or the whole row where there is none.
Tables = dict[str, dict[str, Row]]


class FoldError(AssertionError):
    """The run contradicts itself: a change of a row that is not there, an insert of one that is."""


def key_text(key: Mapping[str, Any]) -> str:
    return json.dumps(list(key.values()), sort_keys=True)


class _Table:
    """Rows by key. A list per key, because deferred constraints let two rows share one for a moment, and a table
    without identity may hold equal rows."""

    def __init__(self, name: str, strict: bool) -> None:
        self.name = name
        self.strict = strict
        self.rows: dict[str, list[Row]] = {}

    def put(self, key: str, row: Row) -> None:
        self.rows.setdefault(key, []).append(row)

    def replace(self, key: str, row: Row) -> None:
        self.rows[key] = [row]

    def take(self, key: str, known: Mapping[str, Any], change: Change) -> Row | None:
        """Removes and returns the row of the key, the one with these values if there are several."""
        held = self.rows.get(key, [])
        for row in held:
            if len(held) == 1 or all(row.get(name) == value for name, value in known.items()):
                held.remove(row)
                if not held:
                    del self.rows[key]
                return row
        if self.strict:
            raise FoldError(f"{self.name}: no row {key} for {_brief(change)}")
        return None

    def flat(self) -> dict[str, Row]:
        result: dict[str, Row] = {}
        for key, rows in self.rows.items():
            for number, row in enumerate(rows):
                result[key if number == 0 else f"{key}#{number + 1}"] = row
        return result


def fold(changes: Iterable[Change], strict: bool = True) -> Tables:
    """strict: the run begins with empty tables, so every update and delete must find its row, and no insert may
    find one. Otherwise it begins anywhere, and the last word on a key counts."""
    tables: dict[str, _Table] = {}
    for change in changes:
        if change["op"] == "message":
            continue
        name = f"{change['schema']}.{change['table']}"
        table = tables.setdefault(name, _Table(name, strict))
        _apply(table, change)
    if strict:
        for table in tables.values():
            _check_unique(table)
    return {name: table.flat() for name, table in tables.items()}


def _apply(table: _Table, change: Change) -> None:
    match change["op"]:
        case "truncate":
            table.rows.clear()
        case "read":
            table.replace(_new_key(change), dict(change["new"]))
        case "insert" if table.strict:
            table.put(_new_key(change), dict(change["new"]))
        case "insert":
            table.replace(_new_key(change), dict(change["new"]))
        case "update":
            _update(table, change)
        case "delete":
            old = change.get("old", {})
            table.take(key_text(change["key"]) if "key" in change else _row_key(old), old, change)
        case other:
            raise FoldError(f"unknown op {other!r}: {_brief(change)}")


def _update(table: _Table, change: Change) -> None:
    old = change.get("old", {})
    former = table.take(_former_key(change), old, change) or {}
    row = dict(change["new"])
    for column in change.get("unchanged", []):
        source = old if column in old else former
        if column in source:
            row[column] = source[column]
        elif table.strict:
            raise FoldError(f"{table.name}: no former value of {column} for {_brief(change)}")
    if table.strict:
        table.put(_key_of_row(change, row), row)
    else:
        table.replace(_key_of_row(change, row), row)


def _new_key(change: Change) -> str:
    return _key_of_row(change, change["new"])


def _key_of_row(change: Change, row: Mapping[str, Any]) -> str:
    return key_text(change["key"]) if "key" in change else _row_key(row)


def _former_key(change: Change) -> str:
    old = change.get("old", {})
    if "key" not in change:
        return _row_key(old)
    return key_text({column: old.get(column, value) for column, value in change["key"].items()})


def _row_key(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


def _check_unique(table: _Table) -> None:
    """Equal rows share a key only where the table has no identity: there the key is the row itself."""
    for key, rows in table.rows.items():
        if len(rows) > 1 and key != _row_key(rows[0]):
            raise FoldError(f"{table.name}: key {key} is there {len(rows)} times")


def _brief(change: Change) -> str:
    named = ("offset", "epoch", "lsn", "xid", "seq", "op", "key")
    return json.dumps({name: change[name] for name in named if name in change})


# --- the run itself


def identity(change: Change) -> tuple[Any, ...]:
    return change["epoch"], change["lsn"], change.get("xid"), change["seq"]


def check_log(changes: Iterable[Change], whole: bool = True) -> int:
    """Offsets grow, no identity comes twice, commit LSNs never go back within an epoch; `whole` (no filter left
    anything out): each transaction's records count from 0 without a gap. Returns the number of changes."""
    seen: set[tuple[Any, ...]] = set()
    last: Change | None = None
    count = 0
    for change in changes:
        count += 1
        if identity(change) in seen and change["op"] != "read":
            raise AssertionError(f"twice in the log: {_brief(change)}")
        seen.add(identity(change))
        if last is not None:
            _check_order(last, change)
        if whole:
            _check_seq(last, change)
        last = change
    return count


def _check_order(last: Change, change: Change) -> None:
    assert change["offset"] > last["offset"], f"offsets do not grow: {_brief(last)} then {_brief(change)}"
    assert change["epoch"] >= last["epoch"], f"epochs go back: {_brief(last)} then {_brief(change)}"
    if change["epoch"] == last["epoch"]:
        assert _lsn(change) >= _lsn(last), f"LSNs go back: {_brief(last)} then {_brief(change)}"


def _check_seq(last: Change | None, change: Change) -> None:
    same = last is not None and identity(last)[:3] == identity(change)[:3] and change["seq"] != 0
    expected = last["seq"] + 1 if same and last is not None else 0
    assert change["seq"] == expected, f"seq {expected} is missing before {_brief(change)}"


def _lsn(change: Change) -> int:
    high, low = change["lsn"].split("/")
    return int(high, 16) << 32 | int(low, 16)


def of_table(changes: Iterable[Change], table: str) -> Iterator[Change]:
    """The changes of one "schema.table"."""
    for change in changes:
        if change["op"] != "message" and f"{change['schema']}.{change['table']}" == table:
            yield change
