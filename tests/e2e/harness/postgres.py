"""A real PostgreSQL server of a test's own. The data folder is copied from a template made once per session,
so a start takes well below a second. Role `oneslot` has REPLICATION and may publish what role `app` owns;
`app` owns database `app` and its tables; `postgres` is the superuser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Mapping, Sequence

import psycopg
from psycopg.rows import tuple_row

from harness.system import ACCOUNT, Process, WorkFolder, base_environment, free_port, lsn, wait_until

DATABASE = "app"
_CONF = {
    "listen_addresses": "'127.0.0.1'",
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "fsync": "off",  # a test never takes the machine down: only oneslot's own syncs matter
    "max_wal_size": "4GB",
    "log_min_messages": "info",
    "log_replication_commands": "on",
    "log_line_prefix": "'%m [%p] %q%u %a '",
    "timezone": "'Europe/Vienna'",  # so that a text that follows the server's zone is noticed
    "datestyle": "'SQL, DMY'",
}
_ROLES = """
CREATE ROLE app LOGIN;
CREATE ROLE oneslot LOGIN REPLICATION IN ROLE app;
"""


def binaries() -> Path:
    """The newest server of this machine, or ONESLOT_PG_BIN."""
    if "ONESLOT_PG_BIN" in os.environ:
        return Path(os.environ["ONESLOT_PG_BIN"])
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: float(p.parts[-3]))
    if not found:
        raise FileNotFoundError("no PostgreSQL under /usr/lib/postgresql: run deploy/install-deps tests")
    return found[-1].parent


class Postgres:
    _templates: dict[Path, Path] = {}

    def __init__(
        self,
        work: WorkFolder,
        settings: Mapping[str, str] | None = None,
        new_cluster: bool = False,
        bin_folder: Path | None = None,
    ) -> None:
        """new_cluster: a system identifier of its own (copies of the template share theirs)."""
        self.work = work
        self.bin = bin_folder or binaries()
        self.folder = work.new("p")
        self.data = self.folder / "data"
        self.port = free_port()
        self.settings = {**_CONF, **(settings or {})}
        self._process: Process | None = None
        if new_cluster:
            self._initdb(self.data)
            self._write_settings()
            self.start()
            self._create_roles()
        else:
            self._copy(self._template(), self.data)
            self._write_settings()

    # --- life

    def start(self, timeout: float = 60.0) -> "Postgres":
        assert not self.is_running(), "this server is running already"
        argv = [str(self.bin / "postgres"), "-D", str(self.data)]
        self._process = Process(argv, self.folder / "server.log", self.folder, base_environment(self.folder))
        wait_until(self._is_ready, timeout, f"PostgreSQL accepts connections, see {self.folder}/server.log")
        return self

    def stop(self, mode: str = "fast", timeout: float = 30.0) -> float:
        """Like pg_ctl stop -m MODE; returns the seconds it took, TimeoutExpired beyond the timeout."""
        numbers = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        assert self._process is not None
        began = time.monotonic()
        self._process.send(numbers[mode])
        self._process.wait(timeout)
        return time.monotonic() - began

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def close(self) -> None:
        if self.is_running():
            assert self._process is not None
            self._process.end(signal.SIGQUIT, timeout=10)

    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running()

    def set(self, **settings: str) -> None:
        """Changes settings; they count from the next start (or `reload`)."""
        self.settings.update(settings)
        self._write_settings()

    def reload(self) -> None:
        self.sql("SELECT pg_reload_conf()", user="postgres")

    def clone(self) -> "Postgres":
        """A second server from a copy of this one's folder, as a restored backup would be. This one is stopped."""
        assert not self.is_running(), "stop the server before it is cloned"
        other = Postgres(self.work, self.settings, bin_folder=self.bin)
        shutil.rmtree(other.data)
        other._copy(self.data, other.data)
        other._write_settings()
        return other

    # --- talking to it

    def dsn(self, user: str = "oneslot", database: str = DATABASE, unix: bool = False) -> str:
        host = str(self.folder) if unix else "127.0.0.1"
        return f"host={host} port={self.port} dbname={database} user={user}"

    def connect(self, user: str = "app", database: str = DATABASE, **options: Any) -> psycopg.Connection:
        """Autocommit, unless options say otherwise."""
        options.setdefault("autocommit", True)
        return psycopg.connect(self.dsn(user, database, unix=True), **options)

    def sql(
        self, statement: str, args: Sequence[Any] | None = None, user: str = "app", database: str = DATABASE
    ) -> list[tuple[Any, ...]]:
        """Runs it in a connection of its own; the rows, if it has any. Several statements need args=None."""
        with self.connect(user, database, row_factory=tuple_row) as connection:
            cursor = connection.execute(statement, args)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, args: Sequence[Any] | None = None, user: str = "app") -> Any:
        return self.sql(statement, args, user)[0][0]

    def flush_lsn(self) -> int:
        """Everything committed before this call ends at or below it."""
        return lsn(self.value("SELECT pg_current_wal_flush_lsn()::text"))

    def emit(self, content: str) -> None:
        """A message outside any transaction, flushed: no commit does that, and until the server has done it by itself
        a crash loses it, and nobody is sent it."""
        end = lsn(self.value("SELECT pg_logical_emit_message(false, 'app', %s)::text", [content]))
        wait_until(lambda: self.flush_lsn() >= end, 30, "the server flushes the message")

    def slot(self, name: str = "oneslot") -> dict[str, Any]:
        """Its row of pg_replication_slots, LSNs as text; empty where there is no such slot."""
        rows = self.sql(
            "SELECT row_to_json(s)::text FROM pg_replication_slots s WHERE slot_name = %s", [name], "postgres"
        )
        return json.loads(rows[0][0]) if rows else {}

    def log_text(self) -> str:
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    # --- making it

    def _is_ready(self) -> bool:
        assert self._process is not None
        if not self._process.is_running():
            raise AssertionError(f"PostgreSQL did not start:\n{self.log_text()[-4000:]}")
        with psycopg.connect(self.dsn("postgres", "postgres", unix=True), connect_timeout=5):
            return True

    def _write_settings(self) -> None:
        lines = [f"{name} = {value}" for name, value in self.settings.items()]
        lines += [f"port = {self.port}", f"unix_socket_directories = '{self.folder}'"]
        path = self.data / "postgresql.conf"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        ACCOUNT.own(path)

    def _template(self) -> Path:
        if self.bin not in self._templates:
            path = self.work.new("template") / "data"
            self._initdb(path)
            maker = object.__new__(Postgres)
            maker.__dict__.update(self.__dict__, data=path, folder=path.parent, settings=dict(_CONF))
            maker._write_settings()
            maker.start()
            maker._create_roles()
            maker.stop()
            self._templates[self.bin] = path
        return self._templates[self.bin]

    def _initdb(self, path: Path) -> None:
        self._run(
            ["initdb", "-D", str(path), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8"]
        )

    def _create_roles(self) -> None:
        self.sql(_ROLES, user="postgres", database="postgres")
        self.sql(f"CREATE DATABASE {DATABASE} OWNER app", user="postgres", database="postgres")

    def _copy(self, source: Path, target: Path) -> None:
        self._run(["cp", "-a", "--reflink=auto", str(source), str(target)])

    def _run(self, argv: list[str]) -> None:
        local = self.bin / argv[0]
        done = subprocess.run(
            [str(local) if local.exists() else argv[0], *argv[1:]],
            cwd=self.work.path,
            env=base_environment(self.work.path),
            capture_output=True,
            text=True,
            check=False,
            **ACCOUNT.popen_options(),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{argv[0]} failed: {done.stdout}{done.stderr}"
