"""The power fails: after every sync of a recorded life the disk is rebuilt from synced bytes alone (and, adversarially,
with any part of the others), and nothing that was promised may be missing. Then the test of the test: each sync in
the code, taken away, must be missed."""

from __future__ import annotations

import random
from typing import Callable

import pytest
from harness.postgres import Postgres
from harness.system import Programs, WorkFolder

from after_cut import AfterCut, Life, disks, images, record_life
from scenario import Scenario, sampled

KILLS = {
    # Killed before the sync: its lines are in the page cache, whole, and not on the disk.
    "sink": ("fdatasync out/changes.ndjson", 4),
    "broker": ("write data/log/SEG/data.mdb", 20),
}


@pytest.fixture
def life(make_pg: Callable[..., Postgres], plain_programs: Programs, work: WorkFolder) -> Life:
    return record_life(Scenario(make_pg(), plain_programs, work), plain_programs, KILLS)


def chosen_points(life: Life, count: int, rng: random.Random, soak: bool) -> set[int]:
    every = list(range(len(life.points)))
    return set(every if soak else sampled(every, rng, count, lambda number: life.points[number].label))


@pytest.mark.sampled
def test_only_what_was_synced_is_left(
    life: Life, plain_programs: Programs, work: WorkFolder, rng: random.Random, soak: bool
) -> None:
    after = AfterCut(life, plain_programs, work)
    chosen = chosen_points(life, 40, rng, soak)
    for number, (point, disk) in zip(sorted(chosen), disks(life, chosen)):
        problem = after.problem(point, disk)
        assert not problem, f"power cut {number} of {len(life.points)}, after {point.label}: {problem}"
    print(f"{len(chosen)} of {len(life.points)} power cuts")


@pytest.mark.sampled
def test_any_part_of_what_was_not_synced_may_be_left_too(
    life: Life, plain_programs: Programs, work: WorkFolder, rng: random.Random, soak: bool
) -> None:
    after = AfterCut(life, plain_programs, work)
    chosen = chosen_points(life, 30, rng, soak)
    for number, (point, disk) in zip(sorted(chosen), disks(life, chosen)):
        for turn in range(4 if soak else 1):
            seed = rng.randrange(10**9)
            problem = after.problem(point, disk, random.Random(seed))
            assert not problem, f"power cut {number}, after {point.label}, turn {turn}, seed {seed}: {problem}"
