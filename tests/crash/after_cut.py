"""A life recorded by powerloss_shim, and what must hold for each disk that a power cut in it may leave: the broker
starts, the log proves and holds all that PostgreSQL was told is safe, and what it holds is what it held before; no sink's
offset is ahead of its target; the sink goes on from there and ends with the same file."""

from __future__ import annotations

import json
import random
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from harness.fold import Change
from harness.httpclient import Http
from harness.oneslot import Oneslot
from harness.postgres import Postgres
from harness.system import ACCOUNT, NOT_YET, Programs, WorkFolder, lsn, wait_until

from power_model import Disk, Point, Record, points, read_records
from scenario import CONFIG, FILE, OUT, TABLE, Scenario

SECONDS = 20


@dataclass
class Life:
    """A recorded one."""

    records: list[Record]
    points: list[Point]
    changes: list[Change]  # all that was ever logged, from the sink's file
    file: bytes


def preload(programs: Programs, disk: Path, log: Path) -> dict[str, str]:
    root = {"ONESLOT_SHIM_ROOT": str(disk), "ONESLOT_POWER_LOG": str(log)}
    return {**programs.preload("powerloss_shim"), **root}


def record_life(scenario: Scenario, programs: Programs, kills: Mapping[str, tuple[str, int]]) -> Life:
    """kills: role -> (label, number) of the call before which it is killed, once, and started again."""
    log = scenario.one.folder / "power.log"
    log.unlink(missing_ok=True)
    scenario.always = preload(programs, scenario.disk, log)
    scenario.shims = {
        role: {**programs.preload("kill_shim"), "ONESLOT_KILL_LABEL": label, "ONESLOT_KILL_AT": str(number)}
        for role, (label, number) in kills.items()
    }
    scenario.reset()
    scenario.play()
    changes = scenario.check()
    assert sorted(scenario.died) == sorted(kills), f"killed {scenario.died}, wanted {list(kills)}"
    scenario.one.stop()
    records = read_records(log, scenario.disk)
    return Life(records, points(records, [OUT]), changes, (scenario.one.folder / FILE).read_bytes())


# --- msgpack, as far as api_source goes


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


# --- after a cut


class AfterCut:
    """One installation without a PostgreSQL, whose disk is made anew for each cut."""

    def __init__(self, life: Life, programs: Programs, work: WorkFolder, pg: Postgres | None = None) -> None:
        self.life = life
        self.one = Oneslot(programs, work, pg, tables=[TABLE], config=CONFIG)
        self.disk = self.one.folder / "disk"
        self.one.data = self.disk / "data"

    def rebuild(self, disk: Disk, rng: random.Random | None = None) -> None:
        self.one.kill_all()
        self.one.processes.clear()
        for path in self.one.log_files():
            path.unlink()
        shutil.rmtree(self.disk, ignore_errors=True)
        self.disk.mkdir()
        disk.write_out(self.disk, rng, rng.choice((0.1, 0.5, 0.9)) if rng else 0)
        ACCOUNT.own_tree(self.disk)

    def check(self, point: Point) -> None:
        """AssertionError: a promise is broken."""
        lines = self._durable_lines()
        broker = self.one.start_broker()

        def serves() -> bool:
            assert broker.is_running(), f"the broker does not start:\n{broker.text()[-1500:]}"
            return self.one.http.get("/healthz").status == 200

        wait_until(serves, SECONDS, "the broker answers")
        # The keeper may just be removing what the cut has left it to remove: then the reader is cut off.
        changes = wait_until(lambda: [self.one.changes()], SECONDS, "the log is read to its end")[0]
        self._check_log(point, changes)
        self._check_sink(changes, lines)
        self._check_file(changes)
        self.one.kill_all()
        verified = self.one.cli("verify")
        assert verified.returncode == 0, f"verify: {verified.stdout}{verified.stderr}"

    def _durable_lines(self) -> set[int]:
        """The offsets of the file's lines that are whole after the cut."""
        path = self.one.folder / FILE
        found = set()
        for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
            try:
                found.add(json.loads(line)["offset"])
            except (ValueError, TypeError):
                continue
        return found

    def _check_log(self, point: Point, changes: list[Change]) -> None:
        source = source_of(self.one)
        proven = source["proven_lsn"]
        assert proven >= point.acked, f"P1: acknowledged up to {point.acked:X}, the log proves {proven:X}"
        assert not point.slot_wanted or source["slot_state"] >= 1, "P3: a slot was asked for without a record of it"
        first = changes[0]["offset"] if changes else 0
        last = changes[-1]["offset"] if changes else 0
        held = [change for change in self.life.changes if first <= change["offset"] <= last]
        assert held == changes, "P7: the log holds something else than before the cut"
        lost = [c for c in self.life.changes if c["offset"] > last and lsn(c["lsn"]) < max(point.acked, proven)]
        assert not lost, f"P2: {len(lost)} changes are lost from {lost[0]['lsn']} on"

    def _check_sink(self, changes: list[Change], lines: set[int]) -> None:
        """P4, P6: what its offset has passed is in the file, what it has not is in the log."""
        settled = self.one.sink().get("offset") or 0
        ahead = [c["offset"] for c in self.life.changes if c["offset"] <= settled and c["offset"] not in lines]
        assert not ahead, f"P4: the sink's offset {settled} has passed {len(ahead)} changes that are not in its file"
        first = changes[0]["offset"] if changes else 0
        gone = [c["offset"] for c in self.life.changes if settled < c["offset"] < first]
        assert not gone, f"P6: the log begins at {first}, the sink at {settled} still needs {len(gone)} before it"

    def _check_file(self, changes: list[Change]) -> None:
        """The sink goes on and ends with the bytes that the file had before."""
        sink = self.one.start_sink()

        def is_level() -> bool:
            assert sink.is_running(), f"the sink does not start:\n{sink.text()[-1500:]}"
            entry = self.one.sink()
            assert entry["state"] != "stopped", f"the sink has stopped: {entry['last_error']}"
            return entry["state"] == "running" and entry["records_behind"] == 0

        wait_until(is_level, SECONDS, "the sink is level with the log")
        content = (self.one.folder / FILE).read_bytes()
        wanted = b"\n".join(self.life.file.split(b"\n")[: self._count(changes)])
        assert content == wanted + (b"\n" if wanted else b""), "the file differs from the one before the cut"

    def _count(self, changes: list[Change]) -> int:
        last = changes[-1]["offset"] if changes else 0
        return sum(1 for change in self.life.changes if change["offset"] <= last)

    def problem(self, point: Point, disk: Disk, rng: random.Random | None = None) -> str:
        """What is wrong after a cut there; empty: nothing."""
        self.rebuild(disk, rng)
        try:
            self.check(point)
        except (AssertionError, *NOT_YET) as error:
            return f"{error or type(error).__name__}\n{self.one.log_tail()}"
        return ""


def disks(life: Life, wanted: set[int], ignored: str = "") -> Any:
    """(point, disk) for each wanted index of life.points, in order; the disk changes with the next one."""
    disk = Disk(ignored, [OUT])
    done = -1
    for number, point in enumerate(life.points):
        for record in life.records[done + 1 : point.at + 1]:
            disk.apply(record)
        done = max(done, point.at)
        if number in wanted:
            yield point, disk


def images(life: Life, ignored: str = "") -> list[Any]:
    return [disk.image() for _, disk in disks(life, set(range(len(life.points))), ignored)]
