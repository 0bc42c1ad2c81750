"""The test of the power loss test: each sync in the code, counted as not done, must make a promise break. A sync that
nobody misses is either not needed, and stands below with the reason, or the model is too kind."""

from __future__ import annotations

import random
from typing import Callable, Iterable

import pytest
from harness.system import Programs

from after_cut import AfterCut, Life, disks, images, record_life
from scenario import Scenario
from test_power_loss import FIRST

# Alone not missed, because another sync on the same way does the same; GROUPS takes those away together.
REDUNDANT = {
    "fsync data [state.new>state]": "nothing is promised before dead is there, whose sync of data covers it",
    "fsync data/trash [+SEG]": "a segment that is in neither folder is a segment that was to be removed",
    "fsync data/log/SEG [MANIFEST.tmp>MANIFEST]": "without its MANIFEST a segment is verified and sealed again",
}
for folder in ("data/log/.new", "data/state.new", "data/dead.new"):
    REDUNDANT[f"fdatasync {folder}/data.mdb"] = "LMDB's; our fsync of the new file covers it"
    REDUNDANT[f"O_DSYNC write {folder}/data.mdb"] = "LMDB's; our fsync of the new file covers it"
    REDUNDANT[f"fsync {folder}/data.mdb (opened)"] = "LMDB's own syncs have covered the new file"
GROUPS = [
    tuple(f"{kind} {folder}/data.mdb{end}" for kind, end in kinds)
    for folder in ("data/log/.new", "data/state.new", "data/dead.new")
    for kinds in (
        (("fdatasync", ""), ("fsync", " (opened)")),
        (("O_DSYNC write", ""), ("fsync", " (opened)")),
    )
] + [("fsync data [state.new>state]", "fsync data [dead.new>dead]")]


@pytest.fixture
def life(make_scenario: Callable[..., Scenario], plain_programs: Programs) -> Life:
    return record_life(make_scenario(), plain_programs, FIRST)


def is_repeated(label: str) -> bool:
    """Of a restart, where nothing waits to be synced unless the former process was killed before it."""
    return label.endswith("[]") or label.endswith(".lock]")


def candidates(life: Life, ignored: Iterable[str], honest: list[object], count: int) -> list[int]:
    """Points at which these syncs make a difference: where something was promised, and spread over the life."""
    found = [number for number, image in enumerate(images(life, ignored)) if image != honest[number]]
    promised = [number for number in found if is_promise(life, number)]
    return sorted({*found[:2], *spread(promised, count), *spread(found, count), *found[-1:]})


def is_promise(life: Life, number: int) -> bool:
    point, before = life.points[number], life.points[max(0, number - 1)]
    return point.acked > before.acked or point.slot_wanted > before.slot_wanted


def spread(numbers: list[int], count: int) -> list[int]:
    return numbers[:: max(1, len(numbers) // count)][:count]


def is_missed(life: Life, after: AfterCut, ignored: Iterable[str], chosen: list[int], seeds: Iterable[int]) -> bool:
    """By the strict model, or else by the adversarial one with some seed."""
    if any(after.problem(point, disk) for point, disk in disks(life, set(chosen), ignored)):
        return True
    return any(
        after.problem(point, disk, random.Random(seed))
        for seed in seeds
        for point, disk in disks(life, set(chosen), ignored)
    )


@pytest.mark.sampled
def test_each_sync_that_is_taken_away_is_missed(
    life: Life, make_after: Callable[[Life], AfterCut], soak: bool
) -> None:
    after = make_after(life)
    honest = images(life)
    labels = sorted({point.label for point in life.points[1:] if not is_repeated(point.label)})
    wrong = []
    for ignored in [*((label,) for label in labels), *GROUPS]:
        is_redundant = ignored[0] in REDUNDANT and ignored not in GROUPS
        chosen = candidates(life, ignored, honest, 30 if soak else 3 if is_redundant else 8)
        tries = range(8) if soak or not is_redundant else range(0)
        missed = is_missed(life, after, ignored, chosen, tries)
        print(f"{'missed' if missed else 'not missed':10} at one of {len(chosen):2} points: {' and '.join(ignored)}")
        if missed == is_redundant:
            wrong.append(f"{' and '.join(ignored)} is {'' if missed else 'not '}missed")
    unknown = [label for label in REDUNDANT if label not in labels]
    assert not wrong and not unknown, f"{wrong}, no longer in the code: {unknown}"
