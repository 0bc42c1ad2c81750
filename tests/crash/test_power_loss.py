"""The power fails: after every sync of a recorded life the disk is rebuilt from synced bytes alone (and, adversarially,
with any part of the others), and nothing that was promised may be missing."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Callable

import pytest
from harness.fixtures import SOAK
from harness.postgres import Postgres
from harness.system import Programs, lsn

from after_cut import AfterCut, Life, disks, preload, record_life
from power_model import Disk, read_records
from scenario import OUT, PowerCut, Scenario, kill_env, sampled

Kill = tuple[str, int, str]  # a call, its number, and whether the process dies before or after it
# The first life's. The sink dies before its sync: its lines are in the page cache, whole, and not on the disk.
FIRST: dict[str, Kill] = {
    "sink": ("fsync out/changes.ndjson", 4, "before"),
    "broker": ("write data/log/SEG/data.mdb", 20, "before"),
}
# In the second the broker dies between the rename of a new segment and its sync, and goes on with it afterwards; the
# sink between the creation of its file and the sync of its folder.
FIXED = [
    FIRST,
    {"sink": ("open out/changes.ndjson", 1, "after"), "broker": ("rename data/log/.new", 2, "after")},
]
BROKER: list[tuple[str, int]] = [  # label, up to which number
    ("mkdir data", 1),
    ("fsync .", 1),
    ("mkdir data/log", 1),
    ("fsync data", 2),
    ("write data/log/.new/data.mdb", 12),
    ("fsync data/log/.new", 3),
    ("rename data/log/.new", 3),
    ("fsync data/log", 4),
    ("write data/state.new/data.mdb", 4),
    ("rename data/state.new", 1),
    ("write data/state/data.mdb", 50),
    ("fdatasync data/state/data.mdb", 15),
    ("write data/log/SEG/data.mdb", 50),
    ("fdatasync data/log/SEG/data.mdb", 15),
    ("write data/log/SEG/MANIFEST.tmp", 2),
    ("fsync data/log/SEG/MANIFEST.tmp", 2),
    ("rename data/log/SEG/MANIFEST.tmp", 2),
    ("rename data/log/SEG", 1),
    ("fsync data/trash", 1),
    ("unlink data/trash/SEG/data.mdb", 1),
]
SINK: list[tuple[str, int]] = [
    ("open out/changes.ndjson", 1),
    ("fsync out", 1),
    ("write out/changes.ndjson", 8),
    ("fsync out/changes.ndjson", 8),
]


def any_kill(labels: list[tuple[str, int]], rng: random.Random) -> Kill:
    label, most = rng.choice(labels)
    return label, rng.randint(1, most), rng.choice(("before", "after"))


@pytest.fixture(params=range(8 if SOAK else len(FIXED)))
def life(
    request: pytest.FixtureRequest,
    make_scenario: Callable[..., Scenario],
    plain_programs: Programs,
    rng: random.Random,
) -> Life:
    is_fixed = request.param < len(FIXED)
    kills = FIXED[request.param] if is_fixed else {"sink": any_kill(SINK, rng), "broker": any_kill(BROKER, rng)}
    return record_life(make_scenario(), plain_programs, kills, must_die=is_fixed)


def chosen_points(life: Life, count: int, rng: random.Random, soak: bool) -> set[int]:
    every = list(range(len(life.points)))
    return set(every if soak else sampled(every, rng, count, lambda number: life.points[number].label))


@pytest.mark.sampled
def test_only_what_was_synced_is_left(
    life: Life, make_after: Callable[[Life], AfterCut], rng: random.Random, soak: bool
) -> None:
    after = make_after(life)
    chosen = chosen_points(life, 32, rng, soak)
    for number, (point, disk) in zip(sorted(chosen), disks(life, chosen)):
        problem = after.problem(point, disk)
        assert not problem, f"power cut {number} of {len(life.points)}, after {point.label}: {problem}"


@pytest.mark.sampled
def test_any_part_of_what_was_not_synced_may_be_left_too(
    life: Life, make_after: Callable[[Life], AfterCut], rng: random.Random, soak: bool
) -> None:
    after = make_after(life)
    chosen = chosen_points(life, 26, rng, soak)
    for number, (point, disk) in zip(sorted(chosen), disks(life, chosen)):
        for turn in range(4 if soak else 1):
            seed = rng.randrange(10**9)
            problem = after.problem(point, disk, random.Random(seed))
            assert not problem, f"power cut {number}, after {point.label}, turn {turn}, seed {seed}: {problem}"


# --- with PostgreSQL, which keeps its own disk


def live_until_cut(scenario: Scenario, programs: Programs, kill: Kill) -> Disk:
    """Both machines stop at once: oneslot's when the broker reaches that call, PostgreSQL at the same time."""
    log: Path = scenario.one.folder / "power.log"
    log.unlink(missing_ok=True)
    scenario.always = preload(programs, scenario.disk, log)
    scenario.shims = {"broker": kill_env(programs, *kill)}
    scenario.ends_with_death = True
    scenario.reset()
    try:
        scenario.play()
    except PowerCut:
        pass
    scenario.one.kill_all()
    scenario.pg.stop("immediate")
    disk = Disk(folders=[OUT])
    for record in read_records(log, scenario.disk):
        disk.apply(record)
    return disk


@pytest.mark.sampled
@pytest.mark.parametrize("turn", range(40 if SOAK else 3))
def test_goes_on_with_postgresql_after_the_cut(
    turn: int,
    make_pg: Callable[..., Postgres],
    make_scenario: Callable[..., Scenario],
    plain_programs: Programs,
    rng: random.Random,
) -> None:
    pg = make_pg()
    kill = any_kill([label for label in BROKER if label[1] > 3], rng)
    disk = live_until_cut(make_scenario(pg), plain_programs, kill)
    for seed in (None, rng.randrange(10**9)):
        other = pg.clone()
        other.start()
        try:
            go_on(make_scenario(other, makes_table=False), disk, seed)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"cut at {kill}, seed {seed}: {error}") from error
        finally:
            other.close()
            shutil.rmtree(other.folder)


def go_on(scenario: Scenario, disk: Disk, seed: int | None) -> None:
    scenario.fill(disk, random.Random(seed) if seed is not None else None)
    confirmed = scenario.pg.slot().get("confirmed_flush_lsn")
    scenario.start()
    scenario.small(9000)
    scenario.caught_up()
    changes = scenario.check()
    assert confirmed is None or lsn(confirmed) <= lsn(changes[-1]["lsn"])
    problems = scenario.one.close()
    assert not problems, problems
