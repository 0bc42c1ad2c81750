"""The test of the power loss test: each sync in the code, counted as not done, must make a promise break. A sync that
nobody misses is either not needed, and stands below with the reason, or the model is too kind."""

from __future__ import annotations

import random
from typing import Callable, Iterable

import pytest
from harness.system import Programs

from after_cut import AfterCut, Life, disks, images, record_life
from power_model import FOUND
from scenario import Scenario
from test_power_loss import FIRST, FIXED, Kill

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

# What a restart syncs because the process before may have died between an operation and its sync: the lives in which it
# has, each at the cost of a recording. In the first life these syncs find nothing to do.
RESTARTS: dict[str, dict[str, Kill]] = {
    f"fsync . [+data]{FOUND}": {"broker": ("mkdir data", 1, "after")},
    f"fsync data [dead.new>dead]{FOUND}": {"broker": ("rename data/dead.new", 1, "after")},
    f"fsync data/log [.new>SEG]{FOUND}": FIXED[1],
    f"fsync out [+changes.ndjson]{FOUND}": FIXED[1],
}


def labels_of(life: Life) -> set[str]:
    return {point.label for point in life.points[1:]}


def place(label: str) -> str:
    """Of a folder's sync, whatever it makes durable."""
    return label.partition(" [")[0]


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
    make_scenario: Callable[..., Scenario],
    make_after: Callable[[Life], AfterCut],
    plain_programs: Programs,
    rng: random.Random,
    soak: bool,
) -> None:
    """In tests/run a seeded third of them."""
    life = record_life(make_scenario(), plain_programs, FIRST)
    after = make_after(life)
    honest = images(life)
    labels = sorted(label for label in labels_of(life) if not label.endswith("[]"))
    of_restarts = labels_of(life) - set(labels)
    assert {place(label) for label in of_restarts} <= {place(label) for label in RESTARTS}, of_restarts
    wrong = []
    every = [*((label,) for label in labels), *GROUPS]
    for ignored in every if soak else rng.sample(every, len(every) // 3):
        is_redundant = ignored[0] in REDUNDANT and ignored not in GROUPS
        chosen = candidates(life, ignored, honest, 30 if soak else 3 if is_redundant else 8)
        tries = range(8) if soak or not is_redundant else range(0)
        missed = is_missed(life, after, ignored, chosen, tries)
        print(f"{'missed' if missed else 'not missed':10} at one of {len(chosen):2} points: {' and '.join(ignored)}")
        if missed == is_redundant:
            wrong.append(f"{' and '.join(ignored)} is {'' if missed else 'not '}missed")
    unknown = [label for label in REDUNDANT if label not in labels]
    assert not wrong and not unknown, f"{wrong}, no longer in the code: {unknown}"


@pytest.mark.soak
@pytest.mark.parametrize("label", list(RESTARTS))
def test_each_sync_of_a_restart_that_is_taken_away_is_missed(
    label: str, make_scenario: Callable[..., Scenario], make_after: Callable[[Life], AfterCut], plain_programs: Programs
) -> None:
    life = record_life(make_scenario(), plain_programs, RESTARTS[label])
    assert label in labels_of(life), f"no longer in the code: {sorted(labels_of(life))}"
    chosen = candidates(life, (label,), images(life), 30)
    assert chosen, "no power cut leaves anything else without it"
    assert is_missed(life, make_after(life), (label,), chosen, range(8)), f"not missed at {len(chosen)} points"
