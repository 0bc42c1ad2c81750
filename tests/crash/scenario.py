"""A short life of an installation, the same each time: first start with slot and publication, small transactions, one
of several appends, segments that are rolled, sealed and removed, sink commits, restarts of whoever has died. Made to
be run hundreds of times against one PostgreSQL, in a second or two each."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, TypeVar

from harness.fold import Change, check_log, fold
from harness.oneslot import Oneslot, Process
from harness.postgres import Postgres
from harness.rows import assert_tables_equal
from harness.system import ACCOUNT, Programs, WorkFolder, lsn, wait_until

T = TypeVar("T")
ROLES = ("broker", "replicator", "sink")
TABLE = "public.t"
OUT = "out"  # a folder of the disk that is there before the first start
FILE = f"./disk/{OUT}/changes.ndjson"
CONFIG: dict[str, Any] = {
    "data_dir": "./disk/data",
    "log": {"segment_bytes": "1MiB", "retain_bytes": "2MiB"},
    "sinks": {"file": {"kind": "file", "path": FILE}},
}
# 90 values of 14 KiB: larger than an append (1 MiB), and a segment full.
_BIG = "INSERT INTO t SELECT i, repeat(md5(i::text), 448) FROM generate_series(%d, %d) i"


class Scenario:
    def __init__(self, pg: Postgres, programs: Programs, work: WorkFolder) -> None:
        self.pg = pg
        self.one = Oneslot(programs, work, pg, tables=[TABLE], config=CONFIG)
        self.disk = self.one.folder / "disk"
        self.one.data = self.disk / "data"
        self.shims: dict[str, Mapping[str, str]] = {}  # for the first start of a role
        self.always: dict[str, str] = {}  # for every process
        self.running: dict[str, Process] = {}
        self.died: list[str] = []  # roles that were started again
        self.expected_exits = {-signal.SIGKILL}
        pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")

    # --- one life

    def reset(self) -> None:
        """As on the first day: no folder, no slot, no publication, empty tables."""
        problems = self.one.close()
        assert not problems, "\n".join(problems)
        for path in self.one.log_files():
            path.unlink()
        self.one.processes.clear()
        self.running.clear()
        self.died.clear()
        shutil.rmtree(self.disk, ignore_errors=True)
        (self.disk / OUT).mkdir(parents=True)
        ACCOUNT.own_tree(self.disk)
        self._drop_slot()
        self.pg.sql("TRUNCATE t; DROP PUBLICATION IF EXISTS oneslot", user="postgres")

    def _drop_slot(self) -> None:
        statement = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active"

        def is_gone() -> bool:
            self.pg.sql(statement, user="postgres")
            return not self.pg.slot()

        wait_until(is_gone, 10, "the slot is dropped")

    def start(self) -> None:
        for role in ROLES:
            self._start(role)
            if role == "broker":
                self.wait(lambda: self.one.http.get("/healthz").status == 200, "the broker answers")
        self.wait(lambda: self.one.lag()["source"]["state"] == "streaming", "the source is streaming")

    def _start(self, role: str) -> None:
        starters: dict[str, Callable[..., Process]] = {
            "broker": self.one.start_broker,
            "replicator": self.one.start_replicator,
            "sink": self.one.start_sink,
        }
        shim = self.shims.get(role, {}) if role not in self.died else {}
        self.running[role] = starters[role](env=combined(shim, self.always))

    def revive(self) -> None:
        """Starts again, without its shim, whoever was killed; an end of another kind fails."""
        for role, process in list(self.running.items()):
            if process.is_running():
                continue
            status = process.wait(1)
            assert role in self.shims and status in self.expected_exits, (
                f"{role} ended with {status}\n{process.text()[-4000:]}"
            )
            assert role not in self.died, f"{role} died again\n{process.text()[-4000:]}"
            self.died.append(role)
            self._start(role)

    def wait(self, predicate: Callable[[], T], what: str, timeout: float = 30) -> T:
        def with_revival() -> T:
            self.revive()
            return predicate()

        return self.one.wait(with_revival, timeout, what)

    def caught_up(self) -> None:
        wanted = self.pg.flush_lsn()

        def is_level() -> bool:
            lag = self.one.lag()
            durable = lag["source"]["durable_lsn"]
            sinks = lag["sinks"]
            return bool(
                durable and lsn(durable) >= wanted and sinks and all(s["records_behind"] == 0 for s in sinks)
            )

        self.wait(is_level, "log and sink have caught up")

    def small(self, first: int) -> None:
        with self.pg.connect() as connection:
            connection.execute(f"INSERT INTO t SELECT i, 'v' || i FROM generate_series({first}, {first + 4}) i")
            connection.execute(f"UPDATE t SET v = v || '!' WHERE id = {first}")
            connection.execute(f"DELETE FROM t WHERE id = {first + 1}")

    def big(self, first: int) -> None:
        self.pg.sql(_BIG % (first, first + 89))

    def play(self) -> None:
        """From the first start to the removal of a segment."""
        self.start()
        for number in range(3):
            self.small(1000 * number)
            self.caught_up()
            self.big(1000 * number + 100)
            self.caught_up()
        self.small(3000)
        base = self.segments()[0]
        self.caught_up()
        self.wait(lambda: self.segments()[0] != base or len(self.segments()) == 2, "a segment is removed")
        self.small(4000)
        self.caught_up()

    def segments(self) -> list[str]:
        return sorted(path.name for path in (self.one.data / "log").glob("[0-9]*"))

    # --- what must be true of it

    def check(self) -> list[Change]:
        """Everything is there, once: in the file from the beginning on, in the log from what it retains on."""
        confirmed = self.pg.slot()["confirmed_flush_lsn"]
        durable = self.one.lag()["source"]["durable_lsn"]
        assert lsn(confirmed) <= lsn(durable), f"P3: slot at {confirmed}, log proves {durable}"
        changes = self.one.changes()
        lines = self.one.file_changes()
        check_log(changes)
        check_log(lines)
        assert_tables_equal(self.pg, fold(lines), [TABLE], "the fold of the file")
        assert changes and lines, "nothing was logged"
        retained = [line for line in lines if line["offset"] >= changes[0]["offset"]]
        assert retained == changes, "log and file differ"
        return lines


def combined(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Two environments of shims; both libraries are loaded, the first one's calls go on to the second."""
    result = {**first, **second}
    libraries = [env["LD_PRELOAD"] for env in (first, second) if "LD_PRELOAD" in env]
    if libraries:
        result["LD_PRELOAD"] = ":".join(libraries)
    return result


def sampled(points: list[T], rng: Any, count: int, kind: Callable[[T], Any]) -> list[T]:
    """`count` of the points: first one of each kind, then any."""
    shuffled = points[:]
    rng.shuffle(shuffled)
    first: dict[Any, T] = {}
    for point in shuffled:
        first.setdefault(kind(point), point)
    chosen = list(first.values())[:count]
    rest = [point for point in shuffled if point not in chosen]
    return chosen + rest[: max(0, count - len(chosen))]


def labels_of(trace: Path) -> Iterator[tuple[str, int]]:
    """(label, its how-manieth call) of each call that kill_shim has written down."""
    seen: dict[str, int] = {}
    for label in trace.read_text(encoding="utf-8").splitlines():
        seen[label] = seen.get(label, 0) + 1
        yield label, seen[label]
