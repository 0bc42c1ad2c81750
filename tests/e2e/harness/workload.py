"""A random mixed workload: concurrent sessions that run transactions of random operations on tables of every shape.
Seeded: the same rng asks for the same operations (their interleaving is the server's)."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable, ContextManager, Iterator

import psycopg

from harness import values
from harness.postgres import Postgres

BIG_ROWS = (10_000, 15_000)
KEEP_ROWS = 150  # a table that grew beyond this is thinned out
BIG = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, {n}))"
BIGS = {
    "text": BIG,
    "bytea": f"decode({BIG}, 'hex')",
    "jsonb": f"jsonb_build_object('k', {BIG})",
    "text[]": "ARRAY(SELECT md5(random()::text) FROM generate_series(1, {n}))",
}
FRESH = "nextval('fresh')"
# What two sessions may do to each other; anything else is a mistake in this file.
EXPECTED = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UniqueViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.DuplicateColumn,
    psycopg.errors.ObjectNotInPrerequisiteState,  # a second TRUNCATE while another's triggers are pending
)


@dataclass
class Table:
    """columns and key hold SQL names and the type of value or the expression of a fresh key."""

    name: str  # as changes name it
    sql: str
    create: str
    columns: dict[str, str]  # name -> "int", "text", one of BIGS, or "any" (values.ALL)
    key: dict[str, str] = field(default_factory=dict)
    key_moves: bool = True
    is_deferrable: bool = False
    is_altered: bool = False


_ANY = {name: "any" for name in values.ALL}
TABLES = [
    Table(
        "public.plain",
        "plain",
        "id int PRIMARY KEY, v text, n int",
        {"v": "text", "n": "int"},
        {"id": FRESH},
        is_altered=True,
    ),
    Table(
        "Odd Schema.T.dot",
        '"Odd Schema"."T.dot"',
        '"No""te" text, "Second key" int, n int, "firstKey" text COLLATE "C",'
        ' PRIMARY KEY ("firstKey", "Second key")',
        {'"No""te"': "text", "n": "int"},
        {'"firstKey"': f"'k' || {FRESH}", '"Second key"': f"{FRESH} % 7"},
        is_altered=True,
    ),
    Table(
        "public.full",
        '"full"',
        "n int, id bigint PRIMARY KEY, v text, big text, js jsonb; ALTER TABLE \"full\" REPLICA IDENTITY FULL",
        {"n": "int", "v": "text", "big": "text", "js": "jsonb"},
        {"id": FRESH},
        is_altered=True,
    ),
    Table(
        "public.deferred",
        "deferred",
        "v text, id int, big text, PRIMARY KEY (id) DEFERRABLE; ALTER TABLE deferred REPLICA IDENTITY FULL",
        {"v": "text", "big": "text"},
        {"id": FRESH},
        is_deferrable=True,
    ),
    Table(
        "public.keyless",
        "keyless",
        "v text, n int, big text; ALTER TABLE keyless REPLICA IDENTITY FULL",
        {"v": "text", "n": "int", "big": "text"},
    ),
    Table(
        "public.by_index",
        "by_index",
        "id int PRIMARY KEY, n int, big bytea, b uuid NOT NULL, a varchar NOT NULL, UNIQUE (a, b);"
        " ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a_b_key",
        {"n": "int", "big": "bytea"},
        {"id": FRESH, "a": "md5(random()::text)", "b": "gen_random_uuid()"},
        is_altered=True,
    ),
    Table(
        "public.toast",
        "toast",
        "a text, id int PRIMARY KEY, n int, b bytea, c jsonb, d text[]; "
        "ALTER TABLE toast ALTER a SET STORAGE EXTERNAL",
        {"a": "text", "b": "bytea", "c": "jsonb", "d": "text[]", "n": "int"},
        {"id": FRESH},
        is_altered=True,
    ),
    Table("public.types", "types", f"id int PRIMARY KEY, {values.definitions()}", _ANY, {"id": FRESH}),
    Table(
        "public.types_full",
        "types_full",
        f"{values.definitions()}, id int PRIMARY KEY; ALTER TABLE types_full REPLICA IDENTITY FULL",
        _ANY,
        {"id": FRESH},
    ),
    Table("public.parent", "parent", "id int PRIMARY KEY, n int", {"n": "int"}, {"id": FRESH}),
    Table(
        "public.child",
        "child",
        "no int, v text, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,"
        " PRIMARY KEY (parent, no)",
        {"v": "text"},
        {"parent": "(SELECT id FROM parent ORDER BY random() LIMIT 1)", "no": FRESH},
        key_moves=False,  # by the parent's cascade only
    ),
]


Operation = Callable[["Session", psycopg.Cursor], None]


class Workload:
    def __init__(self, pg: Postgres, rng: random.Random) -> None:
        self.pg = pg
        self.rng = rng
        self.tables = TABLES
        self.done: Counter[str] = Counter()  # operations of committed transactions, and "commit", "rollback"
        self.messages: Counter[tuple[bool, str, bytes]] = Counter()  # that the log has to have
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._limit: int | None = None
        self._threads: list[threading.Thread] = []

    @property
    def names(self) -> list[str]:
        return [table.name for table in self.tables]

    @property
    def patterns(self) -> list[str]:
        """For source.tables."""
        return ["public.*", "Odd Schema.*"]

    def create(self) -> None:
        self.pg.sql(values.USER_TYPES)
        self.pg.sql('CREATE SCHEMA "Odd Schema"; CREATE SEQUENCE fresh; CREATE SEQUENCE extra')
        for table in self.tables:
            columns, _, more = table.create.partition(";")
            self.pg.sql(f"CREATE TABLE {table.sql} ({columns}); {more}")

    # --- running

    def start(self, sessions: int = 3) -> None:
        for number in range(sessions):
            session = Session(self, random.Random(self.rng.random()), number)
            thread = threading.Thread(target=session.run, args=[self._stop], daemon=True)
            self._threads.append(thread)
            thread.start()

    def run(self, transactions: int) -> None:
        """So many in this thread."""
        session = Session(self, random.Random(self.rng.random()), 0)
        with session.connect() as connection:
            for _ in range(transactions):
                session.transaction(connection)

    @contextmanager
    def at_most(self, transactions: int) -> Iterator[None]:
        """Only so many more (and one per session) meanwhile: what nobody takes does not grow with the machine's slowness."""
        with self._changed:
            self._limit = self.done["commit"] + transactions
        try:
            yield
        finally:
            with self._changed:
                self._limit = None
                self._changed.notify_all()

    def wait_until_allowed(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stop.is_set() or self._limit is None or self.done["commit"] < self._limit
            )

    def stop(self) -> None:
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a session of the workload hangs"
        if self.failure is not None:
            raise self.failure

    def wait_for(self, transactions: int, timeout: float = 60.0) -> None:
        """Until so many more are committed."""
        goal = self.done["commit"] + transactions
        with self._changed:
            reached = self._changed.wait_for(lambda: self.failure or self.done["commit"] >= goal, timeout)
        if self.failure is not None:
            raise self.failure
        assert reached, f"the workload does not get on: {self.done}"

    def count(self, what: Counter[str], messages: Counter[tuple[bool, str, bytes]]) -> None:
        with self._changed:
            self.done += what
            self.messages += messages
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self.failure = error
            self._changed.notify_all()


class _Undo(Exception):
    """Rolls a savepoint or a transaction back on purpose."""


class Session:
    def __init__(self, load: Workload, rng: random.Random, number: int) -> None:
        self.load = load
        self.rng = rng
        self.number = number
        self.did: Counter[str] = Counter()
        self.messages: Counter[tuple[bool, str, bytes]] = Counter()
        self.message_number = 0

    def run(self, stop: threading.Event) -> None:
        try:
            with self.connect() as connection:
                while not stop.is_set():
                    self.transaction(connection)
                    self.load.wait_until_allowed()
        except BaseException as error:  # noqa: BLE001 the main thread raises it
            self.load.fail(error)

    def connect(self) -> psycopg.Connection:
        connection = self.load.pg.connect()
        connection.execute("SET lock_timeout = '2s'")
        connection.execute(f"SELECT setseed({self.rng.random()})")
        return connection

    def transaction(self, connection: psycopg.Connection) -> None:
        self.did, self.messages = Counter(), Counter()
        sent: Counter[tuple[bool, str, bytes]] = Counter()
        try:
            with connection.transaction(force_rollback=self.rng.random() < 0.08) as whole:
                self._operations(connection, sent)
            committed = not whole.force_rollback
        except EXPECTED:
            committed = False
        if not committed:
            self.load.count(Counter({"rollback": 1}), sent)
            return
        self.did["commit"] += 1
        self.load.count(self.did, self.messages + sent)

    def _operations(self, connection: psycopg.Connection, sent: Counter[tuple[bool, str, bytes]]) -> None:
        for _ in range(self.rng.choice([0, 1, 1, 1, 2, 3, 5, 12])):
            name, operation = self._choose()
            before = self.messages.copy(), self.did.copy()
            try:
                with self._maybe_savepoint(connection) as point, connection.cursor() as cursor:
                    if name == "message":
                        self.message(cursor, sent)
                    else:
                        operation(self, cursor)
                    self.did[name] += 1
                    if point is not None and self.rng.random() < 0.5:
                        raise _Undo
            except _Undo:
                self.messages, self.did = before
                self.did["savepoint undone"] += 1

    def _maybe_savepoint(self, connection: psycopg.Connection) -> ContextManager[object]:
        return connection.transaction() if self.rng.random() < 0.3 else _Nothing()

    def _choose(self) -> tuple[str, Operation]:
        names = list(OPERATIONS)
        name = self.rng.choices(names, [OPERATIONS[n][0] for n in names])[0]
        return name, OPERATIONS[name][1]

    # --- what operations are made of

    def table(self, where: Callable[[Table], bool] = lambda table: True) -> Table:
        return self.rng.choice([table for table in self.load.tables if where(table)])

    def value(self, table: Table, column: str) -> str:
        kind = table.columns[column]
        if kind == "any":
            return values.some(self.rng, column)
        if self.rng.random() < 0.1:
            return "NULL"
        if kind == "int":
            return str(self.rng.randrange(-1000, 1000))
        if column in ("v", '"No""te"'):
            return f"'{self.rng.randrange(10**6)}' || repeat('ä', {self.rng.randrange(50)})"
        size = self.rng.choices([3, 120, 400, 30_000], [2, 6, 4, 0.2])[0]
        return BIGS[kind].format(n=size)

    def rows(self, table: Table, most: int) -> str:
        """A condition that holds for up to `most` rows that no other session has locked."""
        number = self.rng.randint(1, most)
        return (
            f"ctid = ANY (ARRAY(SELECT ctid FROM {table.sql} ORDER BY random() LIMIT {number} FOR UPDATE SKIP LOCKED))"
        )

    def some_columns(self, table: Table) -> list[str]:
        names = list(table.columns)
        return self.rng.sample(names, self.rng.randint(1, min(len(names), 6)))

    def message(self, cursor: psycopg.Cursor, sent: Counter[tuple[bool, str, bytes]]) -> None:
        """A transactional one counts when all around it is committed, any other at once."""
        self.message_number += 1
        is_transactional = self.rng.random() < 0.5
        content = f"{self.number}/{self.message_number}/".encode() + self.rng.randbytes(self.rng.choice([0, 9, 5000]))
        prefix = self.rng.choice(["app", "", 'p"ä'])
        cursor.execute("SELECT pg_logical_emit_message(%s, %s, %s)", [is_transactional, prefix, content])
        (self.messages if is_transactional else sent)[is_transactional, prefix, content] += 1


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


# --- the operations


def insert(s: Session, cursor: psycopg.Cursor) -> None:
    table = s.table()
    names = [*table.key, *table.columns]
    rows = [
        [*table.key.values(), *(s.value(table, column) for column in table.columns)]
        for _ in range(s.rng.randint(1, 4))
    ]
    if table.sql == "child":
        cursor.execute("INSERT INTO parent VALUES (nextval('fresh'), 0)")
    texts = ", ".join(f"({', '.join(row)})" for row in rows)
    cursor.execute(f"INSERT INTO {table.sql} ({', '.join(names)}) VALUES {texts}")


def upsert(s: Session, cursor: psycopg.Cursor) -> None:
    """Of keys that are there, and of new ones: a speculative insertion."""
    table = s.table(lambda t: bool(t.key) and not t.is_deferrable and "by_index" != t.sql)
    column = s.rng.choice(list(table.columns))
    keys = ", ".join(table.key)
    cursor.execute(
        f"INSERT INTO {table.sql} ({keys}, {column}) SELECT {keys}, {s.value(table, column)} FROM {table.sql}"
        f" ORDER BY random() LIMIT 2 ON CONFLICT ({keys}) DO UPDATE SET {column} = EXCLUDED.{column}"
    )


def update(s: Session, cursor: psycopg.Cursor) -> None:
    table = s.table()
    changes = ", ".join(f"{column} = {s.value(table, column)}" for column in s.some_columns(table))
    cursor.execute(f"UPDATE {table.sql} SET {changes} WHERE {s.rows(table, 6)}")


def change_key(s: Session, cursor: psycopg.Cursor) -> None:
    """Values that are stored out of line go with the row and are not sent."""
    table = s.table(lambda t: bool(t.key) and t.key_moves)
    column = s.rng.choice(list(table.key))
    also = f", n = {s.rng.randrange(9)}" if "n" in table.columns and s.rng.random() < 0.5 else ""
    cursor.execute(f"UPDATE {table.sql} SET {column} = {table.key[column]}{also} WHERE {s.rows(table, 2)}")


def swap_keys(s: Session, cursor: psycopg.Cursor) -> None:
    """By way of a third key, or at once where the constraint waits for the statement's end."""
    table = s.table(lambda t: bool(t.key) and t.key_moves)
    names = list(table.key)
    keys = ", ".join(names)
    cursor.execute(
        f"SELECT {keys} FROM {table.sql} ORDER BY random() LIMIT 2 FOR UPDATE SKIP LOCKED"  # type: ignore[arg-type]
    )
    pair = cursor.fetchall()
    if len(pair) < 2:
        return
    if table.is_deferrable:
        a, b = pair[0][0], pair[1][0]
        cursor.execute(f"UPDATE {table.sql} SET id = {a} + {b} - id WHERE id IN ({a}, {b})")
        return
    move = f"UPDATE {table.sql} SET ({keys}) = ROW(%s) WHERE ({keys}) = (%s)"
    holes = ", ".join(["%s"] * len(names))
    cursor.execute(f"SELECT {', '.join(table.key.values())}")
    between = cursor.fetchone()
    assert between is not None
    for old, new in ((pair[0], between), (pair[1], pair[0]), (between, pair[1])):
        cursor.execute(move.replace("%s", holes), [*new, *old])


def delete(s: Session, cursor: psycopg.Cursor) -> None:
    table = s.table()
    cursor.execute(f"DELETE FROM {table.sql} WHERE {s.rows(table, 5)}")


def delete_and_insert_again(s: Session, cursor: psycopg.Cursor) -> None:
    table = s.table(lambda t: bool(t.key))
    names = ", ".join(table.key)
    cursor.execute(f"DELETE FROM {table.sql} WHERE {s.rows(table, 3)} RETURNING {names}")
    for key in cursor.fetchall():
        cursor.execute(f"INSERT INTO {table.sql} ({names}) VALUES ({', '.join(['%s'] * len(key))})", key)


def truncate(s: Session, cursor: psycopg.Cursor) -> None:
    tables = s.rng.sample([t.sql for t in s.load.tables], s.rng.choice([1, 1, 2, 3]))
    options = s.rng.choice(["", " RESTART IDENTITY"]) + (" CASCADE" if "parent" in tables else "")
    cursor.execute(f"TRUNCATE {', '.join(tables)}{options}")
    if s.rng.random() < 0.5:
        insert(s, cursor)


def insert_many(s: Session, cursor: psycopg.Cursor) -> None:
    number = s.rng.randint(*BIG_ROWS)
    cursor.execute(f"INSERT INTO plain SELECT {FRESH}, repeat('x', 1 + i % 90), i FROM generate_series(1, {number}) i")
    if s.rng.random() < 0.3:
        cursor.execute("UPDATE plain SET n = n + 1 WHERE n % 3 = 0")


def thin_out(s: Session, cursor: psycopg.Cursor) -> None:
    """A large delete where the table has grown large."""
    table = s.table() if s.rng.random() < 0.5 else s.load.tables[0]
    cursor.execute(
        f"DELETE FROM {table.sql} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table.sql} ORDER BY random()"
        f" OFFSET {KEEP_ROWS} FOR UPDATE SKIP LOCKED))"
    )


def touch_all(cursor: psycopg.Cursor, table: Table) -> None:
    """Every row again under the table's new shape, since DDL itself is not in the log."""
    column = next(name for name, kind in table.columns.items() if kind == "int")
    cursor.execute(f"UPDATE {table.sql} SET {column} = {column}")


def _extras(cursor: psycopg.Cursor, table: Table) -> list[str]:
    cursor.execute(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attname LIKE 'extra%%' AND NOT attisdropped",
        [table.sql],
    )
    return [row[0] for row in cursor.fetchall()]


def alter(s: Session, cursor: psycopg.Cursor) -> None:
    table = s.table(lambda t: t.is_altered)
    cursor.execute(f"LOCK TABLE {table.sql}")
    extras = _extras(cursor, table)
    cursor.execute("SELECT nextval('extra')")
    number = cursor.fetchone()[0]  # type: ignore[index]
    if len(extras) < 3 and (not extras or s.rng.random() < 0.5):
        kind = s.rng.choice(["int", "text DEFAULT 'known'", "int DEFAULT 7 NOT NULL", "float8 DEFAULT random()"])
        cursor.execute(f"ALTER TABLE {table.sql} ADD COLUMN extra{number} {kind}")
        extras.append(f"extra{number}")
    elif s.rng.random() < 0.5:
        cursor.execute(f"ALTER TABLE {table.sql} DROP COLUMN {extras.pop()}")
    else:
        cursor.execute(f"ALTER TABLE {table.sql} RENAME COLUMN {extras.pop()} TO extra{number}")
    touch_all(cursor, table)


def set_extras(s: Session, cursor: psycopg.Cursor) -> None:
    table = s.table(lambda t: t.is_altered)
    for name in _extras(cursor, table)[:2]:
        cursor.execute(f"UPDATE {table.sql} SET {name} = '{s.rng.randrange(99)}' WHERE {s.rows(table, 5)}")


def add_to_types(s: Session, cursor: psycopg.Cursor) -> None:
    """An enum gets a value, and a composite type an attribute that every stored row then has."""
    cursor.execute("LOCK TABLE types, types_full")
    cursor.execute("SELECT nextval('extra')")
    number = cursor.fetchone()[0]  # type: ignore[index]
    cursor.execute(f"ALTER TYPE mood ADD VALUE 'mood {number}' BEFORE 'ok'")
    cursor.execute("SELECT count(*) FROM pg_attribute WHERE attrelid = 'pair'::regclass AND attnum > 0")
    if cursor.fetchone()[0] < 6:  # type: ignore[index]
        cursor.execute(f"ALTER TYPE pair ADD ATTRIBUTE extra{number} int CASCADE")
        # Values made anew: one that is stored out of line would not be sent, while its text has changed.
        again = "c_pair = jsonb_populate_record(NULL::pair, to_jsonb(c_pair)), c_pairs = ARRAY[c_pair]"
        cursor.execute(f"UPDATE types SET {again}; UPDATE types_full SET {again}")


def read_only(s: Session, cursor: psycopg.Cursor) -> None:
    """A transaction with an id and without a change of a published table."""
    cursor.execute("SELECT txid_current()")


OPERATIONS: dict[str, tuple[float, Operation]] = {
    "insert": (30, insert),
    "upsert": (6, upsert),
    "update": (30, update),
    "change key": (8, change_key),
    "swap keys": (8, swap_keys),
    "delete": (10, delete),
    "delete and insert": (4, delete_and_insert_again),
    "truncate": (0.6, truncate),
    "insert many": (0.4, insert_many),
    "thin out": (1.5, thin_out),
    "alter": (1, alter),
    "set extras": (2, set_extras),
    "add to types": (0.3, add_to_types),
    "nothing": (3, read_only),
    "message": (6, read_only),  # Session.message has to know whether it counts
}
