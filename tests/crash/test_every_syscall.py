"""SIGKILL right before and right after each single call that changes a file, in each of the three processes; then a
restart, which is the recovery: nothing lost, nothing twice, the slot never ahead of the log."""

from __future__ import annotations

import random
from typing import Callable

import pytest
from harness.system import Programs

from scenario import Scenario, kill_env, labels_of, sampled

Point = tuple[str, int, str]  # label, its number, before or after
SAMPLE = {"broker": 26, "sink": 10, "replicator": 4}


def every_point(programs: Programs, scenario: Scenario, role: str) -> list[Point]:
    """A life without a kill tells which calls there are."""
    trace = scenario.one.folder / f"trace-{role}"
    scenario.shims = {role: {**programs.preload("kill_shim"), "ONESLOT_KILL_TRACE": str(trace)}}
    scenario.reset()
    scenario.play()
    scenario.check()
    return [(label, number, when) for label, number in labels_of(trace) for when in ("before", "after")]


@pytest.mark.sampled
@pytest.mark.parametrize("role", list(SAMPLE))
def test_killed_at_every_call_that_changes_a_file(
    role: str,
    make_scenario: Callable[..., Scenario],
    plain_programs: Programs,
    rng: random.Random,
    soak: bool,
) -> None:
    scenario = make_scenario()
    scenario.always = {"ONESLOT_SHIM_ROOT": str(scenario.disk)}
    points = every_point(plain_programs, scenario, role)
    assert len(points) >= 4, f"only {points}"
    chosen = points if soak else sampled(points, rng, SAMPLE[role], lambda point: (point[0], point[2]))
    missed = 0
    for label, number, when in chosen:
        scenario.shims = {role: kill_env(plain_programs, label, number, when)}
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
