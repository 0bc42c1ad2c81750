"""Values of every scalar, composite, user-defined and extension type of Debian's PostgreSQL 15, as SQL expressions:
column name -> (type, expressions). Numbers name the cases of facts/conformance.md, groups A and B."""

from __future__ import annotations

import random

Pools = dict[str, tuple[str, list[str]]]

USER_TYPES = """
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube; CREATE EXTENSION isn;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE "Mixed Mood" AS ENUM ('it''s "x"', 'a,b', '{c}');
CREATE SCHEMA "Other Types"; CREATE TYPE "Other Types".mood AS ENUM ('dull', 'bright');
CREATE DOMAIN small_text AS varchar(20) CHECK (length(VALUE) < 20);
CREATE DOMAIN smaller_text AS small_text CHECK (length(VALUE) < 10);
CREATE DOMAIN doc AS jsonb;
CREATE TYPE pair AS (a int, b text);
"""

NUMBERS: Pools = {
    "c_int2": ("int2", ["-32768", "0", "32767"]),  # 1
    "c_int4": ("int4", ["-2147483648", "0", "2147483647"]),
    "c_int8": ("int8", ["-9223372036854775808", "9007199254740993", "9223372036854775807"]),
    "c_oid": ("oid", ["0", "4000000000", "4294967295"]),  # 2
    "c_oids": ("oid[]", ["'{3,4000000000}'"]),
    "c_float4": ("float4", ["3.3", "4.44", "'NaN'", "'Infinity'", "'-Infinity'", "1e-40", "-0.0"]),  # 3
    "c_float8": ("float8", ["0.1", "123.456789012345", "'NaN'", "'-Infinity'", "5e-324", "1.7976931348623157e308"]),
    "c_num32": ("numeric(3,2)", ["1.1", "-9.99", "'NaN'"]),  # 4
    "c_num4": ("numeric(4)", ["10.11", "-9999"]),
    "c_num": ("numeric", ["10.1111", "3.30", "'NaN'", "'Infinity'", "'-Infinity'", "0.000", "1e-200"]),  # 5
    "c_nums": ("numeric[]", ["'{1.10,NULL,NaN}'"]),
    "c_money": ("money", ["'$1234.11'", "'-$1234.11'", "'0'", "'-92233720368547758.08'"]),  # 7
    "c_bool": ("bool", ["true", "false"]),  # 8
}

TEXTS: Pools = {
    "c_char": ('"char"', ["'a'", "''"]),
    "c_name": ("name", ["'a name'", "''"]),
    "c_char5": ("char(5)", ["'ab'", "'žš'", "''"]),
    "c_bpchar": ("bpchar", ["'ab   '"]),
    "c_varchar2": ("varchar(2)", ["'žš'", "''"]),
    "c_text": (  # 9, 10, 11
        "text",
        [
            r"E'\\N'",
            r"E'\u2028</script>'",
            r"E'value\\Ntail\t\n\r\\ ''\"'",
            "''",
            "'   '",
            "'🎉e\u0301'",
            r"E'\x01\x1f\x7f'",
        ],
    ),
    "c_bytea": ("bytea", [r"'\x'", r"'\xDEADBEEF'", r"'\000\001'", r"'\x5c78'"]),  # 12
    "c_byteas": ("bytea[]", [r"ARRAY['\x00ff'::bytea, '\x']"]),
    "c_bit1": ("bit(1)", ["B'1'"]),  # 13
    "c_bit7": ("bit(7)", ["B'1010101'"]),
    "c_bit64": ("bit(64)", ["(-1)::bigint::bit(64)"]),
    "c_varbit5": ("varbit(5)", ["B'101'", "B''"]),
    "c_varbit": ("varbit", ["repeat('10', 20)::varbit"]),
    "c_uuid": ("uuid", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),  # 24
    "c_json": (  # 21, 22
        "json",
        [
            """'{"b" : 1,  "a":[ 1, null ], "b": 2}'""",
            "'null'",
            "'12345678901234567890'",
            r"""'["\ud83d", "\u0000"]'""",
            """E'{\\n "x":\\r\\n\\t"y"}'""",
            "'1.50'",
        ],
    ),
    "c_jsonb": ("jsonb", ["""'{"b": 1, "a": {"z": [1, 2.50]}}'""", "'null'", "'\"text\"'", "'12345678901234567890'"]),
    "c_jsons": ("json[]", ["""ARRAY['{"a": "b,c"}'::json, 'null']"""]),
    "c_jsonpath": ("jsonpath", ["'$.a[*] ? (@ > 1)'"]),  # 23
    "c_xml": ("xml", ["'<a>1</a><b/>'::xml", """'<?xml version="1.0" encoding="UTF-8"?><ä/>'::xml"""]),
    "c_tsvector": ("tsvector", ["to_tsvector('english', 'a fat cat sat')", "''"]),  # 27
    "c_tsquery": ("tsquery", ["'fat <-> cat'", "'a & !b'"]),
}

TIMES: Pools = {
    "c_date": ("date", ["'infinity'", "'-infinity'", "'epoch'", "'0044-02-01 BC'", "'300000-01-01'"]),  # 14
    "c_dates": ("date[]", ["'{infinity,0044-02-01 BC,NULL}'"]),
    "c_timestamp": (  # 15, 16
        "timestamp",
        ["'infinity'", "'4713-12-31 BC'", "'294247-01-01T23:59:59.999999'", "'1500-02-28 00:00:01'", "now()"],
    ),
    "c_timestamp0": ("timestamp(0)", ["'1936-10-25 22:10:12.608'"]),
    "c_timestamptz": ("timestamptz", ["'-infinity'", "'2026-03-29 02:30:00+01'", "'2000-01-01 BC'", "now()"]),
    "c_timestamptzs": ("timestamptz[]", ["ARRAY[now(), 'infinity']"]),
    "c_time": ("time", ["'24:00:00'", "'00:00:00.000001'"]),  # 17
    "c_timetz": ("timetz", ["'24:00:00+02'", "'01:02:03.4-07:30'", "'12:00+15:59:59'"]),
    "c_interval": (  # 18
        "interval",
        ["'P1Y2M3DT4H5M6.78S'", "'-1 mon +2 days -3:04:05.6'", "'0'", "'178000000 years'"],
    ),
}

OTHERS: Pools = {
    "c_inet": ("inet", ["'192.168.2.0/12'", "'2001:db8::1'"]),  # 20
    "c_inets": ("inet[]", ["'{10.0.0.1,::/0}'"]),
    "c_cidr": ("cidr", ["'10.0.0.0/8'", "'2001:db8::/32'"]),
    "c_macaddr": ("macaddr", ["'08:00:2b:01:02:03'"]),
    "c_macaddr8": ("macaddr8", ["'08:00:2b:01:02:03:04:05'"]),
    "c_point": ("point", ["'(1.5,-2)'", "'(NaN,Infinity)'"]),  # 25
    "c_line": ("line", ["'{1,-1,0}'"]),
    "c_lseg": ("lseg", ["'[(0,0),(1,1)]'"]),
    "c_box": ("box", ["'(0,0),(1,1)'"]),
    "c_boxes": ("box[]", ["'{(1,1),(0,0);(2,2),(1,1)}'"]),
    "c_path": ("path", ["'((0,0),(1,1))'", "'[(0,0),(1,1)]'"]),
    "c_polygon": ("polygon", ["'((0,0),(1,1),(1,0))'"]),
    "c_circle": ("circle", ["'<(0,0),1>'"]),
    "c_int4range": ("int4range", ["'empty'", "'(,)'", "'[5,5]'"]),  # 26
    "c_tsrange": ("tsrange", ["'[2026-01-01,infinity)'", "'[2026-01-01,)'"]),
    "c_numranges": ("numrange[]", ["ARRAY['[1.10,2)'::numrange, 'empty']"]),
    "c_multirange": ("int4multirange", ["'{}'", "'{[1,3),[5,8)}'"]),
    "c_pg_lsn": ("pg_lsn", ["'16/B374D848'"]),
    "c_xid8": ("xid8", ["'18446744073709551615'"]),
    "c_txid_snapshot": ("txid_snapshot", ["'10:20:10,14,15'"]),
    "c_regclass": ("regclass", ["'pg_class'", "'\"Odd Schema\".\"T.dot\"'"]),
    "c_regtype": ("regtype", ["'timestamp without time zone'"]),
    "c_int2vector": ("int2vector", ["'1 -2 3'"]),  # 38
    "c_oidvector": ("oidvector", ["'1 4294967295'"]),
}

# Whatever attributes the type has by then.
_PAIR = "jsonb_populate_record(NULL::pair, '{\"a\": "

USERS: Pools = {
    "c_ints": ("int[]", ["'{}'", "'{1,NULL,3}'", "'{NULL}'", "'{{1,2},{3,4}}'", "'[0:2]={1,2,3}'"]),  # 29
    "c_texts": ("text[]", ["""ARRAY['{', '"', ',', '', NULL, 'NULL', E'a\\\\b\\n']"""]),
    "c_uuids": ("uuid[]", ["'{ffffffff-ffff-ffff-ffff-ffffffffffff}'"]),  # 30
    "c_mood": ("mood", ["'sad'", "'happy'"]),  # 31, 32
    "c_moods": ("mood[]", ["'{ok,NULL}'"]),
    "c_mixed_mood": ('"Mixed Mood"', ["'it''s \"x\"'", "'a,b'", "'{c}'"]),
    "c_mixed_moods": ('"Mixed Mood"[]', ["""ARRAY['a,b', '{c}', 'it''s "x"']::"Mixed Mood"[]"""]),
    "c_other_mood": ('"Other Types".mood', ["'dull'"]),
    "c_domain": ("small_text", ["'short'"]),  # 33
    "c_domain2": ("smaller_text", ["'ß'"]),
    "c_domains": ("small_text[]", ["'{a,\"b c\"}'"]),
    "c_domain_json": ("doc", ["""'{"k": [true]}'"""]),
    "c_pair": ("pair", [f"{_PAIR}1, \"b\": \"x,\\\"y\"}}')", f"{_PAIR}null, \"b\": \"\"}}')"]),  # 34
    "c_pairs": ("pair[]", [f"ARRAY[{_PAIR}1, \"b\": \"a\"}}'), {_PAIR}2}}'), NULL]"]),
    "c_hstore": ("hstore", ["'a=>1, \"b c\"=>NULL, \"q\\\"\"=>\"=>\"'", "''"]),  # 35
    "c_hstores": ("hstore[]", ["ARRAY['a=>1'::hstore]"]),
    "c_citext": ("citext", ["'MiXed'"]),
    "c_citexts": ("citext[]", ["'{A,b}'"]),
    "c_ltree": ("ltree", ["'Top.Science.Astronomy'", "''"]),
    "c_ltrees": ("ltree[]", ["'{a.b,c}'"]),
    "c_isbn": ("isbn", ["'978-0-393-04002-9'"]),
    "c_cube": ("cube", ["'(1,2),(3,4)'"]),
}

# 6: rare, for its text has 147,456 digits.
HUGE_NUMBER = "(repeat('9', 131072) || '.' || repeat('7', 16383))::numeric"

ALL: Pools = NUMBERS | TEXTS | TIMES | OTHERS | USERS


def definitions() -> str:
    """The columns of a table with one of each type."""
    return ", ".join(f"{name} {type_name}" for name, (type_name, _) in ALL.items())


def some(rng: random.Random, name: str) -> str:
    """A value of the column, or NULL."""
    if name == "c_num" and rng.random() < 0.01:
        return HUGE_NUMBER
    type_name, pool = ALL[name]
    return "NULL" if rng.random() < 0.15 else f"({rng.choice(pool)})::{type_name}"
