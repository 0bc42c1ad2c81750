"""Whatever a person gets wrong is refused with a sentence that says what to do, with the documented exit status,
and before anything is touched; whatever is wrong with the server holds `run` up, never ends it, and goes on when
it is mended with the SQL that `check` prints."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import Oneslot, Postgres, WorkFolder, free_port, wait_until
from harness.oneslot import yaml_of
from harness.system import ACCOUNT, Programs

DONE, FAILED, USAGE, UNREACHABLE, CONFIG = 0, 1, 2, 69, 78
MINIMAL = 'source: {dsn: "host=127.0.0.1 port=1 dbname=app user=oneslot"}\n'

Completed = subprocess.CompletedProcess[str]


def assert_refused(done: Completed, status: int, *words: str) -> None:
    """One sentence on standard error with these words, nothing on standard output."""
    assert done.returncode == status, (done.args, done.returncode, done.stdout, done.stderr)
    for word in words:
        assert re.search(word, done.stderr), f"{done.args}: no {word!r} in {done.stderr!r}"
    assert done.stdout == "", done.stdout
    assert done.stderr.startswith("oneslot"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def assert_folder_untouched(oneslot: Oneslot) -> None:
    made = sorted(p.name for p in oneslot.folder.iterdir() if p.suffix != ".log" and p.name != "oneslot.yaml")
    assert not [name for name in made if name in ("data", "changes.ndjson")], made


def assert_server_untouched(pg: Postgres) -> None:
    assert pg.sql("SELECT slot_name FROM pg_replication_slots") == []
    assert pg.sql("SELECT pubname FROM pg_publication") == []


# --- bad usage


@pytest.mark.parametrize(
    "args, words",
    [
        ([], ["which command", "--help"]),
        (["bogus"], ["unknown command bogus", "--help"]),
        (["verfiy"], ["did you mean verify"]),
        (["--bogus"], ["unknown command --bogus"]),
        (["run", "--bogus"], ["unknown option --bogus", "oneslot run --help"]),
        (["run", "-x"], ["unknown option -x", "oneslot run --help"]),
        (["tail", "--folow"], ["did you mean --follow"]),
        (["tail", "--from"], ["--from needs a value"]),
        (["tail", "--limit", "none"], ["--limit must be a whole number"]),
        (["tail", "--limit", "0"], ["--limit must be a whole number"]),
        (["tail", "--json=yes"], ["--json takes no value"]),
        (["lag", "more"], ["unexpected argument 'more'"]),
        (["lag", "--token-file", "x"], ["not in this version"]),
        (["backfill", "public.t"], ["not in this version"]),
        (["backup", "x"], ["not in this version"]),
    ],
)
def test_bad_usage_ends_with_2(make_oneslot: Callable[..., Oneslot], args: list[str], words: list[str]) -> None:
    oneslot = make_oneslot()
    assert_refused(oneslot.cli(*args, config=False), USAGE, *words)
    assert_folder_untouched(oneslot)


def run_program(oneslot: Oneslot, program: str, *args: str) -> Completed:
    return subprocess.run(
        [oneslot.programs.path(program), *args],
        cwd=oneslot.folder,
        env=oneslot.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **ACCOUNT.popen_options(),  # type: ignore[call-overload]
    )


def test_the_other_programs_refuse_bad_usage_too(make_oneslot: Callable[..., Oneslot]) -> None:
    oneslot = make_oneslot()
    for program, args in (
        ("oneslot-replicator", ["--bogus"]),
        ("oneslot-replicator", ["-c"]),
        ("oneslot-replicator", ["--check", "--drop"]),
        ("oneslot-sink", ["--bogus"]),
        ("oneslot-sink", []),
        ("oneslot-sink", ["-c"]),
    ):
        done = run_program(oneslot, program, *args)
        assert_refused(done, USAGE, "--help")
    assert_folder_untouched(oneslot)


# --- bad configuration

BAD_CONFIGURATIONS = {
    "unknown key": (MINIMAL + "segment_bytes: 1MiB\n", ":2:1: `segment_bytes` is not a key here; these are: "),
    "unknown key in a section": (MINIMAL + "log:\n  colour: red\n", ":3:3: `colour` is not a key here.*retain_age"),
    "unknown key of a kind": (
        MINIMAL + "sinks:\n  f: {kind: file, path: ./x, colour: red}\n",
        r":3:\d+: `colour` is not a key here.*path",
    ),
    "repeated key": (MINIMAL + "log_level: info\nlog_level: debug\n", ":3:1: .*`?log_level"),
    "wrong type: size": (MINIMAL + "log: {segment_bytes: big}\n", ":2:.*`segment_bytes` must be a size.*MiB"),
    "wrong type: time": (MINIMAL + "log: {retain_age: 7 days}\n", ":2:.*`retain_age` must be a time.*30s"),
    "wrong type: bool": (MINIMAL + 'allow_unsafe_filesystem: "yes"\n', ":2:.*must be true or false"),
    "wrong type: choice": (MINIMAL + "log_level: loud\n", ":2:12: `log_level` must be one of: error, warn, info, debug"),
    "wrong type: mapping": (MINIMAL + "log: 5\n", ":2:6: `log` must be a mapping"),
    "wrong type: a text": ("source:\n  dsn: [1, 2]\n", ":2:8: `dsn` must be a single value"),
    "no value": ("source:\n  dsn:\n", ":2:.*`dsn` has no value"),
    "out of range": (MINIMAL + "log: {segment_bytes: 1KiB}\n", ":2:.*`segment_bytes` is out of range"),
    "required": ("data_dir: ./data\n", "`source` is missing here and required"),
    "not a mapping": ("- 1\n", ":1:1: a configuration is a mapping"),
    "not YAML": ("source: {dsn: x\n", r":\d+:\d+: "),
    "not a connection": ("source: {dsn: nonsense}\n", "`dsn` must be a libpq connection string"),
    "listen beyond loopback": (MINIMAL + "listen: 0.0.0.0:7432\n", "beyond this machine is not in this version"),
    "listen beyond loopback, IPv6": (MINIMAL + 'listen: "[::]:7432"\n', "beyond this machine is not in this version"),
    "listen without a port": (MINIMAL + "listen: localhost\n", "`listen` must be HOST:PORT"),
    "initial snapshot": (
        "source: {dsn: 'dbname=app', snapshot: initial}\n",
        ":1:.*`snapshot: initial` is not in this version",
    ),
    "tls": (MINIMAL + "tls: {cert: a, key: b}\n", "`tls` is not in this version"),
    "tokens": (MINIMAL + "tokens_file: x\n", "`tokens_file` is not in this version"),
    "a table pattern": ("source: {dsn: 'dbname=app', tables: [a.b.c]}\n", r":1:\d+: .*a\.b\.c"),
    "an upper-case slot": ("source: {dsn: 'dbname=app', slot: Mine}\n", "`slot` must be .*lower-case"),
    "retention below two segments": (
        MINIMAL + "log: {segment_bytes: 1GiB, retain_bytes: 1GiB}\n",
        "`retain_bytes` must be at least twice `segment_bytes`",
    ),
    "a secret that is not there": (
        "source: {dsn: 'dbname=app', password_file: ./none}\n",
        "`password_file` cannot be read.*create the file or remove the key",
    ),
    "a variable that is not set": ("source: {dsn: 'password=${ONESLOT_NONE}'}\n", "ONESLOT_NONE is not set"),
    "a sink's name": (MINIMAL + "sinks: {Upper: {kind: file, path: x}}\n", "cannot be a sink's name"),
    "a sink's start": (MINIMAL + "sinks: {f: {kind: file, path: x, start: soon}}\n", "`start`: not a position"),
    "a sink without kind": (MINIMAL + "sinks: {f: {path: x}}\n", "`kind` is missing here and required"),
    "a sink without path": (MINIMAL + "sinks: {f: {kind: file}}\n", "`path` is missing here and required"),
    **{
        f"kind {kind}": (MINIMAL + f"sinks: {{s: {{kind: {kind}}}}}\n", f"`kind: {kind}` is not in this version")
        for kind in ("fabric", "rag", "kafka")
    },
}


@pytest.mark.parametrize("name", BAD_CONFIGURATIONS)
def test_a_bad_configuration_ends_with_78_and_its_place(make_oneslot: Callable[..., Oneslot], name: str) -> None:
    text, pattern = BAD_CONFIGURATIONS[name]
    oneslot = make_oneslot()
    oneslot.write_config(text)
    for command in ("run", "config"):
        assert_refused(oneslot.cli(command), CONFIG, pattern, r"oneslot\.yaml:\d+:\d+: ")
    assert_folder_untouched(oneslot)


def test_every_command_refuses_a_bad_configuration(make_oneslot: Callable[..., Oneslot]) -> None:
    oneslot = make_oneslot(config={"colour": "red"})
    place = r"oneslot\.yaml:\d+:1: `colour` is not a key here"
    for command in ("run", "broker", "check", "config", "lag", "tail", "verify", "uninstall"):
        assert_refused(oneslot.cli(command), CONFIG, place, f"oneslot {command}: ")
    for program, more in (("oneslot-replicator", []), ("oneslot-sink", ["file"])):
        assert_refused(run_program(oneslot, program, "-c", str(oneslot.config_path), *more), CONFIG, place)
    assert_folder_untouched(oneslot)


def test_a_missing_configuration_is_named(make_oneslot: Callable[..., Oneslot], work: WorkFolder) -> None:
    oneslot = make_oneslot()
    oneslot.config_path.unlink()
    for command in ("run", "broker", "check", "config", "lag", "tail", "verify", "uninstall"):
        assert_refused(oneslot.cli(command), CONFIG, "there is no such file", "-c FILE", "dsn")
    assert_folder_untouched(oneslot)


# --- a machine that is not as it should be


def test_commands_without_a_broker_end_with_69(make_oneslot: Callable[..., Oneslot]) -> None:
    oneslot = make_oneslot()
    for args in (["lag"], ["tail"], ["tail", "-f"], ["lag", "--url", f"http://127.0.0.1:{free_port()}"]):
        assert_refused(oneslot.cli(*args), UNREACHABLE, "broker|oneslot run")
    assert_folder_untouched(oneslot)


@pytest.mark.parametrize("command", ["broker", "run"])
def test_a_port_that_is_taken(oneslot: Oneslot, pg: Postgres, command: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", oneslot.port))
        other.listen()
        process = oneslot.start() if command == "run" else oneslot.start_broker()
        assert process.wait(30) == FAILED
        advice = "stop what listens there or choose another port"
        assert f"cannot listen on 127.0.0.1 port {oneslot.port}: {advice}" in process.text(), process.text()
        assert_server_untouched(pg)
        assert not list(oneslot.data.glob("log/*")), "no log was made"


def test_a_second_broker_of_a_folder_is_refused(make_oneslot: Callable[..., Oneslot]) -> None:
    first = make_oneslot()
    first.start_broker()
    first.wait_serving()
    before = sorted(path.name for path in first.data.rglob("*"))
    port = free_port()
    other = make_oneslot(config={"data_dir": str(first.data), "listen": f"127.0.0.1:{port}"})
    process = other.start_broker()
    assert process.wait(30) == FAILED
    assert "another broker uses" in process.text(), process.text()
    assert first.http.get("/healthz").status == 200
    assert sorted(path.name for path in first.data.rglob("*")) == before


def test_a_data_folder_that_cannot_be_made(make_oneslot: Callable[..., Oneslot]) -> None:
    oneslot = make_oneslot(config={"data_dir": "/proc/none/data"})
    process = oneslot.start_broker()
    assert process.wait(20) == FAILED
    assert "/proc/none" in process.text()


@pytest.mark.parametrize("command", ["broker", "run"])
def test_a_file_system_that_is_not_safe(
    programs: Programs, make_oneslot: Callable[..., Oneslot], command: str
) -> None:
    """Everything is NFS to its processes: refused with nothing made, and taken when it is allowed."""
    oneslot = make_oneslot(env=programs.preload("statfs_shim"))
    start = oneslot.start if command == "run" else oneslot.start_broker
    process = start()
    assert process.wait(30) == FAILED
    words = f"data_dir {oneslot.data} lies on nfs, where neither locks nor syncs can be trusted; use a local disk"
    assert words in process.text() and "allow_unsafe_filesystem: true" in process.text(), process.text()
    assert_folder_untouched(oneslot)
    oneslot.data.mkdir()
    ACCOUNT.own(oneslot.data)
    assert start().wait(30) == FAILED, "a folder that is there is no better"
    assert list(oneslot.data.iterdir()) == []
    oneslot.change_config(allow_unsafe_filesystem=True)
    process = start()
    oneslot.wait_serving()
    assert re.search(r"ev=file_system .*kind=nfs", process.text()), process.text()


# --- the server's side: check


def make_bad(pg: Postgres, fault: str) -> dict[str, Any]:
    """Brings the fault about; what the configuration needs for it."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    match fault:
        case "wal_level":
            pg.set(wal_level="replica")
            pg.restart()
        case "role without replication":
            pg.sql("ALTER ROLE oneslot NOREPLICATION", user="postgres")
        case "table without identity":
            pg.sql("CREATE TABLE bare (v text)")
        case "not the owner":
            pg.sql("REVOKE app FROM oneslot", user="postgres")
            pg.sql("GRANT CREATE ON DATABASE app TO oneslot", user="postgres")
        case "no right to create a publication":
            pg.sql("REVOKE app FROM oneslot", user="postgres")
        case "slots in use":
            pg.set(max_replication_slots="1")
            pg.restart()
            pg.sql("SELECT pg_create_physical_replication_slot('theirs')", user="postgres")
        case "no wal senders":
            pg.set(max_wal_senders="0")
            pg.restart()
        case other:
            raise AssertionError(other)
    return {}


FAULTS = {
    "wal_level": ("wal_level", "replica and must be logical.*restarted"),
    "role without replication": ("role", "oneslot has no replication connection"),
    "table without identity": ("table", r"public\.bare has no replica identity.*primary key"),
    "not the owner": ("publication", "needs CREATE on the database and the ownership of each table"),
    "no right to create a publication": ("publication", "needs CREATE on the database"),
    "slots in use": ("slots", "1 of max_replication_slots = 1 in use"),
    "no wal senders": ("senders", "0 of max_wal_senders = 0 in use"),
}


def checks(oneslot: Oneslot, status: int) -> list[dict[str, Any]]:
    done = oneslot.cli("check", "--json")
    assert done.returncode == status, (done.stdout, done.stderr)
    report = json.loads(done.stdout)
    assert (report["failed"] > 0) == (status == FAILED)
    return report["checks"]


def mending_sql(found: list[dict[str, Any]], what: str, pattern: str) -> list[str]:
    failed = [check for check in found if check["result"] == "FAIL"]
    named = [check for check in failed if check["what"] == what]
    assert named and any(re.search(pattern, check["detail"]) for check in named), failed
    assert all(check["sql"] for check in named), f"no SQL that mends it: {failed}"
    return [check["sql"] for check in failed if check["sql"]]


@pytest.mark.parametrize("fault", FAULTS)
def test_check_prints_the_sql_that_mends_it(
    make_pg: Callable[..., Postgres], make_oneslot: Callable[..., Oneslot], fault: str
) -> None:
    pg = make_pg()
    oneslot = make_oneslot(pg, config=make_bad(pg, fault))
    others = pg.sql("SELECT slot_name FROM pg_replication_slots")
    what, pattern = FAULTS[fault]
    text = oneslot.cli("check")
    assert text.returncode == FAILED and re.search(pattern, text.stdout), text.stdout
    assert "must be mended" in text.stdout and "nothing was changed" in text.stdout, text.stdout
    assert pg.sql("SELECT slot_name FROM pg_replication_slots") == others
    assert pg.sql("SELECT pubname FROM pg_publication") == []
    for statement in mending_sql(checks(oneslot, FAILED), what, pattern):
        assert statement in text.stdout
        pg.sql(statement, user="postgres")
        if statement.startswith("ALTER SYSTEM"):
            pg.restart()
    checks(oneslot, DONE)
    assert oneslot.cli("check").returncode == DONE
    assert_folder_untouched(oneslot)


def password_file(oneslot: Oneslot, text: str) -> str:
    path = oneslot.folder / "secret"
    path.write_text(text + "\n", encoding="utf-8")
    path.chmod(0o600)
    ACCOUNT.own(path)
    return "./secret"


def ask_for_passwords(pg: Postgres) -> None:
    pg.sql("SET password_encryption = 'scram-sha-256'; ALTER ROLE oneslot PASSWORD 'right'", user="postgres")
    hba = pg.data / "pg_hba.conf"
    hba.write_text(
        "local all,replication all trust\nhost all,replication all 127.0.0.1/32 scram-sha-256\n", encoding="utf-8"
    )
    pg.reload()


def test_check_says_what_to_do_where_sql_cannot_help(
    pg: Postgres, make_oneslot: Callable[..., Oneslot]
) -> None:
    def complaint(config: dict[str, Any], secret: str | None = None) -> str:
        oneslot = make_oneslot(pg, config=config)
        if secret is not None:
            oneslot.change_config(source={"password_file": password_file(oneslot, secret)})
        failed = [check["detail"] for check in checks(oneslot, FAILED) if check["result"] == "FAIL"]
        assert failed
        assert_folder_untouched(oneslot)
        return "\n".join(failed)

    def dsn(**parts: str) -> dict[str, Any]:
        words = {"host": "127.0.0.1", "port": str(pg.port), "dbname": "app", "user": "oneslot", **parts}
        return {"source": {"dsn": " ".join(f"{name}={value}" for name, value in words.items())}}

    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    pg.sql("CREATE VIEW v AS SELECT 1")
    unreachable = complaint(dsn(port=str(free_port())))
    assert "cannot connect to PostgreSQL" in unreachable and "source.dsn" in unreachable
    assert "dbname of source.dsn" in complaint(dsn(dbname="none"))
    assert "user and password of source.dsn" in complaint(dsn(user="nobody"))
    for table in ("public.none", "public.T", "public.v"):
        missing = complaint({"source": {"tables": [table]}})
        assert f"no ordinary or partitioned table {table}" in missing, missing
    nothing = complaint({"source": {"tables": None}})
    assert "publication oneslot does not exist, and source.tables names no table" in nothing
    pg.sql("SELECT pg_create_physical_replication_slot('oneslot')", user="postgres")
    assert "not a pgoutput slot; choose another source.slot" in complaint({})
    pg.sql("SELECT pg_drop_replication_slot('oneslot')", user="postgres")
    ask_for_passwords(pg)
    assert "source.password_file" in complaint({})
    wrong = complaint({}, secret="wrong")
    assert "28P01" in wrong and "password" in wrong
    assert "wrong" not in wrong.replace("wrong password", ""), "no secret in a message"
    assert_server_untouched(pg)
    right = make_oneslot(pg)
    right.change_config(source={"password_file": password_file(right, "right")})
    checks(right, DONE)


def test_a_publication_that_is_gone_under_its_slot(pg: Postgres, make_oneslot: Callable[..., Oneslot]) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    oneslot = make_oneslot(pg)
    oneslot.start()
    oneslot.wait_streaming()
    oneslot.stop()
    pg.sql("DROP PUBLICATION oneslot", user="postgres")
    failed = [check["detail"] for check in checks(oneslot, FAILED) if check["result"] == "FAIL"]
    assert any("slot oneslot does and its changes need it" in detail for detail in failed), failed
    oneslot.start()
    source = oneslot.wait_state("refused")
    assert "publication oneslot does not exist, but slot oneslot does" in source["last_error"]
    assert pg.sql("SELECT pubname FROM pg_publication") == []


# --- the server's side: run goes on


def test_run_outlives_whatever_is_wrong_with_the_source(
    make_pg: Callable[..., Postgres], make_oneslot: Callable[..., Oneslot]
) -> None:
    """Each fault is said in /lag, changes nothing, and is left behind as soon as it is mended."""
    pg = make_pg(settings={"wal_level": "replica"})
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    pg.sql("CREATE TABLE bare (v text)")
    pg.sql("REVOKE app FROM oneslot", user="postgres")
    pg.sql("ALTER ROLE oneslot NOREPLICATION", user="postgres")
    pg.stop()
    oneslot = make_oneslot(pg, tables=["public.t", "public.bare", "public.late"])
    process = oneslot.start()

    def reports(state: str, pattern: str) -> bool:
        source = oneslot.lag()["source"]
        return source["state"] == state and re.search(pattern, source["last_error"] or "") is not None

    def expect(state: str, pattern: str) -> None:
        oneslot.wait(lambda: reports(state, pattern), 40, f"the source is {state}: {pattern}")
        assert process.is_running()
        assert oneslot.http.get("/healthz").status == 200
        ready = oneslot.http.get("/readyz")
        assert ready.status == (503 if state == "refused" else 200), ready
        if pg.is_running():
            assert_server_untouched(pg)

    expect("retrying", "cannot connect to PostgreSQL.*is it running")
    pg.start()
    expect("refused", "REPLICATION|replication")
    pg.sql("ALTER ROLE oneslot REPLICATION", user="postgres")
    pg.set(wal_level="logical")  # in vain until the restart
    expect("refused", "wal_level.*restart")
    pg.sql("CREATE TABLE late (id int PRIMARY KEY)")
    pg.restart()
    expect("refused", "no replica identity.*primary key.*public")
    pg.sql("ALTER TABLE bare REPLICA IDENTITY FULL")
    expect("refused", "publication oneslot cannot be created.*SQLSTATE 42501")
    pg.sql("GRANT app TO oneslot", user="postgres")
    oneslot.wait_streaming()
    assert oneslot.lag()["source"]["last_error"] is None
    assert oneslot.http.get("/readyz").status == 200
    pg.sql("INSERT INTO t VALUES (1); INSERT INTO late VALUES (2)")
    oneslot.wait_caught_up(pg)
    assert [change["table"] for change in oneslot.changes()] == ["t", "late"]


def test_run_waits_for_a_missing_table_and_a_password(
    pg: Postgres, make_oneslot: Callable[..., Oneslot]
) -> None:
    oneslot = make_oneslot(pg, tables=["public.late"])
    ask_for_passwords(pg)
    oneslot.change_config(source={"password_file": password_file(oneslot, "wrong")})
    process = oneslot.start()
    source = oneslot.wait_state("refused")
    assert re.search("28P01.*password of source.dsn", source["last_error"]), source
    password_file(oneslot, "right")
    oneslot.wait(
        lambda: "no ordinary or partitioned table public.late" in (oneslot.lag()["source"]["last_error"] or ""),
        40,
        "the missing table is named",
    )
    assert_server_untouched(pg)
    pg.sql("CREATE TABLE late (id int PRIMARY KEY)")
    oneslot.wait_streaming(40)
    assert process.is_running()
    assert "right" not in oneslot.log_text().replace("copyright", ""), "no secret in the logs"
