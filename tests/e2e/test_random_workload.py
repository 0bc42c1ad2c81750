"""P2, and everything at once: a random mixed workload while broker, replicator, sink and supervisor are killed with
SIGKILL at random moments. At the end the log and the file amount to the tables, row by row, with each change once."""

from __future__ import annotations

import base64
import json
import random
import threading
from collections import Counter
from typing import Any, Callable, Iterator

import pytest
from harness import Oneslot, Postgres, Programs, assert_tables_equal, check_log, fold, lsn, wait_until
from harness.system import is_alive
from harness.workload import Workload

# run: the supervisor, whose children end with it; "": everything at once.
ROLES = {"broker": 25, "replicator": 20, "sink": 15, "run": 25, "": 5}
SETTINGS = {"deadlock_timeout": "'100ms'"}


def wait_a_random_moment(rng: random.Random, load: Workload) -> None:
    """From right after the former kill's restart to some dozens of transactions later."""
    load.wait_for(rng.choice([0, 0, 1, 5, 20, 60]))
    threading.Event().wait(rng.random() * rng.choice([0.02, 0.3]))


def kill_one(oneslot: Oneslot, rng: random.Random) -> str:
    role = rng.choices(list(ROLES), list(ROLES.values()))[0]
    oneslot.wait(lambda: is_run_alive(oneslot) and oneslot.pids(role or "run"), 60, f"a process of role {role}")
    if role == "run":
        kill_supervisor(oneslot)
    elif role == "":
        oneslot.kill_all()
        oneslot.start()
    else:
        oneslot.kill(role)
    return role or "all"


def is_run_alive(oneslot: Oneslot) -> bool:
    """`run` ends with 1 when a child of it dies before the broker has served for the first time; it is started
    again then, as systemd would."""
    supervisor = oneslot.processes[-1]
    if not supervisor.is_running():
        assert supervisor.wait(0) == 1
        assert oneslot.log_contains("the broker did not start|cannot check sink", supervisor)
        oneslot.start()
    return True


def kill_supervisor(oneslot: Oneslot) -> None:
    """Its children end with it: nothing else is killed."""
    children = oneslot.pids()
    oneslot.kill_and_wait("run")
    oneslot.wait(lambda: not any(map(is_alive, children)), 5, f"the children {children} end with their supervisor")
    wait_until(lambda: not oneslot.pids(), 5, "and no other is left")
    oneslot.start()


def check_slot(pg: Postgres, oneslot: Oneslot) -> None:
    """P1, at any moment: what PostgreSQL was told is in the log. The slot is asked first."""
    confirmed = pg.slot().get("confirmed_flush_lsn")
    try:
        durable = oneslot.lag()["source"]["durable_lsn"]
    except OSError:
        return  # nobody to ask: the last kill's restart is under way
    assert confirmed is None or lsn(confirmed) <= lsn(durable), f"{confirmed} acknowledged, {durable} durable"


def lines_of_changes(oneslot: Oneslot) -> Iterator[bytes]:
    with oneslot.http.stream("GET", "/changes", timeout=120) as answer:
        assert answer.status == 200
        yield from answer


def file_lines(oneslot: Oneslot) -> Iterator[bytes]:
    with open(oneslot.folder / "changes.ndjson", "rb") as file:
        yield from file


def messages_of(changes: Iterator[dict[str, Any]]) -> Counter[tuple[bool, str, bytes]]:
    return Counter(
        (change["transactional"], change["prefix"], base64.b64decode(change["content"]))
        for change in changes
        if change["op"] == "message"
    )


def judge(pg: Postgres, oneslot: Oneslot, load: Workload) -> None:
    """Line by line: there may be gigabytes."""
    pg.sql("INSERT INTO parent VALUES (nextval('fresh'), 0)")  # flushes messages that nobody waited for
    oneslot.wait_caught_up(pg, 120)
    number = check_log(map(json.loads, lines_of_changes(oneslot)))
    assert number == check_log(map(json.loads, file_lines(oneslot)))
    assert_tables_equal(pg, fold(map(json.loads, lines_of_changes(oneslot))), load.names, "the fold of /changes")
    assert_tables_equal(pg, fold(map(json.loads, file_lines(oneslot))), load.names, "the fold of the file")
    assert all(one == other for one, other in zip(lines_of_changes(oneslot), file_lines(oneslot), strict=True))
    assert messages_of(map(json.loads, file_lines(oneslot))) == load.messages


@pytest.fixture
def load(make_pg: Callable[..., Postgres], rng: random.Random) -> Iterator[Workload]:
    load = Workload(make_pg(settings=SETTINGS), rng)
    load.create()
    yield load
    load.stop()


def test_every_shape_of_change_arrives(load: Workload, make_oneslot: Callable[..., Oneslot]) -> None:
    """Nothing is killed: what differs here is a matter of values, identities and shapes."""
    oneslot = make_oneslot(load.pg, tables=load.patterns)
    oneslot.start()
    oneslot.wait_streaming()
    load.run(250)
    judge(load.pg, oneslot, load)


@pytest.mark.sampled
@pytest.mark.timeout(900)
@pytest.mark.parametrize("compression, kills", [("none", 16), ("zstd", 12)])
def test_nothing_is_lost_or_doubled_whatever_is_killed(
    load: Workload,
    make_oneslot: Callable[..., Oneslot],
    programs: Programs,
    plain_programs: Programs,
    rng: random.Random,
    soak: bool,
    compression: str,
    kills: int,
) -> None:
    """With sanitizers where the log is plain, without where it is packed: both are killed at other moments."""
    oneslot = make_oneslot(
        load.pg,
        tables=load.patterns,
        programs=programs if compression == "none" else plain_programs,
        config={"log": {"segment_bytes": "4MiB", "compression": compression}},
    )
    oneslot.start()
    oneslot.wait_streaming()
    load.start()
    killed: Counter[str] = Counter()
    while killed.total() < (220 if soak else kills):
        wait_a_random_moment(rng, load)
        check_slot(load.pg, oneslot)
        killed[kill_one(oneslot, rng)] += 1
    load.stop()
    oneslot.wait(lambda: is_run_alive(oneslot) and oneslot.lag(), 60, "it serves")
    judge(load.pg, oneslot, load)
    assert len(oneslot.segments()) > 3, "the log has rolled"
    print(f"killed: {dict(killed)}; done: {dict(load.done)}")


def test_children_end_with_their_supervisor(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    oneslot.start()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t VALUES (1)")
    oneslot.wait_caught_up(pg)
    for role in ("broker", "replicator", "sink"):
        oneslot.pid(role)
    kill_supervisor(oneslot)
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t VALUES (2)")
    oneslot.wait_caught_up(pg)
    assert [change["new"] for change in oneslot.file_changes()] == [{"id": 1}, {"id": 2}]
