"""A oneslot installation of a test's own: its folder, configuration and processes, whole (`oneslot run`) or one
program at a time. close() says what was wrong with it: reports of sanitizers, failed CHECKs, processes left."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, TypeVar

from harness.files import file_sink
from harness.httpclient import Http, Response
from harness.postgres import Postgres
from harness.system import (
    ACCOUNT,
    Process,
    Programs,
    WorkFolder,
    base_environment,
    free_port,
    is_alive,
    kill,
    lsn,
    processes_with,
    wait_until,
)

T = TypeVar("T")
Config = dict[str, Any]

BROKEN = re.compile(
    r"CHECK failed|ERROR: AddressSanitizer|runtime error:|LeakSanitizer|ThreadSanitizer|MemorySanitizer|"
    r"AddressSanitizer:DEADLYSIGNAL|double free|corrupted size|stack smashing"
)


def yaml_of(value: Mapping[str, Any], indent: int = 0) -> str:
    """A mapping as YAML in the block style that people write; texts are quoted as JSON, which YAML reads."""
    lines = []
    for key, item in value.items():
        name = key if re.fullmatch(r"[\w-]+", key) else json.dumps(key)
        if isinstance(item, Mapping) and item:
            lines.append(f"{' ' * indent}{name}:\n{yaml_of(item, indent + 2)}")
        else:
            lines.append(f"{' ' * indent}{name}: {json.dumps(item)}\n")
    return "".join(lines)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """base with changes laid over it, mappings key by key; None removes a key."""
    result = dict(base)
    for key, item in changes.items():
        if item is None:
            result.pop(key, None)
        elif isinstance(item, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], item)
        else:
            result[key] = item
    return result


class Oneslot:
    def __init__(
        self,
        programs: Programs,
        work: WorkFolder,
        pg: Postgres | None = None,
        tables: Iterable[str] = ("public.*",),
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """config is laid over the default one (see merged). env is added to every process of it."""
        self.programs = programs
        self.folder = folder or work.new("o")
        self.data = self.folder / "data"
        self.port = free_port()
        self.id = uuid.uuid4().hex
        self.env = {**base_environment(self.folder), "ONESLOT_TEST_ID": self.id, **(env or {})}
        self.config: Config = merged(self._default_config(pg, list(tables)), config or {})
        self.processes: list[Process] = []
        self.allowed = ""  # a pattern of what BROKEN finds and a test wants
        self._numbers = itertools.count(1)
        self.write_config()

    def _default_config(self, pg: Postgres | None, tables: list[str]) -> Config:
        dsn = pg.dsn("oneslot") if pg else "host=127.0.0.1 port=1 dbname=app user=oneslot"
        return {
            "data_dir": "./data",
            "listen": f"127.0.0.1:{self.port}",
            "source": {"dsn": dsn, "slot": "oneslot", "publication": "oneslot", "tables": tables},
            "sinks": {"file": {"kind": "file", "path": "./changes.ndjson"}},
        }

    # --- its files

    @property
    def config_path(self) -> Path:
        return self.folder / "oneslot.yaml"

    def write_config(self, text: str | None = None) -> None:
        """Writes self.config, or the given text as it is."""
        self.config_path.write_text(text if text is not None else yaml_of(self.config), encoding="utf-8")
        ACCOUNT.own(self.config_path)

    def change_config(self, **changes: Any) -> None:
        self.config = merged(self.config, changes)
        self.write_config()

    def file_changes(self, sink: str = "file", allow_torn: bool = False) -> list[dict[str, Any]]:
        return file_sink(self.folder / self.config["sinks"][sink]["path"], allow_torn)

    def segments(self) -> list[Path]:
        """The folders of the log, in the order of their names."""
        return sorted(path for path in self.data.glob("**/*.mdb"))

    # --- its processes

    def start(self, env: Mapping[str, str] | None = None) -> Process:
        """`oneslot run`, not waited for."""
        return self._spawn("run", ["oneslot", "run", "-c", str(self.config_path)], env)

    def start_broker(self, env: Mapping[str, str] | None = None) -> Process:
        return self._spawn("broker", ["oneslot", "broker", "-c", str(self.config_path)], env)

    def start_replicator(self, env: Mapping[str, str] | None = None) -> Process:
        return self._spawn("replicator", ["oneslot-replicator", "-c", str(self.config_path)], env)

    def start_sink(self, name: str = "file", env: Mapping[str, str] | None = None) -> Process:
        return self._spawn(f"sink-{name}", ["oneslot-sink", "-c", str(self.config_path), name], env)

    def _spawn(self, label: str, argv: list[str], env: Mapping[str, str] | None) -> Process:
        log = self.folder / f"{next(self._numbers):03}-{label}.log"
        argv = [self.programs.path(argv[0]), *argv[1:]]
        process = Process(argv, log, self.folder, {**self.env, **(env or {})})
        self.processes.append(process)
        return process

    def cli(
        self, *args: str, timeout: float = 60.0, env: Mapping[str, str] | None = None, config: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`oneslot ARGS -c FILE`; config=False leaves -c away."""
        where = ["-c", str(self.config_path)] if config else []
        return subprocess.run(
            [self.programs.path(), *args, *where],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **ACCOUNT.popen_options(),  # type: ignore[call-overload]
        )

    def pids(self, role: str = "") -> list[int]:
        """Living processes. Roles: run, broker, replicator, sink, sink:NAME; none: all."""
        found = processes_with("ONESLOT_TEST_ID", self.id, only="oneslot")
        return [pid for pid, argv in found if not role or role in _roles(argv)]

    def pid(self, role: str, timeout: float = 20.0) -> int:
        """The one process of a role, waited for."""
        return wait_until(lambda: self.pids(role), timeout, f"a process of role {role}")[0]

    def kill(self, role: str, number: int = signal.SIGKILL) -> list[int]:
        """Signals every process of the role, if any, and returns their ids."""
        return [pid for pid in self.pids(role) if kill(pid, number)]

    def kill_and_wait(self, role: str, timeout: float = 10.0) -> list[int]:
        """SIGKILL, until they are gone; the supervisor may have started others by then."""
        killed = self.kill(role)
        wait_until(lambda: not any(map(is_alive, killed)), timeout, f"{role} {killed} is gone")
        return killed

    def kill_all(self, timeout: float = 20.0) -> None:
        """SIGKILL to everything at once, as the kernel's OOM killer would."""
        wait_until(lambda: not self.kill("") and not self.pids(), timeout, "all processes are gone")
        for process in self.processes:
            process.wait(timeout)

    def stop(self, timeout: float = 30.0) -> None:
        """SIGTERM to what was started here; all of it must end, and end well."""
        for process in self.processes:
            process.send(signal.SIGTERM)
        for process in self.processes:
            was_running = process.is_running()
            status = process.wait(timeout)
            assert not was_running or status == 0, f"{process.argv} ended with {status}:\n{process.text()[-3000:]}"
        wait_until(lambda: not self.pids(), timeout, "the supervisor's children are gone")

    # --- asking it

    @property
    def http(self) -> Http:
        return Http(port=self.port)

    @property
    def unix(self) -> Http:
        return Http(unix=str(self.data / "oneslot.sock"))

    def lag(self) -> dict[str, Any]:
        answer = self.http.get("/lag")
        assert answer.status == 200, answer
        return answer.json()

    def sink(self, name: str = "file") -> dict[str, Any]:
        """Its entry of /lag; empty where there is none."""
        return next((sink for sink in self.lag()["sinks"] if sink["name"] == name), {})

    def get_changes(self, timeout: float = 120.0, **query: Any) -> Response:
        """from_ stands for `from`."""
        return self.http.request("GET", "/changes", query, timeout=timeout)

    def changes(self, timeout: float = 120.0, **query: Any) -> list[dict[str, Any]]:
        """From the beginning unless the query says otherwise; an answer that breaks off raises."""
        answer = self.get_changes(timeout, **query)
        assert answer.status == 200, answer
        return answer.ndjson()

    # --- another worker of a sink of its

    @contextmanager
    def rival(self, name: str, change: Callable[[str], str] = lambda text: text) -> Iterator[Process]:
        """As one that was started on a copy of the configuration, changed so: the lock of its data folder is another
        one, its broker is ours."""
        folder = self.folder / "elsewhere"
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "oneslot.sock").symlink_to(self.data / "oneslot.sock")
        (folder / "oneslot.yaml").write_text(change(self.config_path.read_text()))
        ACCOUNT.own_tree(folder)
        argv = [self.programs.path("oneslot-sink"), name, "-c", str(folder / "oneslot.yaml")]
        process = Process(argv, self.folder / "900-rival.log", folder, self.env)
        self.processes.append(process)
        yield process
        process.end(signal.SIGKILL)

    # --- waiting for it

    def wait(self, predicate: Callable[[], T], timeout: float, what: str) -> T:
        """wait_until, with the end of the logs in the message when it does not come true."""
        try:
            return wait_until(predicate, timeout, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log_tail()}") from None

    def wait_serving(self, timeout: float = 30.0) -> None:
        self.wait(lambda: self.http.get("/healthz").status == 200, timeout, "the broker answers")

    def wait_state(self, state: str, timeout: float = 30.0) -> dict[str, Any]:
        """Until the source is connecting, streaming, retrying, refused ...; its entry of /lag."""

        def reached() -> dict[str, Any] | None:
            source = self.lag()["source"]
            return source if source["state"] == state else None

        found = self.wait(reached, timeout, f"the source is {state}")
        assert found is not None
        return found

    def wait_streaming(self, timeout: float = 30.0) -> None:
        self.wait_state("streaming", timeout)

    def wait_durable(self, pg: Postgres, timeout: float = 60.0) -> int:
        """Until all that pg has committed before this call is in the log; the LSN that was waited for."""
        wanted = pg.flush_lsn()

        def durable() -> bool:
            reached = self.lag()["source"]["durable_lsn"]
            return reached is not None and lsn(reached) >= wanted

        self.wait(durable, timeout, f"durable_lsn >= {wanted >> 32:X}/{wanted & 0xFFFFFFFF:X}")
        return wanted

    def wait_settled(self, name: str = "file", timeout: float = 60.0) -> None:
        """Until the sink has settled everything that the log holds now."""
        self.wait(lambda: self.sink(name).get("records_behind") == 0, timeout, f"sink {name} is level with the log")

    def wait_caught_up(self, pg: Postgres, timeout: float = 60.0) -> None:
        self.wait_durable(pg, timeout)
        for name in self.config["sinks"]:
            self.wait_settled(name, timeout)

    # --- its logs

    def log_files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9][0-9][0-9]-*.log"))

    def log_text(self, process: Process | None = None) -> str:
        """Of one process started here (and its children), or of all."""
        if process is not None:
            return process.text()
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in self.log_files())

    def log_contains(self, pattern: str, process: Process | None = None) -> bool:
        return re.search(pattern, self.log_text(process)) is not None

    def log_tail(self, lines: int = 40) -> str:
        parts = []
        for path in self.log_files()[-4:]:
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            parts.append(f"--- {path.name}\n" + "\n".join(text))
        return "\n".join(parts)

    # --- the end

    def close(self) -> list[str]:
        """Ends everything; what was wrong, one sentence each."""
        problems = []
        for process in self.processes:
            if not process.end():
                problems.append(f"{process.argv[0]} {process.argv[1:2]} did not end within 20 s after SIGTERM")
        problems += self._end_leftovers()
        for path in self.log_files():
            problems += _broken_lines(path, self.allowed)
        return problems

    def _end_leftovers(self) -> list[str]:
        try:
            wait_until(lambda: not self.pids(), 10, "children are gone")
            return []
        except TimeoutError:
            left = [" ".join(argv) for _, argv in processes_with("ONESLOT_TEST_ID", self.id, only="oneslot")]
            self.kill("")
            return [f"left running: {left}"]


def _roles(argv: list[str]) -> set[str]:
    program = os.path.basename(argv[0])
    if program == "oneslot":
        return {argv[1]} if len(argv) > 1 else set()
    if program == "oneslot-sink":
        return {"sink", *(f"sink:{word}" for word in argv[1:])}
    return {program.removeprefix("oneslot-")}


def _broken_lines(path: Path, allowed: str) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(text):
        if BROKEN.search(line) and not (allowed and re.search(allowed, line)):
            return [f"{path.name}: " + "\n".join(text[number : number + 40])]
    return []


