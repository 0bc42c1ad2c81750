"""deploy/quickstart on a terminal: it goes around ports that are taken, and whatever ends it leaves nothing running."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Iterator

import pytest
from harness.httpclient import Http
from harness.postgres import binaries
from harness.system import ACCOUNT, NOT_YET, REPO, WorkFolder, base_environment, command_line, free_port, kill
from harness.system import processes_with, wait_until

pytestmark = pytest.mark.timeout(600)  # the first one builds
API, POSTGRES = 7432, 5433  # the usual ports


class Tour:
    """A quickstart with a terminal of its own, whose folder comes into `base`."""

    def __init__(self, base: Path, *options: str) -> None:
        self.base = base
        self.id = uuid.uuid4().hex
        self.shown = b""
        self.terminal, inner = pty.openpty()
        os.set_blocking(self.terminal, False)
        argv = ["setsid", "--ctty", str(REPO / "deploy" / "quickstart"), "--no-install", *options]
        own = {"TMPDIR": str(base), "ONESLOT_TEST_ID": self.id, "ONESLOT_PG_BIN": str(binaries())}
        env = {**base_environment(base), **own}
        self.popen = subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, env=env)
        os.close(inner)

    def text(self) -> str:
        """All that the terminal has shown. It must be read, or who writes waits."""
        try:
            while self.terminal >= 0 and (more := os.read(self.terminal, 65536)):
                self.shown += more
        except (BlockingIOError, OSError):  # nothing now; nobody there any more
            pass
        return self.shown.decode("utf-8", "replace").replace("\r\n", "\n")

    def wait(self, predicate: Callable[[], object], timeout: float, what: str) -> None:
        def reached() -> bool:
            self.text()
            return bool(predicate())

        try:
            wait_until(reached, timeout, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.left()}\n{self.text()[-4000:]}") from None

    def wait_showing(self) -> None:
        def is_showing() -> bool:
            assert self.popen.poll() is None, self.text()
            return bool(self.changes())

        self.wait(is_showing, 500, "changes are shown")

    def changes(self) -> list[str]:
        _, _, shown = self.text().partition("The changes as they come:\n")
        return re.findall(r"^\S+Z (?:insert|update|delete) fabric\.user_data id=.*\n", shown, re.MULTILINE)

    def said(self, what: str) -> str:
        """Behind that word of the introduction."""
        found = re.search(rf"^  {what} +(.+)$", self.text(), re.MULTILINE)
        assert found is not None, self.text()
        return found.group(1)

    def wait_end(self) -> int:
        self.wait(lambda: self.popen.poll() is not None, 40, "quickstart ends")
        self.wait(lambda: not self.left(), 5, "nothing is left running")
        return self.popen.returncode

    def left(self) -> dict[int, list[str]]:
        """What lives of it: by its environment, or because it works in the folder (a server may have neither of them
        in its command line)."""
        found = dict(processes_with("ONESLOT_TEST_ID", self.id))
        for entry in filter(str.isdigit, os.listdir("/proc")):
            argv = command_line(int(entry))
            if argv and (self._is_inside(int(entry)) or str(self.base) in " ".join(argv)):
                found[int(entry)] = argv
        return found

    def _is_inside(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/cwd").startswith(str(self.base))
        except OSError:
            return False

    def folders(self) -> list[Path]:
        return list(self.base.iterdir())

    def close_terminal(self) -> None:
        os.close(self.terminal)
        self.terminal = -1

    def close(self) -> None:
        """Whatever a failed test has left of it."""
        wait_until(lambda: not [kill(pid) for pid in self.left()], 20, "all of the tour is gone")
        self.popen.wait(10)
        if self.terminal >= 0:
            self.close_terminal()
        for folder in self.folders():
            shutil.rmtree(folder)


@pytest.fixture
def make_tour(work: WorkFolder) -> Iterator[Callable[..., Tour]]:
    """make_tour(OPTION...)"""
    with ExitStack() as made:

        def make(*options: str) -> Tour:
            tour = Tour(work.new("q"), *options)
            made.callback(tour.close)
            return tour

        yield make


@pytest.fixture
def usual_ports() -> Iterator[None]:
    """Are taken: by us, or by somebody who keeps them. (Another test may have one for a while.)"""
    with ExitStack() as held:
        for port in (API, POSTGRES):
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

            def is_bound() -> bool:
                listener.bind(("127.0.0.1", port))
                listener.listen(64)
                return True

            try:
                wait_until(is_bound, 20, f"port {port} is ours")
            except TimeoutError:
                socket.create_connection(("127.0.0.1", port), 5).close()
        yield


def test_ctrl_c_ends_a_tour_that_went_around_taken_ports(usual_ports: None, make_tour: Callable[..., Tour]) -> None:
    tour = make_tour()
    tour.wait_showing()
    api = re.fullmatch(r"http://127\.0\.0\.1:(\d+)", tour.said("HTTP API"))
    assert api is not None and int(api.group(1)) != API
    assert Http(port=int(api.group(1))).get("/healthz").status == 200
    postgres = re.fullmatch(r"psql -h \S+ -p (\d+) .*", tour.said("PostgreSQL"))
    assert postgres is not None and int(postgres.group(1)) != POSTGRES
    socket.create_connection(("127.0.0.1", int(postgres.group(1))), 5).close()
    folder = Path(tour.said("folder"))
    assert tour.folders() == [folder]
    os.write(tour.terminal, b"\x03")
    assert tour.wait_end() == 0, tour.text()
    assert not tour.folders()


def test_killed_while_it_makes_a_server_it_leaves_nothing(make_tour: Callable[..., Tour]) -> None:
    """As root initdb ran on: it had lost its parent-death signal with the user."""
    tour = make_tour("--port", str(free_port()), "--pg-port", str(free_port()))
    tour.wait(lambda: any("initdb" in argv[0] for argv in tour.left().values()), 500, "initdb runs")
    tour.popen.kill()
    tour.wait(lambda: tour.popen.poll() is not None, 5, "quickstart is gone")
    tour.wait(lambda: not any("initdb" in argv[0] for argv in tour.left().values()), 5, "initdb has ended")
    tour.wait_end()
    assert not tour.folders()


def end_by_term(tour: Tour) -> None:
    tour.popen.send_signal(signal.SIGTERM)


def end_by_closing(tour: Tour) -> None:
    tour.close_terminal()


def end_by_kill(tour: Tour) -> None:
    tour.popen.kill()


@pytest.mark.parametrize(
    "end, status, is_kept",
    [(end_by_term, 0, False), (end_by_closing, 0, True), (end_by_kill, -signal.SIGKILL, False)],
)
def test_nothing_is_left_running(
    end: Callable[[Tour], None], status: int, is_kept: bool, make_tour: Callable[..., Tour]
) -> None:
    """After SIGTERM to the script alone, a terminal that was closed, SIGKILL."""
    tour = make_tour("--port", str(free_port()), "--pg-port", str(free_port()), *["--keep"] * is_kept)
    tour.wait_showing()
    end(tour)
    assert tour.wait_end() == status, tour.text()
    kept = tour.folders()
    assert len(kept) == is_kept, kept
    for folder in kept:
        assert (folder / "changes.ndjson").stat().st_size > 0 and (folder / "oneslot.yaml").exists()
