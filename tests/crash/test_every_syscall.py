"""SIGKILL right before and right after each single call that changes a file, in each of the three processes; then a
restart, which is the recovery: nothing lost, nothing twice, the slot never ahead of the log."""

from __future__ import annotations

import functools
import random
from typing import Callable

import pytest
from harness.system import Programs

from scenario import Scenario, kill_env, labels_of, sampled

Point = tuple[str, int, str]  # label, its number, before or after
SAMPLE = {"broker": 20, "sink": 8, "replicator": 4}


def every_point(programs: Programs, scenario: Scenario, role: str) -> list[Point]:
    """Lives without a kill tell which calls there are: those that each of them has made."""
    trace = scenario.one.folder / f"trace-{role}"
    scenario.shims = {role: {**programs.preload("kill_shim"), "ONESLOT_KILL_TRACE": str(trace)}}
    calls: list[list[tuple[str, int]]] = []
    for _ in range(2):
        scenario.reset()
        trace.unlink(missing_ok=True)
        scenario.play()
        scenario.check()
        calls.append(list(labels_of(trace)))
    return [(*call, when) for call in calls[0] if call in calls[1] for when in ("before", "after")]


def live_with_kill(scenario: Scenario, programs: Programs, role: str, point: Point) -> bool:
    """Whether it came to that."""
    label, number, when = point
    scenario.shims = {role: kill_env(programs, label, number, when)}
    scenario.reset()
    try:
        scenario.play()
        scenario.check()
    except (AssertionError, TimeoutError) as error:
        raise AssertionError(f"{role} killed {when} call {number} of {label!r}: {error}") from error
    return role in scenario.died


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
    missed = [
        point
        for point in chosen
        if not scenario.reaches(functools.partial(live_with_kill, scenario, plain_programs, role, point))
    ]
    scenario.reset()
    print(f"{role}: killed at {len(chosen) - len(missed)} of {len(points)} points")
    assert not missed, f"not reached: {missed}"
