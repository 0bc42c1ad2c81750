"""pytest's side of the harness: fixtures that close what they made and fail the test for what was wrong with it,
one seed per run, and no test that is skipped in silence."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path
from typing import Any, Callable, Generator, Iterator

import pytest

from harness.elasticsearch import Elasticsearch
from harness.fake_es import FakeES
from harness.oneslot import Oneslot
from harness.postgres import Postgres
from harness.search import Search, make_search
from harness.system import ACCOUNT, REPO, Programs, WorkFolder

SEED = int(os.environ.setdefault("ONESLOT_SEED", str(random.SystemRandom().randrange(10**9))))
SOAK = os.environ.get("ONESLOT_SOAK") == "1"
KEEP = os.environ.get("ONESLOT_KEEP") == "1"


def pytest_report_header() -> str:
    user = ACCOUNT.user.pw_name if ACCOUNT.user else "you"
    return f"oneslot: seed {SEED} (ONESLOT_SEED), servers run as {user}{', whole suites' if SOAK else ''}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SOAK:
        for item in items:
            item.add_marker(pytest.mark.timeout(4 * 3600), append=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A skipped test has not shown anything: it fails. An expected failure is neither."""
    outcome = yield
    report = outcome.get_result()
    setattr(item, f"report_{report.when}", report)
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and a skipped test fails the run: {report.longrepr}"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, and a skipped file fails the run: {report.longrepr}"


def _failed(request: pytest.FixtureRequest) -> bool:
    return any(
        getattr(getattr(request.node, f"report_{when}", None), "failed", False) for when in ("setup", "call")
    )


@pytest.fixture(scope="session")
def session_work() -> Iterator[WorkFolder]:
    folder = WorkFolder()
    yield folder
    if not KEEP:
        folder.remove()


@pytest.fixture
def work(request: pytest.FixtureRequest, session_work: WorkFolder) -> Iterator[WorkFolder]:
    """A folder that servers may use, removed after the test (ONESLOT_KEEP=1: kept after a failure)."""
    folder = WorkFolder()
    yield folder
    if KEEP and _failed(request):
        print(f"kept: {folder.path}")
    else:
        folder.remove()


@pytest.fixture(scope="session")
def programs(session_work: WorkFolder) -> Programs:
    """The sanitized build, or the one in ONESLOT_BUILD."""
    return Programs(Path(os.environ.get("ONESLOT_BUILD", REPO / "build-dev")), session_work)


@pytest.fixture(scope="session")
def plain_programs(session_work: WorkFolder) -> Programs:
    """A build without sanitizers: faster to start by far, for shims and hundreds of runs."""
    return Programs(Path(os.environ.get("ONESLOT_PLAIN_BUILD", REPO / "build-clang")), session_work)


@pytest.fixture
def make_pg(
    request: pytest.FixtureRequest, session_work: WorkFolder
) -> Iterator[Callable[..., Postgres]]:
    """make_pg(settings=..., new_cluster=..., start=...): a server, stopped and removed after the test."""
    made: list[Postgres] = []

    def make(start: bool = True, **options: Any) -> Postgres:
        pg = Postgres(session_work, **options)
        made.append(pg)
        return pg.start() if start and not pg.is_running() else pg

    yield make
    for pg in made:
        pg.close()
        if not (KEEP and _failed(request)):
            shutil.rmtree(pg.folder, ignore_errors=True)


@pytest.fixture
def pg(make_pg: Callable[..., Postgres]) -> Postgres:
    return make_pg()


@pytest.fixture
def make_oneslot(
    request: pytest.FixtureRequest, work: WorkFolder, programs: Programs
) -> Iterator[Callable[..., Oneslot]]:
    """make_oneslot(pg, tables=..., config=..., env=..., programs=...): configured, nothing started."""
    made: list[Oneslot] = []

    def make(pg: Postgres | None = None, **options: Any) -> Oneslot:
        chosen = options.pop("programs", programs)
        instance = Oneslot(chosen, work, pg, **options)
        made.append(instance)
        return instance

    yield make
    problems = [problem for instance in made for problem in instance.close()]
    if _failed(request):
        for instance in made:
            request.node.add_report_section("teardown", "oneslot logs", instance.log_tail())
            print(instance.log_tail())
    assert not problems, "\n".join(problems)


@pytest.fixture
def oneslot(make_oneslot: Callable[..., Oneslot], pg: Postgres) -> Oneslot:
    """For the server `pg`, all tables of public, sink `file`; start() it when the tables are there."""
    return make_oneslot(pg)


@pytest.fixture(scope="session")
def es_node(session_work: WorkFolder) -> Iterator[Elasticsearch]:
    """One for all tests of this process: a start takes seconds."""
    node = Elasticsearch(session_work).start()
    yield node
    node.close()


@pytest.fixture
def es(request: pytest.FixtureRequest, es_node: Elasticsearch) -> Elasticsearch:
    """A real node without an index. A test may kill and restart it."""
    if not es_node.is_running():
        es_node.start()
    es_node.clear()
    return es_node


@pytest.fixture
def make_es(
    request: pytest.FixtureRequest, session_work: WorkFolder
) -> Iterator[Callable[..., Elasticsearch]]:
    """make_es(version=..., settings=..., security=...): a node of the test's own, started."""
    made: list[Elasticsearch] = []

    def make(**options: Any) -> Elasticsearch:
        made.append(Elasticsearch(session_work, **options))
        return made[-1].start()

    yield make
    for node in made:
        node.close()


@pytest.fixture
def fake_es(es: Elasticsearch) -> Iterator[FakeES]:
    """In front of `es`: what it is told to spoil it spoils."""
    fake = FakeES(es)
    yield fake
    fake.close()


@pytest.fixture
def search(make_oneslot: Callable[..., Oneslot], pg: Postgres, es: Elasticsearch) -> Search:
    """All tables of public go to `es`; start() it when the tables are there."""
    return make_search(make_oneslot, pg, es)


@pytest.fixture
def faulty(make_oneslot: Callable[..., Oneslot], pg: Postgres, es: Elasticsearch, fake_es: FakeES) -> Search:
    """The same by way of `fake_es`."""
    return make_search(make_oneslot, pg, es, via=fake_es)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of this test, the same for the same ONESLOT_SEED."""
    text = f"{SEED}:{request.node.nodeid}".encode()
    return random.Random(int.from_bytes(hashlib.sha256(text).digest()[:8], "big"))


@pytest.fixture
def soak() -> bool:
    """True under `tests/run soak`: run the whole of it instead of a sample."""
    return SOAK


__all__ = [name for name in dir() if not name.startswith("_") or name.startswith("pytest_")]
