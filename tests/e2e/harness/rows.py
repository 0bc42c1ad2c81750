"""The rows of real tables in the shape that a fold of changes has, and their comparison. Values are read as
PostgreSQL's own text under the replicator's pinned settings, then turned into JSON by the column's type."""

from __future__ import annotations

import base64
import json
import math
from typing import Any, Iterable

import psycopg

from harness.fold import Row, Tables, key_text
from harness.postgres import DATABASE, Postgres

_PINNED = (
    "SET TimeZone = 'UTC'",
    "SET DateStyle = 'ISO, YMD'",
    "SET IntervalStyle = 'postgres'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 3",
    "SET quote_all_identifiers = off",
)
_BOOL, _INTS, _FLOATS, _JSON = 16, (20, 21, 23), (700, 701), (114, 3802)
# A domain counts as what it is made of.
_COLUMNS = """
SELECT attname, (
  WITH RECURSIVE made_of(oid) AS (
    SELECT atttypid UNION SELECT typbasetype FROM made_of JOIN pg_type USING (oid) WHERE typtype = 'd')
  SELECT oid::int FROM made_of JOIN pg_type USING (oid) WHERE typtype <> 'd'), attnum FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
# The replica identity's columns; under FULL the primary key's, unless two rows may share it for a moment.
_KEY = """
SELECT a.attname FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
WHERE c.oid = %s::regclass AND i.indisvalid
  AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false
    ELSE i.indisprimary AND i.indimmediate END
ORDER BY a.attnum
"""


def table_rows(pg: Postgres, table: str, database: str = DATABASE) -> dict[str, Row]:
    """{key: row} of "schema.table", keys as fold() makes them."""
    with pg.connect("postgres", database) as connection:
        for setting in _PINNED:
            connection.execute(setting)
        name = _quoted(table)
        columns = connection.execute(_COLUMNS, [name]).fetchall()
        key = [row[0] for row in connection.execute(_KEY, [name])]
        result: dict[str, Row] = {}
        for row in _read(connection, name, columns):
            result[_free_key(result, row, key)] = row
        return result


def key_columns(pg: Postgres, table: str, database: str = DATABASE) -> list[str]:
    """What a change of "schema.table" has under `key`; empty where there is none."""
    with pg.connect("postgres", database) as connection:
        return [row[0] for row in connection.execute(_KEY, [_quoted(table)])]


def _quoted(table: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in table.split(".", 1))


def _read(connection: psycopg.Connection, name: str, columns: list[tuple[Any, ...]]) -> Iterable[Row]:
    names = ", ".join('"' + column[0].replace('"', '""') + '"' for column in columns)
    cursor = connection.execute(f"SELECT {names} FROM {name}".encode())
    raw = cursor.pgresult
    assert raw is not None
    for number in range(raw.ntuples):
        yield {
            column[0]: json_value(column[1], raw.get_value(number, place)) for place, column in enumerate(columns)
        }


def _free_key(taken: dict[str, Row], row: Row, key: list[str]) -> str:
    """Equal rows of a table without a key are numbered, as fold() does."""
    first = key_text({column: row[column] for column in key}) if key else json.dumps(row, sort_keys=True)
    text, number = first, 1
    while text in taken:
        number += 1
        text = f"{first}#{number}"
    return text


def json_value(type_oid: int, text: bytes | None) -> Any:
    """What design/interface.md (Types) makes of a value's text."""
    if text is None:
        return None
    if type_oid == _BOOL:
        return text == b"t"
    if type_oid in _INTS:
        return int(text)
    if type_oid in _FLOATS:
        number = float(text)
        return number if math.isfinite(number) else text.decode()
    if type_oid in _JSON:
        return json.loads(text)
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(text).decode()}


def assert_tables_equal(pg: Postgres, folded: Tables, tables: Iterable[str], what: str = "the fold") -> None:
    """Row by row; the message names the first differences of each table."""
    problems: list[str] = []
    for table in tables:
        problems += differences(table, table_rows(pg, table), folded.get(table, {}), what)
    assert not problems, "\n".join(problems)


def differences(table: str, real: dict[str, Row], got: dict[str, Row], what: str) -> list[str]:
    """The first ones, a sentence each; empty when they are equal."""
    found = []
    missing = [key for key in real if key not in got]
    extra = [key for key in got if key not in real]
    differ = [key for key in real if key in got and real[key] != got[key]]
    for label, keys in (("lacks", missing), ("has too much", extra)):
        if keys:
            found.append(f"{table}: {what} {label} {len(keys)} of {len(real)} rows: {', '.join(keys[:5])}")
    for key in differ[:5]:
        columns = {
            name: (got[key].get(name, "absent"), real[key].get(name, "absent"))
            for name in {**real[key], **got[key]}
            if got[key].get(name, "absent") != real[key].get(name, "absent")
        }
        found.append(f"{table} {key}: {len(differ)} rows differ, ({what}, table): {str(columns)[:2000]}")
    return found
