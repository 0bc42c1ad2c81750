"""Fixtures of the crash tests: what they start is ended whatever happens."""

from __future__ import annotations

from typing import Any, Callable, Iterator

import pytest
from harness.oneslot import Oneslot
from harness.postgres import Postgres
from harness.system import Programs, WorkFolder

from after_cut import AfterCut, Life
from scenario import Scenario


@pytest.fixture
def started() -> Iterator[list[Oneslot]]:
    made: list[Oneslot] = []
    yield made
    for one in made:
        one.kill_all()


@pytest.fixture
def make_scenario(
    started: list[Oneslot], make_pg: Callable[..., Postgres], plain_programs: Programs, work: WorkFolder
) -> Callable[..., Scenario]:
    """make_scenario(pg=..., makes_table=...): with a PostgreSQL of its own unless one is given."""

    def make(pg: Postgres | None = None, **options: Any) -> Scenario:
        scenario = Scenario(pg or make_pg(), plain_programs, work, **options)
        started.append(scenario.one)
        return scenario

    return make


@pytest.fixture
def make_after(started: list[Oneslot], plain_programs: Programs, work: WorkFolder) -> Callable[[Life], AfterCut]:
    def make(life: Life) -> AfterCut:
        after = AfterCut(life, plain_programs, work)
        started.append(after.one)
        return after

    return make
