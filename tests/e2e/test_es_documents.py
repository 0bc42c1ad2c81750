"""What a document is: `_id` from the key and never the same for two rows, `_source` exactly the change's `new` for every
type, version the record's offset, an index and a mapping that refuse no row. Numbers in brackets: the pitfalls of
facts/elasticsearch.md, section G."""

from __future__ import annotations

import json
import re
from typing import Any, Callable

import pytest
from harness import Elasticsearch, Postgres, Search, make_search, values
from harness.fold import of_table
from harness.search import as_stored

Make = Callable[..., Any]


def begin(search: Search, *statements: str) -> None:
    for statement in statements:
        search.pg.sql(statement)
    search.start()


def text_of(values: list[str]) -> str:
    """An array of texts as SQL."""
    return "ARRAY[" + ", ".join("E'" + v.translate(_ESCAPES) + "'" for v in values) + "]::text[]"


_ESCAPES = {ord("\\"): r"\\", ord("'"): r"\'", ord("\n"): r"\n", ord("\r"): r"\r"}


# --- values


def insert_every_value(pg: Postgres, table: str, turn: int = 0) -> None:
    """One row per value of the column that has most; each column's values in turn."""
    names = list(values.ALL)
    for number in range(max(len(pool) for _, pool in values.ALL.values())):
        texts = [f"({pool[(number + turn) % len(pool)]})::{kind}" for kind, pool in values.ALL.values()]
        pg.sql(f"INSERT INTO {table} (id, {', '.join(names)}) VALUES ({number + 100 * turn}, {', '.join(texts)})")


def update_every_value(pg: Postgres, table: str, turn: int) -> None:
    """Each column of each row gets another of its values."""
    for number in range(max(len(pool) for _, pool in values.ALL.values())):
        sets = [f"{name} = ({pool[(number + turn) % len(pool)]})::{kind}" for name, (kind, pool) in values.ALL.items()]
        pg.sql(f"UPDATE {table} SET {', '.join(sets)} WHERE id = {number}")


def last_new(search: Search, table: str) -> dict[int, dict[str, Any]]:
    """The newest `new` of each row with its offset, from GET /changes."""
    found: dict[int, dict[str, Any]] = {}
    for change in of_table(search.oneslot.changes(), table):
        if change["op"] in ("insert", "update", "read"):
            found[change["new"]["id"]] = change
    return found


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_every_type_arrives_as_get_changes_shows_it(search: Search, pg: Postgres, identity: str) -> None:
    """conformance.md groups A and B: inserted, set to NULL, set again, deleted. [11]"""
    pg.sql(values.USER_TYPES)
    pg.sql('CREATE SCHEMA "Odd Schema"; CREATE TABLE "Odd Schema"."T.dot" (id int)')  # that a regclass names
    begin(
        search,
        f"CREATE TABLE t (id int PRIMARY KEY, {values.definitions()})",
        f"ALTER TABLE t REPLICA IDENTITY {identity}",
    )
    insert_every_value(pg, "t")
    pg.sql(f"INSERT INTO t (id, c_num) VALUES (90, {values.HUGE_NUMBER})")
    search.check()
    newest = last_new(search, "public.t")
    for document in search.documents().values():
        change = newest[document.source["id"]]
        assert document.source == as_stored(change["new"])
        assert document.version == change["offset"] and document.id == str(document.source["id"])
    pg.sql("UPDATE t SET " + ", ".join(f"{name} = NULL" for name in values.ALL) + " WHERE id < 90")
    search.check()
    update_every_value(pg, "t", turn=1)
    search.check()
    insert_every_value(pg, "t", turn=2)
    pg.sql("DELETE FROM t WHERE id % 2 = 0 AND id <> 90")
    search.check()


def test_json_arrives_as_it_is_but_for_what_no_index_takes(search: Search, pg: Postgres) -> None:
    """[11] Duplicate keys end as jsonb would have them, half a surrogate pair as U+FFFD, numbers keep their digits."""
    begin(search, "CREATE TABLE t (id int PRIMARY KEY, j json, b jsonb)")
    texts = [
        '{"b" : 1,  "a":[ 1, null ], "b": 2, "\\u0062": 3}',
        '["\\ud83d", "\\u0000", "\\ud83d\\ude00"]',
        '{"": {"": 0}, ".": 1, "a.b": 2, "_id": 3, "a": {"b": 4}}',
        "12345678901234567890123456789.10",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        '"' + "x" * 40000 + '"',
        "null",
        "true",
    ]
    for number, text in enumerate(texts):
        pg.sql("INSERT INTO t (id, j) VALUES (%s, %s)", [number, text])
        if "\\u0000" not in text:  # which jsonb refuses, as half a pair
            pg.sql("INSERT INTO t (id, b) VALUES (%s, %s)", [100 + number, text])
    search.check()
    raw = search.es.request("GET", f"/{search.index('public.t')}/_source/3").body
    assert b"12345678901234567890123456789.10" in raw, "no digit is lost"
    assert json.loads(search.es.request("GET", f"/{search.index('public.t')}/_source/0").body)["j"] == {"b": 3, "a": [1, None]}


def test_text_cannot_end_a_line_or_add_an_action(search: Search, pg: Postgres) -> None:
    """[8] Keys, values and names that try."""
    attack = 'x"}}\n{"delete":{"_index":"public.t","_id":"victim"}}\n'
    begin(search, 'CREATE TABLE t (id text PRIMARY KEY, "a""}}\n{" text, j json)')
    pg.sql("INSERT INTO t VALUES ('victim')")
    pg.sql('INSERT INTO t VALUES (%s, %s, %s)', [attack, attack, json.dumps({attack: attack})])
    pg.sql("INSERT INTO t (id) VALUES (E'\\r\\n'), (E'\\n'), (E'\\u2028'), (E'\\x01\\x7f')")
    search.check()
    assert search.documents()["victim"].source["id"] == "victim"
    pg.sql("DELETE FROM t WHERE id = %s", [attack])
    search.check()
    assert attack not in search.documents()


# --- ids


def test_composite_keys_never_share_an_id(search: Search, pg: Postgres) -> None:
    """[8] ("a-b","c") and ("a","b-c"), whatever joins and escapes them."""
    begin(search, "CREATE TABLE t (a text, n int, b text, PRIMARY KEY (a, b))")
    parts = ["", "a", "b", "a-b", "b-c", "c", "|", "\\", "a|", "|b", "a\\", "\\|", "a|b", "\\\\", ",", "#sha256-", " "]
    pg.sql(f"INSERT INTO t SELECT a, 1, b FROM unnest({text_of(parts)}) a, unnest({text_of(parts)}) b")
    search.check()
    assert len(search.documents()) == len(parts) ** 2
    pg.sql("DELETE FROM t WHERE a = 'a-b' AND b = 'c' OR a = 'a' AND b = '|' OR a = '' AND b = ''")
    pg.sql("UPDATE t SET n = 2 WHERE length(a) = 1")
    search.check()
    assert len(search.documents()) == len(parts) ** 2 - 3


def test_ids_of_any_bytes_and_length(search: Search, pg: Postgres) -> None:
    """[8] Up to 512 bytes an id is the key's text; the empty one, a longer one and what looks like a hash are not."""
    kept = ["a", " ", "ž" * 256, "x" * 512, "/", "#", "..", "%2F", "_id", "-1", "🎉e\u0301", '"', "a/b?c=d&e#f", "*", ","]
    other = ["", "x" * 513, "ž" * 257, "x" * 3000, "y" + "x" * 2999, "x" * 511 + "ž", "#sha256-" + "0" * 64]
    begin(search, "CREATE TABLE t (id text PRIMARY KEY, v int)")
    pg.sql(f"INSERT INTO t SELECT id, 1 FROM unnest({text_of(kept + other)}) id")
    search.check()
    ids = set(search.documents())
    assert set(kept) <= ids and not ids & set(other) and "" not in ids
    assert all(0 < len(id.encode()) <= 512 for id in ids)
    pg.sql("UPDATE t SET v = 2")
    search.check()
    pg.sql("DELETE FROM t WHERE length(id) % 2 = 1 OR id = ''")
    search.check()
    pg.sql("UPDATE t SET id = id || 'x'")
    search.check()


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_keys_that_are_equal_but_not_the_same_text(search: Search, pg: Postgres, identity: str) -> None:
    """[8] numeric 1.0 and 1.00, citext, float -0, char(n), a collation that ignores case: the text that is stored."""
    pg.sql("CREATE EXTENSION citext", user="postgres")
    pg.sql("CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    kinds = {
        "n": ("numeric", "1.0", "1.00"),
        "c": ("citext", "'Key'", "'KEY'"),
        "f": ("float8", "0", "'-0'"),
        "b": ("char(5)", "'Key'", "'Key '"),
        "i": ("text COLLATE caseless", "'Key'", "'KEY'"),
    }
    for name, (kind, first, _) in kinds.items():
        pg.sql(f"CREATE TABLE {name} (id {kind} PRIMARY KEY, v text); ALTER TABLE {name} REPLICA IDENTITY {identity}")
    search.start()
    for name, (_, first, _) in kinds.items():
        pg.sql(f"INSERT INTO {name} VALUES ({first}, 'old')")
    tables = [f"public.{name}" for name in kinds]
    search.check(*tables)
    for name, (_, first, second) in kinds.items():
        pg.sql(f"UPDATE {name} SET id = {second}, v = 'new' WHERE id = {first}")
    search.check(*tables)
    for name, (_, first, second) in kinds.items():
        pg.sql(f"UPDATE {name} SET v = 'newer' WHERE id = {first}")
    search.check(*tables)
    for name, (_, first, second) in kinds.items():
        pg.sql(f"DELETE FROM {name} WHERE id = {first}; INSERT INTO {name} VALUES ({first}, 'again')")
    search.check(*tables)


def test_the_key_is_the_replica_identity_s(search: Search, pg: Postgres) -> None:
    begin(
        search,
        "CREATE TABLE t (id int PRIMARY KEY, a uuid NOT NULL DEFAULT gen_random_uuid(), b int NOT NULL, UNIQUE (a, b));"
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_a_b_key",
    )
    pg.sql("INSERT INTO t (id, b) SELECT i, i % 3 FROM generate_series(1, 50) i")
    pg.sql("UPDATE t SET id = id + 1000 WHERE id % 5 = 0")
    pg.sql("UPDATE t SET b = b + 10 WHERE id % 7 = 0")
    pg.sql("DELETE FROM t WHERE id % 11 = 0")
    search.check()


# --- names


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_column_names_that_elasticsearch_would_refuse(search: Search, pg: Postgres) -> None:
    columns = ["_id", "_source", "_type", "a.b", "a", ".x", "x.", "%", "%2e", " ", "  ", "a b", "Id", "iD", "ä", "_", "*", "\t"]
    columns += ["x" * 63, "a..b", '"', "\\", "a\nb", "properties", "__proto__"]
    names = [quoted(name) for name in columns]
    begin(search, f"CREATE TABLE t (id int PRIMARY KEY, {' text, '.join(names)} text)")
    for number, name in enumerate(names):
        pg.sql(f"INSERT INTO t (id, {name}) VALUES ({number}, 'v{number}')")
    search.check()
    pg.sql("UPDATE t SET " + ", ".join(f"{name} = 'all'" for name in names))
    search.check()
    fields = search.documents()["0"].source
    assert len(fields) == len(columns) + 1, "none shares a field with another"
    pg.sql(f"ALTER TABLE t ADD COLUMN \"_routing\" text, DROP COLUMN {names[0]}; UPDATE t SET \"_routing\" = 'r'")
    search.check()


def test_tables_whose_names_look_alike_have_indices_of_their_own(
    make_oneslot: Make, pg: Postgres, es: Elasticsearch
) -> None:
    """a_b.c and a.b_c; dots, blanks, capitals, bytes that no index name may have."""
    search = make_search(make_oneslot, pg, es, source_tables=["*.*"])
    tables = [("a_b", "c"), ("a", "b_c"), ("a", "b.c"), ("Up per", "T-1"), ("s", 'x/y*?"<>|,#:\\')]
    tables += [("s", name) for name in ("ünï", "-lead", "_lead", "+lead", ".", "..", "t-000001", "T%2e", "漢字", "x" * 63)]
    for schema in {schema for schema, _ in tables}:
        pg.sql(f"CREATE SCHEMA {quoted(schema)}")
    for schema, name in tables:
        pg.sql(f"CREATE TABLE {quoted(schema)}.{quoted(name)} (id int PRIMARY KEY, v text)")
    search.start()
    for schema, name in tables:
        into = f"{quoted(schema)}.{quoted(name)}".replace("%", "%%")
        pg.sql(f"INSERT INTO {into} VALUES (1, %s)", [f"{schema}/{name}"])
    search.settle()
    held = [[d.source["v"] for d in es.documents(alias).values()] for alias in es.aliases()]
    assert sorted(held) == sorted([[f"{schema}/{name}"] for schema, name in tables]), "each holds one table's row"
    assert len(es.indices()) == len(tables)


def test_the_index_option_names_the_alias(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    search = make_search(make_oneslot, pg, es, sink={"index": "App-{table}-of-{schema}"})
    begin(search, "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    pg.sql("INSERT INTO t VALUES (1); INSERT INTO u VALUES (2)")
    search.check("public.t", "public.u")
    assert set(es.aliases()) == {"app-t-of-public", "app-u-of-public"}


# --- mapping


def test_an_index_is_an_alias_over_a_first_generation_with_its_origin(search: Search, pg: Postgres) -> None:
    begin(search, "CREATE TABLE t (b int, a int, v text, PRIMARY KEY (a, b))")
    pg.sql("INSERT INTO t VALUES (1, 2, 'v')")
    search.check()
    assert search.es.aliases() == {"public.t": ["public.t-000001"]}
    meta = search.es.mapping("public.t")["_meta"]["oneslot"]
    assert len(meta["log"]) == 32 and meta["epoch"] == 1 and sorted(meta["key"]) == ["a", "b"]
    settings = search.es.ask("GET", "/public.t/_settings?flat_settings=true")["public.t-000001"]["settings"]
    assert settings["index.gc_deletes"] in ("1h", "3600s", "60m")


def test_fields_can_be_searched_by_type(search: Search, pg: Postgres) -> None:
    begin(
        search,
        "CREATE TYPE mood AS ENUM ('sad', 'happy')",
        "CREATE TABLE t (id int PRIMARY KEY, name text, m mood, u uuid, d timestamptz, n numeric(9,6), i inet, j jsonb, ok bool)",
    )
    pg.sql(
        "INSERT INTO t VALUES (1, 'Some One', 'sad', '00000000-0000-0000-0000-000000000001', '2026-01-02 03:04:05+00',"
        " 48.208200, '10.1.2.3', '{\"a\": {\"b\": 1}}', true), (2, repeat('long ', 20000), 'happy', null,"
        " 'infinity', 'NaN', '10.0.0.0/8', '[1, \"x\"]', false)"
    )
    search.check()

    def found(query: dict[str, Any]) -> list[str]:
        hits = search.es.ask("POST", "/public.t/_search", {"query": query})["hits"]["hits"]
        return sorted(hit["_id"] for hit in hits)

    assert found({"match": {"name": "someone one"}}) == ["1"]
    assert found({"match": {"name": "long"}}) == ["2"], "indexed, though no keyword has room for it"
    assert found({"term": {"name.keyword": "Some One"}}) == ["1"]
    assert found({"term": {"m": "happy"}}) == ["2"]
    assert found({"term": {"u": "00000000-0000-0000-0000-000000000001"}}) == ["1"]
    assert found({"range": {"d": {"gte": "2026-01-02", "lte": "2026-01-03"}}}) == ["1"]
    assert found({"range": {"n": {"gt": 48.2, "lt": 48.3}}}) == ["1"]
    assert found({"term": {"i": "10.1.2.0/24"}}) == ["1"]
    assert found({"term": {"ok": False}}) == ["2"]


LONG = "longer than ignore_above"


def test_values_that_are_kept_and_not_indexed_are_counted(search: Search, pg: Postgres) -> None:
    """As many as the server itself leaves out, column by column; where it lists them, under _ignored."""
    begin(
        search,
        "CREATE TYPE mood AS ENUM ('sad')",
        "CREATE TABLE t (id int PRIMARY KEY, s smallint, l bigint, f real, g double precision, p numeric(10,2), n numeric,"
        " name text, c char(3), u uuid, m mood, d date, ts timestamp, tz timestamptz, i inet, ok bool, j jsonb, b bytea, a int[])",
    )
    assert lossy(search) == 0
    rows: list[tuple[int, str, list[str], bool | str]] = [
        (1, "s", ["-32768", "32767"], False),
        (2, "l", ["-9223372036854775808", "9223372036854775807"], False),
        (3, "f", ["'1e-40'", "3.4028235e38", "'-0'"], False),
        (4, "f", ["'NaN'", "'Infinity'", "'-Infinity'"], True),
        (5, "g", ["1.7976931348623157e308", "5e-324"], False),
        (6, "g", ["'NaN'", "'-Infinity'"], True),
        (7, "p", ["12345678.90", "0"], False),
        (8, "p", ["'NaN'"], True),
        (9, "n", ["1e308", "-1.5", "0.1234567890123456789", "('1797693134862315807' || repeat('0', 290))::numeric"], False),
        (10, "n", ["1e309", "-1e400", "'NaN'", "'Infinity'", "('1797693134862315808' || repeat('0', 290))::numeric"], True),
        (11, "n", ["('0.' || repeat('1', 8189))::numeric"], False),
        (12, "n", ["('0.' || repeat('1', 8190))::numeric"], LONG),
        (13, "name", ["''", "repeat('x', 8191)", "repeat('ä', 8191)", "repeat('😀', 4095)"], False),
        (14, "name", ["repeat('x', 8192)", "repeat('€', 8192)", "repeat('😀', 4096)"], LONG),
        (15, "c", ["'a'"], False),
        (16, "u", ["gen_random_uuid()"], False),
        (17, "m", ["'sad'"], False),
        (18, "d", ["'0001-01-01'", "'9999-12-31'"], False),
        (19, "d", ["'10000-01-01'", "'0044-03-15 BC'", "'infinity'", "'-infinity'"], True),
        (20, "ts", ["'2026-01-02 03:04:05'", "'2026-01-02 03:04:05.12'", "'9999-12-31 23:59:59.999999'"], False),
        (21, "ts", ["'294276-12-31 23:59:59'", "'0001-01-01 BC'", "'infinity'"], True),
        (22, "tz", ["'2026-01-02 03:04:05.123456+00'"], False),
        (23, "tz", ["'20000-01-01 00:00:00+00'", "'0001-01-01 00:00:00+00 BC'", "'-infinity'"], True),
        (24, "i", ["'10.1.2.3'", "'::1'"], False),
        (25, "i", ["'10.0.0.0/8'", "'fe80::/64'"], True),
        (26, "ok", ["true"], False),
        (27, "j", ["'{\"a\": [1, 2]}'", "to_jsonb(repeat('x', 9000))"], False),
        (28, "b", ["'\\x00'"], False),
        (29, "a", ["'{1,2}'", "array_fill(1, ARRAY[4000])"], False),
        (30, "a", ["array_fill(1, ARRAY[5000])"], LONG),
    ]
    expected: dict[str, set[str]] = {}
    too_long: dict[str, str] = {}
    for number, column, values, is_ignored in rows:
        for place, value in enumerate(values):
            id = 100 * number + place
            pg.sql(f"INSERT INTO t (id, {column}) VALUES ({id}, {value})")
            if is_ignored == LONG:
                too_long[str(id)] = column
            elif is_ignored:
                expected[str(id)] = {column}
    search.check()
    listed = {} if search.es.is_opensearch else {id: {column} for id, column in too_long.items()}
    assert ignored(search) == expected | listed
    assert not any(has_keyword(search, id, column) for id, column in too_long.items())
    assert has_keyword(search, "1301", "name"), "the last text that is not too long"
    total = len(expected) + len(too_long)
    search.oneslot.wait(lambda: lossy(search) >= total, 20, "they are counted")
    assert lossy(search) == total


def has_keyword(search: Search, id: str, column: str) -> bool:
    """Whether the field with ignore_above has a value: OpenSearch does not list under _ignored what is beyond that."""
    fields = search.es.mapping("public.t")["properties"][column]
    field = column if fields["type"] == "keyword" else f"{column}.{next(iter(fields['fields']))}"
    query = {"query": {"bool": {"must": [{"ids": {"values": [id]}}, {"exists": {"field": field}}]}}}
    return bool(search.es.ask("POST", "/public.t/_search", query)["hits"]["hits"])


def ignored(search: Search) -> dict[str, set[str]]:
    """The columns whose value is missing from a field, by document; a field beside another counts as that."""
    search.es.ask("POST", "/public.t/_refresh")
    query = {"query": {"exists": {"field": "_ignored"}}, "size": 1000, "_source": False}
    hits = search.es.ask("POST", "/public.t/_search", query)["hits"]["hits"]
    return {hit["_id"]: {name.split(".")[0] for name in hit["_ignored"]} for hit in hits}


def lossy(search: Search) -> int:
    metrics = search.oneslot.http.get("/metrics").body.decode()
    found = re.search(r'^oneslot_sink_lossy_total{sink="search",kind="elasticsearch"} (\d+)$', metrics, re.MULTILINE)
    assert found, metrics
    return int(found[1])


def test_a_mapping_option_overrides_single_columns(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> None:
    options = {"mapping": {"public.t.name": "keyword", "public.*.secret": "none", "*.*.place": '{"type":"geo_point"}'}}
    search = make_search(make_oneslot, pg, es, sink=options)
    begin(search, "CREATE TABLE t (id int PRIMARY KEY, name text, secret text, place jsonb)")
    pg.sql("""INSERT INTO t VALUES (1, 'Some One', 'x', '{"lat": 48.2, "lon": 16.3}'), (2, repeat('x', 40000), 'y', NULL)""")
    search.check()
    fields = es.mapping("public.t")["properties"]
    assert fields["name"]["type"] == "keyword" and fields["place"]["type"] == "geo_point" and "secret" not in fields


def test_an_added_column_extends_the_mapping(search: Search, pg: Postgres) -> None:
    begin(search, "CREATE TABLE t (id int PRIMARY KEY)")
    pg.sql("INSERT INTO t VALUES (1)")
    search.check()
    for number, kind in enumerate(["int", "timestamptz", "jsonb", "inet"]):
        pg.sql(f"ALTER TABLE t ADD COLUMN c{number} {kind}; UPDATE t SET id = id; INSERT INTO t (id) VALUES ({number + 10})")
    search.check()
    fields = search.es.mapping("public.t")["properties"]
    assert {"c0", "c1", "c2", "c3"} <= set(fields) and fields["c1"]["type"] in ("date", "date_nanos")
    pg.sql("ALTER TABLE t DROP COLUMN c0; ALTER TABLE t RENAME c1 TO c9; UPDATE t SET c9 = now()")
    search.check()


def test_a_column_whose_type_changes_still_arrives(search: Search, pg: Postgres) -> None:
    """The old field keeps its type and indexes what it can; nothing is refused."""
    begin(search, "CREATE TABLE t (id int PRIMARY KEY, v int, w timestamptz, x uuid, y inet, z jsonb, b bool)")
    pg.sql("INSERT INTO t VALUES (1, 1, now(), gen_random_uuid(), '::1', '{}', true)")
    search.check()
    changes = "ALTER v TYPE text USING 'text', ALTER w TYPE text USING 'text', ALTER x TYPE text USING 'text'"
    pg.sql(f"ALTER TABLE t {changes}, ALTER y TYPE text USING 'text', ALTER z TYPE text USING 'text', ALTER b TYPE text USING 'text'")
    pg.sql("INSERT INTO t VALUES (2, repeat('x', 40000), 'b', 'maybe', 'd', 'e', 'f'); UPDATE t SET v = v || '.' WHERE id = 1")
    search.check()


def test_more_columns_than_the_limit_on_fields(search: Search, pg: Postgres) -> None:
    """[11] 1,500 columns, and more later."""
    columns = ", ".join(f"c{i} {'text' if i % 2 else 'int'}" for i in range(1200))
    begin(search, f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    pg.sql("INSERT INTO t (id, c1, c1199) VALUES (1, 'a', 'z')")
    search.check()
    more = ", ".join(f"ADD COLUMN d{i} int" for i in range(300))
    pg.sql(f"ALTER TABLE t {more}; INSERT INTO t (id, d299) VALUES (2, 7); UPDATE t SET c1 = 'b'")
    search.check()
    assert "d299" in search.es.mapping("public.t")["properties"]


def test_a_large_document(search: Search, pg: Postgres) -> None:
    """[10] Below the server's limit: 12 MiB in one row, of text that an analyser has to take apart."""
    begin(search, "CREATE TABLE t (id int PRIMARY KEY, v text, b bytea)")
    pg.sql("INSERT INTO t SELECT 1, string_agg(md5(i::text), ' '), decode(repeat('00ff', 1000000), 'hex') FROM generate_series(1, 240000) i")
    pg.sql("INSERT INTO t SELECT 2, repeat('x', 12000000), NULL")
    search.check(timeout=120)
