"""A short life of an installation, the same each time: first start with slot and publication, small transactions, one
of several appends, segments that are rolled, sealed and removed, sink commits, restarts of whoever has died. Made to
be run hundreds of times against one PostgreSQL, in a second or two each."""

from __future__ import annotations

import random
import shutil
import signal
import struct
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, TypeVar

from harness.fold import Change, check_log, fold
from harness.httpclient import Http
from harness.oneslot import Oneslot, Process
from harness.postgres import Postgres
from harness.rows import assert_tables_equal
from harness.system import ACCOUNT, Programs, WorkFolder, lsn, wait_until

from power_model import Disk

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


class PowerCut(Exception):
    """The process that was to die has died, and with it the life ends."""


class Scenario:
    def __init__(self, pg: Postgres, programs: Programs, work: WorkFolder, makes_table: bool = True) -> None:
        self.pg = pg
        self.one = Oneslot(programs, work, pg, tables=[TABLE], config=CONFIG)
        self.disk = self.one.folder / "disk"
        self.one.data = self.disk / "data"
        self.shims: dict[str, Mapping[str, str]] = {}  # for the first start of a role
        self.after_death: Mapping[str, str] = {}  # instead of it for one that is started again
        self.always: dict[str, str] = {}  # for every process
        self.running: dict[str, Process] = {}
        self.died: list[str] = []  # roles that were started again
        self.expected_exits = {-signal.SIGKILL}
        self.on_death: Callable[[str], None] = lambda role: None  # before it is started again
        self.ends_with_death = False
        self.is_patient = False  # waits after each transaction: one batch each
        if makes_table:
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
        self.fill(Disk(folders=[OUT]))
        self._drop_slot()
        self.pg.sql("TRUNCATE t; DROP PUBLICATION IF EXISTS oneslot", user="postgres")

    def fill(self, disk: Disk, rng: random.Random | None = None) -> None:
        """What a power cut leaves of that disk; with rng by the adversarial model."""
        shutil.rmtree(self.disk, ignore_errors=True)
        self.disk.mkdir()
        disk.write_out(self.disk, rng)
        ACCOUNT.own_tree(self.disk)

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
        shim = self.shims.get(role, {}) if role not in self.died else self.after_death
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
            if self.ends_with_death:
                raise PowerCut(role)
            assert role not in self.died, f"{role} died again\n{process.text()[-4000:]}"
            self.on_death(role)
            self.died.append(role)
            if role == "broker" and "replicator" in self.running:
                self._restart_broker()
                return  # others are looked at by the next call
            self._start(role)

    def _restart_broker(self) -> None:
        """Without a replicator, which would move on at once: what the slot was told, the log must prove (P3)."""
        self.running.pop("replicator").end(signal.SIGKILL)
        confirmed = self.pg.slot().get("confirmed_flush_lsn")
        self._start("broker")
        wait_until(lambda: self.one.unix.get("/healthz").status == 200, 20, "the broker answers again")
        durable = self.one.lag()["source"]["durable_lsn"]
        assert confirmed is None or (durable and lsn(confirmed) <= lsn(durable)) or self._is_slot_unknown(), (
            f"P3: the slot stands at {confirmed}, the log proves {durable}"
        )
        self._start("replicator")

    def _is_slot_unknown(self) -> bool:
        """The slot was made, and whoever made it had no chance to say so: then it is adopted."""
        return source_of(self.one)["slot_state"] == 1

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
        for statement in (
            f"INSERT INTO t SELECT i, 'v' || i FROM generate_series({first}, {first + 4}) i",
            f"UPDATE t SET v = v || '!' WHERE id = {first}",
            f"DELETE FROM t WHERE id = {first + 1}",
        ):
            self.pg.sql(statement)
            if self.is_patient:
                self.caught_up()

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

    def reaches(self, live: Callable[[], bool]) -> bool:
        """Whether a life came to its point. How transactions group into appends and commits differs from one to the next,
        so the last calls may not come: then once more, patiently, which makes at least as many."""
        for is_patient in (False, True):
            self.is_patient = is_patient
            if live():
                return True
        return False

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


def source_of(one: Oneslot) -> dict[str, Any]:
    """GET /internal/source: what the log knows of its source and can prove."""
    answer = Http(unix=str(one.data / "append.sock")).get("/internal/source")
    assert answer.status == 200, answer
    value, end = _unpack(answer.body, 0)
    assert end == len(answer.body)
    return value


def _unpack(b: bytes, at: int) -> tuple[Any, int]:
    tag = b[at]
    if tag < 0x80:
        return tag, at + 1
    if tag < 0x90:
        result = {}
        at += 1
        for _ in range(tag & 15):
            key, at = _unpack(b, at)
            result[key], at = _unpack(b, at)
        return result, at
    if tag < 0xC0:
        n, at = tag & 31, at + 1
        return b[at : at + n].decode(), at + n
    if tag in (0xC2, 0xC3):
        return tag == 0xC3, at + 1
    if tag in (0xC4, 0xD9):
        n, at = b[at + 1], at + 2
        return b[at : at + n] if tag == 0xC4 else b[at : at + n].decode(), at + n
    shape = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}[tag]
    return struct.unpack_from(shape, b, at + 1)[0], at + 1 + struct.calcsize(shape)


def kill_env(programs: Programs, label: str, number: int, when: str = "before") -> dict[str, str]:
    """Death at the number-th call of that label; the folder that counts has to come from elsewhere."""
    return {
        **programs.preload("kill_shim"),
        "ONESLOT_KILL_LABEL": label,
        "ONESLOT_KILL_AT": str(number),
        "ONESLOT_KILL_WHEN": when,
    }


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
