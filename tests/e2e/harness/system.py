"""What the tests need from the machine: an unprivileged account, a folder that it can reach, ports, processes
that are found again, and waiting for a condition."""

from __future__ import annotations

import fcntl
import functools
import http.client
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Callable, Iterator, Mapping, TypeVar

import psycopg

REPO = Path(__file__).resolve().parents[3]
RUN_ID = os.environ.setdefault("ONESLOT_TEST_RUN", f"pytest-{os.getpid()}")
POLL_SECONDS = 0.02
# What a condition that is not true yet may raise.
NOT_YET = (OSError, http.client.HTTPException, psycopg.OperationalError)

T = TypeVar("T")

# A run started in the background of a script inherits ignored signals, and oneslot honours what it inherits (as under
# nohup): its tests are about a terminal's. A handler of ours is the default again in a child.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


def wait_until(predicate: Callable[[], T], timeout: float, what: str) -> T:
    """Polls until predicate() is true and returns its value. A refused connection is 'not yet'."""
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            last = predicate()
            if last:
                return last  # type: ignore[return-value]
        except NOT_YET as error:
            last = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what} (last: {last!r})")
        time.sleep(POLL_SECONDS)


def lsn(text: str) -> int:
    """'16/B374D848' as a number."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class Account:
    """Who servers run as: an unprivileged user when the tests run as root, otherwise whoever runs them."""

    def __init__(self) -> None:
        self.user: pwd.struct_passwd | None = None
        if os.geteuid() == 0:
            self.user = self._unprivileged()

    @staticmethod
    def _unprivileged() -> pwd.struct_passwd:
        for name in filter(None, (os.environ.get("ONESLOT_TEST_USER"), "postgres", "nobody")):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise RuntimeError("neither user postgres nor nobody exists; set ONESLOT_TEST_USER")

    def own(self, path: Path) -> None:
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def own_tree(self, path: Path) -> None:
        if not self.user:
            return
        for folder, _, files in os.walk(path):
            for name in [folder, *(os.path.join(folder, f) for f in files)]:
                os.chown(name, self.user.pw_uid, self.user.pw_gid, follow_symlinks=False)

    def popen_options(self) -> dict[str, object]:
        if not self.user:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}


ACCOUNT = Account()


class WorkFolder:
    """A folder under /tmp that the account owns. Its path is short: Unix socket paths end at 107 bytes."""

    def __init__(self) -> None:
        base = os.environ.get("ONESLOT_WORK", "/tmp")
        self.path = Path(tempfile.mkdtemp(prefix="os-", dir=base))
        self.path.chmod(0o755)
        ACCOUNT.own(self.path)
        self._numbers = itertools.count(1)

    def new(self, prefix: str) -> Path:
        path = self.path / f"{prefix}{next(self._numbers)}"
        path.mkdir(mode=0o755)
        ACCOUNT.own(path)
        return path

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


_port_locks: list[IO[str]] = []


def free_port() -> int:
    """A port nobody listens on, below the ephemeral range, held against the other test processes by a lock
    until this one ends."""
    folder = Path(f"/tmp/oneslot-ports-{os.geteuid()}")
    folder.mkdir(exist_ok=True)
    start = 10200 + os.getpid() * 101 % 20000
    for port in itertools.chain(range(start, 32000), range(10200, start)):
        lock = open(folder / str(port), "w", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        if _bindable(port):
            _port_locks.append(lock)
            return port
        lock.close()
    raise RuntimeError("no free port between 10200 and 32000")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def base_environment(home: Path) -> dict[str, str]:
    """The environment of every process that the tests start: nothing of the caller's leaks in by accident."""
    keep = ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS", "TERM")
    env = {name: os.environ[name] for name in keep if name in os.environ}
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
    env.update(HOME=str(home), LANG="C.UTF-8", ONESLOT_TEST_RUN=RUN_ID)
    return env


class Process:
    """A child with its output in a file."""

    def __init__(self, argv: list[str], log: Path, cwd: Path, env: Mapping[str, str]) -> None:
        self.argv = argv
        self.log = log
        with open(log, "ab") as out:
            ACCOUNT.own(log)
            self.popen = subprocess.Popen(
                argv,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **ACCOUNT.popen_options(),  # type: ignore[call-overload]
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def is_running(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: int) -> None:
        if self.is_running():
            self.popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """The exit status; TimeoutExpired if it goes on."""
        return self.popen.wait(timeout)

    def end(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> bool:
        """Asks, waits, and kills where asking did not help; False in that last case."""
        self.send(number)
        try:
            self.wait(timeout)
            return True
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.wait(10)
            return False

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def command_line(pid: int) -> list[str]:
    """Empty for one that is gone, a zombie or a kernel thread."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode("utf-8", "replace") for part in raw.split(b"\0")[:-1]]


def processes_with(variable: str, value: str, only: str = "") -> Iterator[tuple[int, list[str]]]:
    """Living processes whose environment has variable=value and whose program's name begins with `only`."""
    wanted = f"{variable}={value}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        argv = command_line(int(entry))
        if not argv or not os.path.basename(argv[0]).startswith(only):
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            yield int(entry), argv


def is_alive(pid: int) -> bool:
    return bool(command_line(pid))


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


class Programs:
    """The programs and shims of one build, copied where the account can run them."""

    def __init__(self, build: Path, work: WorkFolder) -> None:
        if not (build / "bin" / "oneslot").exists():
            raise FileNotFoundError(f"{build}/bin/oneslot is missing: `tests/run e2e` builds it")
        self.build = build
        self.folder = work.new("bin")
        for source in [*(build / "bin").glob("oneslot*"), *(build / "lib").glob("*.so")]:
            shutil.copy2(source, self.folder / source.name)
            (self.folder / source.name).chmod(0o755)

    def path(self, name: str = "oneslot") -> str:
        return str(self.folder / name)

    @functools.cached_property
    def _sanitizer(self) -> str:
        """The sanitizer's library, which has to come first in LD_PRELOAD; empty for a plain build."""
        listed = subprocess.run(["ldd", self.path()], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            if "libasan" in line or "libtsan" in line:
                return line.split("=>")[1].split("(")[0].strip()
        return ""

    def preload(self, shim: str) -> dict[str, str]:
        """The environment that puts tests/crash/SHIM.c under a program."""
        library = self.path(f"{shim}.so")
        if not os.path.exists(library):
            raise FileNotFoundError(f"{library}: tests/crash/{shim}.c was not built")
        return {"LD_PRELOAD": ":".join(filter(None, (self._sanitizer, library)))}
