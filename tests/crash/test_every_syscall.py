"""SIGKILL right before and right after each single call that changes a file, in each of the three processes; then a
restart, which is the recovery: nothing lost, nothing twice, the slot never ahead of the log."""

from __future__ import annotations

import random
from typing import Callable, Mapping

import pytest
from harness.postgres import Postgres
from harness.system import Programs, WorkFolder

from scenario import Scenario, labels_of, sampled

Point = tuple[str, int, str]  # label, its number, before or after
SAMPLE = {"broker": 26, "sink": 10, "replicator": 4}


def shim(programs: Programs, scenario: Scenario, **settings: str) -> Mapping[str, str]:
    env = {f"ONESLOT_KILL_{name.upper()}": value for name, value in settings.items()}
    return {**programs.preload("kill_shim"), "ONESLOT_SHIM_ROOT": str(scenario.disk), **env}


def every_point(programs: Programs, scenario: Scenario, role: str) -> list[Point]:
    """A life without a kill tells which calls there are."""
    trace = scenario.one.folder / f"trace-{role}"
    scenario.shims = {role: shim(programs, scenario, trace=str(trace))}
    scenario.reset()
    scenario.play()
    scenario.check()
    return [(label, number, when) for label, number in labels_of(trace) for when in ("before", "after")]


@pytest.mark.sampled
@pytest.mark.parametrize("role", list(SAMPLE))
def test_killed_at_every_call_that_changes_a_file(
    role: str,
    make_pg: Callable[..., Postgres],
    plain_programs: Programs,
    work: WorkFolder,
    rng: random.Random,
    soak: bool,
) -> None:
    scenario = Scenario(make_pg(), plain_programs, work)
    points = every_point(plain_programs, scenario, role)
    assert len(points) >= 4, f"only {points}"
    chosen = points if soak else sampled(points, rng, SAMPLE[role], lambda point: (point[0], point[2]))
    missed = 0
    for label, number, when in chosen:
        scenario.shims = {role: shim(plain_programs, scenario, label=label, at=str(number), when=when)}
        scenario.reset()
        try:
            scenario.play()
            scenario.check()
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{role} killed {when} call {number} of {label!r}: {error}") from error
        missed += role not in scenario.died
    scenario.reset()
    print(f"{role}: killed at {len(chosen) - missed} of {len(points)} points")
    # How appends group into commits differs from run to run, so a last call may not come.
    assert missed <= len(chosen) / 5, f"{missed} of {len(chosen)} points were not reached"
