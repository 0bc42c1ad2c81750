"""Everything at once: a random mixed workload while the sink, the broker, the supervisor and Elasticsearch itself are
killed with SIGKILL at random moments. At the end every document's `_source` equals its row, there is no other document
and no dead letter."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, Callable, Iterator

import pytest
from harness import Elasticsearch, Postgres, Programs, Search, make_search
from harness.search import SINK, search_config
from harness.workload import Workload
from test_random_workload import is_run_alive, kill_one, wait_a_random_moment

SETTINGS = {"deadlock_timeout": "'100ms'"}
# Without a key there are no documents; one that two rows may share for a moment is none.
WITHOUT = {"public.keyless", "public.deferred"}


@pytest.fixture
def load(make_pg: Callable[..., Postgres], rng: random.Random) -> Iterator[Workload]:
    load = Workload(make_pg(settings=SETTINGS), rng)
    load.create()
    yield load
    load.stop()


def tables_of(load: Workload) -> list[str]:
    return [name for name in load.names if name not in WITHOUT]


def patterns_of(load: Workload) -> list[str]:
    """For the sink's `tables`."""
    return [name.replace("T.dot", "T?dot") for name in tables_of(load)]


def make(load: Workload, make_oneslot: Any, es: Elasticsearch, **options: Any) -> Search:
    sink = {"tables": patterns_of(load)}
    return make_search(make_oneslot, load.pg, es, source_tables=load.patterns, sink=sink, **options)


def make_all_full(load: Workload) -> None:
    for table in load.tables:
        load.pg.sql(f"ALTER TABLE {table.sql} REPLICA IDENTITY FULL")


def judge(load: Workload, search: Search) -> None:
    search.check(*tables_of(load), timeout=600)
    filled = {search.index(name) for name in tables_of(load) if search.index(name) in search.es.aliases()}
    assert set(search.es.aliases()) == filled, "no index of anything else"
    others = [index for index in search.es.indices() if not index.endswith("-000001")]
    assert not others, f"made by nobody: {others}"


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("identity", ["as each table has it", "FULL"])
def test_every_shape_of_change_becomes_a_document(
    load: Workload, make_oneslot: Any, es: Elasticsearch, identity: str
) -> None:
    """Nothing is killed: what differs here is a matter of values, identities and shapes."""
    if identity == "FULL":
        make_all_full(load)
    search = make(load, make_oneslot, es).start()
    load.run(150)
    judge(load, search)
    before = {name: search.documents(name) for name in tables_of(load) if search.index(name) in es.aliases()}
    search.replay(timeout=600)
    judge(load, search)
    assert {name: search.documents(name) for name in before} == before, "a replay changes nothing"


def kill_something(search: Search, load: Workload, rng: random.Random) -> str:
    what = rng.choices(["sink", "node", "other"], [45, 20, 35])[0]
    if what == "other":
        return kill_one(search.oneslot, rng)
    if what == "node":
        with load.at_most(300):
            search.es.restart()
        return "node"
    search.oneslot.wait(lambda: is_run_alive(search.oneslot) and search.oneslot.kill("sink"), 60, "a sink is killed")
    return "sink"


@pytest.mark.sampled
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("identity", ["as each table has it", "FULL"])
def test_documents_equal_the_tables_whatever_is_killed(
    load: Workload,
    make_oneslot: Any,
    es: Elasticsearch,
    programs: Programs,
    plain_programs: Programs,
    rng: random.Random,
    identity: str,
) -> None:
    """With sanitizers for the one, without for the other: both are killed at other moments."""
    run_a_round(load, make_oneslot, es, programs if identity == "FULL" else plain_programs, rng, identity, kills=4)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(50))
def test_fifty_rounds(
    load: Workload, make_oneslot: Any, es: Elasticsearch, plain_programs: Programs, rng: random.Random, number: int
) -> None:
    identity = "FULL" if number % 2 else "as each table has it"
    run_a_round(load, make_oneslot, es, plain_programs, rng, identity, kills=8)


def run_a_round(
    load: Workload, make_oneslot: Any, es: Elasticsearch, programs: Programs, rng: random.Random, identity: str, kills: int
) -> None:
    if identity == "FULL":
        make_all_full(load)
    search = make(load, make_oneslot, es, programs=programs).start()
    load.start()
    killed: Counter[str] = Counter()
    while killed.total() < kills:
        wait_a_random_moment(rng, load)
        killed[kill_something(search, load, rng)] += 1
    load.stop()
    search.oneslot.wait(lambda: is_run_alive(search.oneslot) and search.oneslot.lag(), 60, "it serves")
    judge(load, search)
    print(f"killed: {dict(killed)}; done: {dict(load.done)}; sink: {search.oneslot.sink(SINK)}")


@pytest.mark.timeout(2400)
def test_a_second_index_made_from_the_log_equals_the_live_one(
    load: Workload, make_oneslot: Any, es: Elasticsearch, plain_programs: Programs
) -> None:
    """A replay into a new index, of everything that the workload does."""
    search = make(load, make_oneslot, es, programs=plain_programs).start()
    load.run(300)
    judge(load, search)
    search.oneslot.stop()
    second = search_config(es.url, "second", index="second-{schema}.{table}", tables=patterns_of(load))["sinks"]["second"]
    search.oneslot.change_config(sinks={"second": second})
    search.start()
    load.run(30)
    search.check(*tables_of(load), timeout=600)
    search.check(*tables_of(load), name="second", timeout=600)
    for name in tables_of(load):
        if search.index(name) in es.aliases():
            live, copy = search.documents(name), search.documents(name, "second")
            assert {id: d.source for id, d in live.items()} == {id: d.source for id, d in copy.items()}, name
