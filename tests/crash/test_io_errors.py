"""A disk that fails one write or one sync, or is full for one write (P9): the process ends without acknowledging, or
does the work again where that is safe; a restart recovers. Then the power fails as well: what the failed sync was to
make durable is gone, though the page cache had it."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Callable

import pytest
from harness.system import Programs

from after_cut import AfterCut, Life, disks, life_of, preload
from power_model import FAILED
from scenario import FILE, Scenario, combined, sampled

# role, label, up to which number, and the errors: a sync cannot fail for want of space here.
CALLS: list[tuple[str, str, int, tuple[str, ...]]] = [
    ("broker", "fsync .", 1, ("EIO",)),
    ("broker", "fsync data", 2, ("EIO",)),
    ("broker", "write data/log/.new/data.mdb", 12, ("EIO", "ENOSPC")),
    ("broker", "fdatasync data/log/.new/data.mdb", 5, ("EIO",)),
    ("broker", "fsync data/log/.new/data.mdb", 3, ("EIO",)),
    ("broker", "fsync data/log/.new", 3, ("EIO",)),
    ("broker", "rename data/log/.new", 3, ("EIO", "ENOSPC")),
    ("broker", "fsync data/log", 4, ("EIO",)),
    ("broker", "write data/log/SEG/data.mdb", 50, ("EIO", "ENOSPC")),
    ("broker", "fdatasync data/log/SEG/data.mdb", 14, ("EIO",)),
    ("broker", "write data/state.new/data.mdb", 4, ("EIO", "ENOSPC")),
    ("broker", "write data/state/data.mdb", 40, ("EIO", "ENOSPC")),
    ("broker", "fdatasync data/state/data.mdb", 14, ("EIO",)),
    ("broker", "write data/log/SEG/MANIFEST.tmp", 2, ("EIO", "ENOSPC")),
    ("broker", "fsync data/log/SEG/MANIFEST.tmp", 2, ("EIO",)),
    ("broker", "fsync data/trash", 1, ("EIO",)),
    ("sink", "write out/changes.ndjson", 9, ("EIO", "ENOSPC")),
    ("sink", "fsync out/changes.ndjson", 9, ("EIO",)),
    ("sink", "fsync out", 1, ("EIO",)),
]
Failure = tuple[str, str, int, str]
PARTS = 5  # that can run beside each other
# What ends the broker whatever else it might do about it: a commit or a sync that failed.
ENDS = ("fdatasync data", "fsync data", "fsync .", "write data/log/SEG/data.mdb", "write data/state/data.mdb")


def every_failure(rng: random.Random, soak: bool) -> list[Failure]:
    every = [
        (role, label, number, error)
        for role, label, most, errors in CALLS
        for number in range(1, most + 1)
        for error in errors
    ]
    return every if soak else sampled(every, rng, 20, lambda failure: (failure[1], failure[3]))


def fail_env(programs: Programs, scenario: Scenario, failure: Failure) -> dict[str, str]:
    _, label, number, error = failure
    return {
        **programs.preload("eio_shim"),
        "ONESLOT_FAIL_LABEL": label,
        "ONESLOT_FAIL_AT": str(number),
        "ONESLOT_FAIL_ERRNO": error,
        "ONESLOT_FAIL_TRACE": str(scenario.one.folder / "failed"),
    }


def has_failed(scenario: Scenario) -> bool:
    trace = scenario.one.folder / "failed"
    was_there = trace.exists()
    trace.unlink(missing_ok=True)
    return was_there


def check_end(scenario: Scenario, failure: Failure) -> None:
    role, label, _, error = failure
    if role == "broker" and error == "EIO" and label.startswith(ENDS):
        assert "broker" in scenario.died, "P9: the broker goes on after a failed sync or commit"
    if role == "sink":
        assert "broker" not in scenario.died, "the broker has ended for a sink's failure"
        assert "sink" in scenario.died or not label.startswith("fsync"), "P9: the sink goes on after a failed sync"


def check_not_ahead(scenario: Scenario, role: str) -> None:
    """P4 at the sink's end, which has cut off what it could not sync: it has not committed that."""
    path = scenario.one.folder / FILE
    if role != "sink" or not path.exists():
        return
    wanted = scenario.one.sink().get("next") or 0
    lines = {change["offset"] for change in scenario.one.file_changes(allow_torn=True)}
    ahead = [c["offset"] for c in scenario.one.changes() if c["offset"] < wanted and c["offset"] not in lines]
    assert not ahead, f"P4: the sink has committed {wanted} and ended without {ahead} in its file"


def live_with_failure(scenario: Scenario, programs: Programs, failure: Failure) -> bool:
    """Whether it came to that."""
    scenario.shims = {failure[0]: fail_env(programs, scenario, failure)}
    scenario.reset()
    try:
        scenario.play()
        scenario.check()
        if not has_failed(scenario):
            return False
        check_end(scenario, failure)
    except (AssertionError, TimeoutError) as error:
        raise AssertionError(f"{failure}: {error}") from error
    return True


@pytest.mark.sampled
def test_a_failed_write_or_sync_loses_nothing(
    make_scenario: Callable[..., Scenario], plain_programs: Programs, rng: random.Random, soak: bool
) -> None:
    scenario = make_scenario()
    scenario.always = {"ONESLOT_SHIM_ROOT": str(scenario.disk)}
    scenario.expected_exits = {1}
    scenario.on_death = functools.partial(check_not_ahead, scenario)
    missed = [
        failure
        for failure in every_failure(rng, soak)
        if not scenario.reaches(functools.partial(live_with_failure, scenario, plain_programs, failure))
    ]
    scenario.reset()
    assert not missed, f"did not happen: {missed}"


def record_failure(scenario: Scenario, programs: Programs, failure: Failure, log: Path) -> bool:
    """Whether it came to that. The failing call lies below the recorder, which so sees it fail."""
    log.unlink(missing_ok=True)
    recorder = preload(programs, scenario.disk, log)
    scenario.shims = {role: recorder for role in ("broker", "replicator", "sink")}
    scenario.after_death = recorder
    scenario.shims[failure[0]] = combined(recorder, fail_env(programs, scenario, failure))
    scenario.reset()
    scenario.play()
    return has_failed(scenario)


def life_with_failure(scenario: Scenario, programs: Programs, failure: Failure) -> Life:
    log = scenario.one.folder / "power.log"
    record = functools.partial(record_failure, scenario, programs, failure, log)
    assert scenario.reaches(record), f"did not happen: {failure}"
    changes = scenario.check()
    scenario.one.stop()
    return life_of(log, scenario.disk, changes, (scenario.one.folder / FILE).read_bytes())


def cuts(life: Life, rng: random.Random) -> set[int]:
    """The points right behind the failure, where what it lost is missing, some others and the last. (All points of a
    life without a failure are test_power_loss's.)"""
    every = range(len(life.points))
    failed = next((number for number, record in enumerate(life.records) if record.flags & FAILED), len(life.records))
    behind = [number for number in every if life.points[number].at >= failed]
    return set(behind[:5]) | set(rng.sample(every, 4)) | {every[-1]}


@pytest.mark.sampled
@pytest.mark.parametrize("part", range(PARTS))
def test_a_power_cut_after_a_failed_sync_loses_nothing(
    make_scenario: Callable[..., Scenario],
    make_after: Callable[[Life], AfterCut],
    plain_programs: Programs,
    rng: random.Random,
    soak: bool,
    part: int,
) -> None:
    scenario = make_scenario()
    scenario.expected_exits = {1}
    every = [f for f in every_failure(rng, True) if f[3] == "EIO" and f[1].startswith(("fdata", "fsync", "write"))]
    failures = every[part::PARTS]
    for failure in failures if soak else rng.sample(failures, 1):
        life = life_with_failure(scenario, plain_programs, failure)
        after = make_after(life)
        for point, disk in disks(life, cuts(life, rng)):
            problem = after.problem(point, disk)
            assert not problem, f"{failure}, then a power cut after {point.label}: {problem}"
        after.one.kill_all()
