"""A life recorded by powerloss_shim, and what must hold for each disk that a power cut in it may leave: the broker
starts, the log proves and holds all that PostgreSQL was told is safe, and what it holds is what it held before; no sink's
offset is ahead of its target; the sink goes on from there and ends with the same file."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

from harness.fold import Change
from harness.oneslot import Oneslot
from harness.postgres import Postgres
from harness.system import ACCOUNT, NOT_YET, Programs, WorkFolder, lsn, wait_until

from power_model import Disk, Point, Record, points, read_records
from scenario import CONFIG, FILE, OUT, TABLE, Scenario, kill_env, source_of

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


def record_life(
    scenario: Scenario, programs: Programs, kills: Mapping[str, tuple[str, int, str]], must_die: bool = True
) -> Life:
    """kills: role -> (label, number, before or after) of the call at which it is killed, once, and started again; not
    must_die: if there is such a call."""
    log = scenario.one.folder / "power.log"
    log.unlink(missing_ok=True)
    scenario.always = preload(programs, scenario.disk, log)
    scenario.shims = {role: kill_env(programs, *kill) for role, kill in kills.items()}
    scenario.is_patient = True
    scenario.reset()
    scenario.play()
    changes = scenario.check()
    assert not must_die or sorted(scenario.died) == sorted(kills), f"killed {scenario.died}, wanted {list(kills)}"
    scenario.one.stop()
    return life_of(log, scenario.disk, changes, (scenario.one.folder / FILE).read_bytes())


def life_of(log: Path, disk: Path, changes: list[Change], file: bytes) -> Life:
    records = read_records(log, disk)
    return Life(records, points(records, [OUT]), changes, file)


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
        disk.write_out(self.disk, rng)
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
        last = self._check_log(point, changes)
        if last:
            self._check_sink(lines)
        self._check_file(last)
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

    def _check_log(self, point: Point, changes: list[Change]) -> int:
        """The last offset of the log from before the cut; 0: it is not there, and one made after it has offsets of
        its own."""
        source = wait_until(lambda: source_of(self.one), SECONDS, "append.sock answers")
        proven = source["proven_lsn"]
        assert proven >= point.acked, f"P1: acknowledged up to {point.acked:X}, the log proves {proven:X}"
        assert not point.slot_wanted or source["slot_state"] >= 1, "P3: a slot was asked for without a record of it"
        if proven == 0:
            assert not changes, "P1: the log holds changes and proves none"
            return 0
        # Retention may have removed everything that the sink has settled, or the beginning since it was read.
        begin = changes[0]["offset"] if changes else self._begin()
        last = changes[-1]["offset"] if changes else begin - 1
        held = [change for change in self.life.changes if begin <= change["offset"] <= last]
        assert held == changes, "P7: the log holds something else than before the cut"
        lost = [c for c in self.life.changes if c["offset"] > last and lsn(c["lsn"]) < max(point.acked, proven)]
        assert not lost, f"P2: {len(lost)} changes are lost from {lost[0]['lsn']} on"
        return last

    def _begin(self) -> int:
        return int(self.one.lag()["log"]["earliest"]["offset"])

    def _check_sink(self, lines: set[int]) -> None:
        """P4, P6: what its offset has passed is in the file, what it has not is in the log."""
        wanted = self.one.sink().get("next")
        begin = self._begin()
        if wanted is None:  # not registered yet: nothing may have been removed
            missing = [c["offset"] for c in self.life.changes if c["offset"] < begin]
            assert not missing, f"P6: the log begins at {begin}, without a sink"
            return
        ahead = [c["offset"] for c in self.life.changes if c["offset"] < wanted and c["offset"] not in lines]
        assert not ahead, f"P4: the sink, now at {wanted}, has passed {len(ahead)} changes that are not in its file"
        gone = [c["offset"] for c in self.life.changes if wanted <= c["offset"] < begin]
        assert not gone, f"P6: the log begins at {begin}, the sink at {wanted} still needs {len(gone)} before it"

    def _check_file(self, last: int) -> None:
        """The sink goes on and ends with the bytes that the file had before."""
        sink = self.one.start_sink()

        def is_level() -> bool:
            assert sink.is_running(), f"the sink does not start:\n{sink.text()[-1500:]}"
            entry = self.one.sink()
            assert entry["state"] != "stopped", f"the sink has stopped: {entry['last_error']}"
            return entry["state"] == "running" and entry["records_behind"] == 0

        wait_until(is_level, SECONDS, "the sink is level with the log")
        content = (self.one.folder / FILE).read_bytes()
        count = sum(1 for change in self.life.changes if change["offset"] <= last)
        wanted = b"\n".join(self.life.file.split(b"\n")[:count])
        assert content == wanted + (b"\n" if wanted else b""), "the file differs from the one before the cut"

    def problem(self, point: Point, disk: Disk, rng: random.Random | None = None) -> str:
        """What is wrong after a cut there; empty: nothing."""
        self.rebuild(disk, rng)
        try:
            self.check(point)
        except (AssertionError, *NOT_YET) as error:
            return f"{error or type(error).__name__}\n{self.one.log_tail()}"
        return ""


def disks(life: Life, wanted: set[int], ignored: Iterable[str] = ()) -> Any:
    """(point, disk) for each wanted index of life.points, in order; the disk changes with the next one."""
    disk = Disk(ignored, [OUT])
    done = -1
    for number, point in enumerate(life.points):
        for record in life.records[done + 1 : point.at + 1]:
            disk.apply(record)
        done = max(done, point.at)
        if number in wanted:
            yield point, disk


def images(life: Life, ignored: Iterable[str] = ()) -> list[Any]:
    return [disk.image() for _, disk in disks(life, set(range(len(life.points))), ignored)]
