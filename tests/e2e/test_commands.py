"""The operator's commands against a real system: tail, lag, config, verify, uninstall, version, and --help of all."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from harness import Oneslot, Postgres, wait_until
from harness.system import ACCOUNT, Process

COMMANDS = ("run", "broker", "check", "config", "lag", "tail", "sinks", "replay", "dead-letters", "verify")
COMMANDS += ("uninstall", "version")


@pytest.fixture
def filled(pg: Postgres, oneslot: Oneslot) -> Oneslot:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)")
    pg.sql("ALTER TABLE t REPLICA IDENTITY FULL")
    oneslot.start()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t VALUES (1, 'a b'), (2, E'\\x1b[31mred\\n')")
    pg.sql("UPDATE t SET v = 'c' WHERE id = 1")
    pg.sql("DELETE FROM t WHERE id = 1; INSERT INTO u VALUES (7); TRUNCATE u")
    oneslot.wait_caught_up(pg)
    return oneslot


def text(oneslot: Oneslot, *args: str) -> str:
    done = oneslot.cli(*args)
    assert done.returncode == 0 and done.stderr == "", (done.returncode, done.stderr)
    return done.stdout


def lines(oneslot: Oneslot, *args: str) -> list[str]:
    return text(oneslot, *args).splitlines()


# --- tail


def test_tail_is_readable_and_filters_like_the_api(filled: Oneslot) -> None:
    shown = lines(filled, "tail")
    bodies = [line.split(" ", 1)[1] for line in shown]
    assert bodies == [
        'insert public.t id=1 v="a b"',
        'insert public.t id=2 v="\\u001b[31mred\\n"',
        "update public.t id=1 v=c",
        "delete public.t id=1 v=c",
        "insert public.u id=7",
        "truncate public.u",
    ]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", line) for line in shown)
    assert "\x1b" not in text(filled, "tail"), "row data does not steer a terminal"
    changes = filled.changes()
    assert [json.loads(line) for line in lines(filled, "tail", "--json")] == changes
    third = changes[2]
    for args, expected in (
        (["--from", third["lsn"]], changes[2:]),
        (["--from", str(third["offset"] + 1)], changes[3:]),
        (["--from", third["ts"]], changes[2:]),
        (["--until", third["lsn"]], changes[:3]),
        (["--from", "latest"], []),
        (["--limit", "2"], changes[:2]),
        (["--tables", "public.u"], changes[4:]),
        (["--ops", "insert,delete"], [c for c in changes if c["op"] in ("insert", "delete")]),
    ):
        assert [json.loads(line) for line in lines(filled, "tail", "--json", *args)] == expected, args
        by_url = ["--url", f"http://127.0.0.1:{filled.port}"]
        done = filled.cli("tail", "--json", *args, *by_url, config=False)
        assert done.returncode == 0 and [json.loads(line) for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize(
    "args, status, words",
    [
        (["--from", "soon"], 2, "--from: not a position"),
        (["--until", "0/"], 2, "--until: not a position"),
        (["--ops", "upsert"], 2, "ops: one or more of"),
        (["--tables", "a.b.c"], 2, "more than one dot"),
        (["--from", "1"], 1, "no longer retained"),
        (["--from", "9:0/1"], 1, "epoch 9 is not in this log"),
        (["--from", "9007199254740991"], 1, "beyond the end"),
        (["--url", "localhost"], 2, "--url must look like"),
    ],
)
def test_tail_says_what_is_wrong(make_oneslot: Callable[..., Oneslot], args: list[str], status: int, words: str) -> None:
    oneslot = make_oneslot()
    oneslot.start_broker()
    oneslot.wait_serving()
    done = oneslot.cli("tail", *args)
    assert done.returncode == status and words in done.stderr and done.stdout == "", done


class Following:
    """A command that goes on, with its lines as they come. It is none of the processes that stop() waits for."""

    def __init__(self, oneslot: Oneslot, *args: str) -> None:
        argv = [oneslot.programs.path(), *args, "-c", str(oneslot.config_path)]
        env = {name: value for name, value in oneslot.env.items() if name != "ONESLOT_TEST_ID"}
        self.log = oneslot.folder / f"following-{time.monotonic_ns()}.txt"
        self.process = Process(argv, self.log, oneslot.folder, env)

    def wait_lines(self, count: int) -> list[str]:
        return wait_until(lambda: (found := self.lines())[count - 1 :] and found, 30, f"{count} lines in {self.log}")

    def lines(self) -> list[str]:
        return [line for line in self.process.text().splitlines() if not line.startswith("oneslot ")]

    def end(self) -> int:
        self.process.send(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def follow() -> Iterator[Callable[..., Following]]:
    made: list[Following] = []

    def begin(oneslot: Oneslot, *args: str) -> Following:
        made.append(Following(oneslot, *args))
        return made[-1]

    yield begin
    for following in made:
        assert following.process.end(), f"{following.process.argv} does not end"


def test_tail_follows_across_a_restart_without_gap_or_repetition(
    pg: Postgres, filled: Oneslot, follow: Callable[..., Following]
) -> None:
    before = filled.changes()
    following = follow(filled, "tail", "-f", "--json", "--from", "earliest")
    assert len(following.wait_lines(6)) == 6
    from_now = follow(filled, "tail", "-f", "--json")
    limited = follow(filled, "tail", "-f", "--limit", "8", "--from", "earliest")
    limited.wait_lines(6)
    filled.wait(lambda: b"\noneslot_readers 3\n" in filled.http.get("/metrics").body, 20, "all three follow")
    filled.kill_and_wait("broker")
    filled.wait_serving()
    filled.wait_streaming()
    pg.sql("INSERT INTO u VALUES (8)")
    following.wait_lines(7)
    filled.stop()
    pg.sql("INSERT INTO u VALUES (9)")
    wait_until(lambda: "the broker is away" in following.process.text(), 20, "it says that it waits")
    filled.start()
    following.wait_lines(8)
    filled.wait_caught_up(pg)
    expected = filled.changes()
    assert len(expected) == 8 and expected[:6] == before
    assert [json.loads(line) for line in following.lines()] == expected
    assert limited.process.wait(20) == 0, "it ends at its limit"
    assert len(limited.lines()) == 8
    assert [json.loads(line) for line in from_now.wait_lines(2)] == expected[6:]
    assert following.end() == 0 and from_now.end() == 0


def test_tail_into_a_closed_pipe_ends_with_the_next_line(pg: Postgres, filled: Oneslot) -> None:
    argv = [filled.programs.path(), "tail", "-f", "--from", "earliest", "-c", str(filled.config_path)]
    options = ACCOUNT.popen_options()
    with subprocess.Popen(argv, env=filled.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as tail:  # type: ignore[call-overload]
        assert b"insert public.t" in tail.stdout.readline()
        tail.stdout.close()
        pg.sql("INSERT INTO u VALUES (8)")
        assert tail.wait(20) == 1 and tail.stderr.read() == b""


# --- lag


def test_lag_shows_source_log_and_sinks(
    pg: Postgres, filled: Oneslot, follow: Callable[..., Following]
) -> None:
    filled.wait(lambda: filled.lag()["source"]["wal_status"], 20, "the server has been asked")
    page = text(filled, "lag")
    assert re.search(r"^source +streaming, slot oneslot, .* behind the server; WAL kept for us .*\(reserved\)", page)
    assert re.search(r"^log +6 records, .* in segments: 1; free on its disk ", page, re.MULTILINE)
    header, row = (line for line in page.splitlines() if line.startswith(("SINK", "file")))
    assert header.split()[:4] == ["SINK", "KIND", "STATE", "BEHIND"] and row.split()[:4] == ["file", "file", "running", "0"]
    asked = json.loads(text(filled, "lag", "--json"))
    assert set(asked) == {"source", "log", "sinks"} and asked["sinks"][0]["name"] == "file"
    assert asked["log"] == {**filled.lag()["log"], "disk_free_bytes": asked["log"]["disk_free_bytes"]}
    watching = follow(filled, "lag", "--watch", "--json")
    assert len(watching.wait_lines(3)) >= 3 and all(json.loads(line)["log"]["records"] == 6 for line in watching.lines())
    assert watching.end() == 0
    pg.stop()
    filled.wait_state("retrying")
    page = text(filled, "lag")
    assert page.startswith("source  retrying") and "last error: " in page


# --- config


def test_config_masks_secrets_and_is_a_configuration(make_oneslot: Callable[..., Oneslot]) -> None:
    for dsn in (
        "host=127.0.0.1 port=1 dbname=app user=oneslot password=geheim",
        "host=127.0.0.1 password='ge heim' dbname=app",
        "postgresql://oneslot:geheim@127.0.0.1:1/app",
        "postgresql://127.0.0.1/app?user=oneslot&password=geheim",
        "dbname=app password=${SECRET}",
    ):
        oneslot = make_oneslot(config={"source": {"dsn": dsn}})
        done = oneslot.cli("config", env={"SECRET": "geheim"})
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert "heim" not in done.stdout and "********" in done.stdout, done.stdout
        assert "segment_bytes: 512MiB" in done.stdout and "retain_age: 7d" in done.stdout, "defaults are filled in"
        assert f"data_dir: {oneslot.data}" in done.stdout.replace('"', "").replace("'", ""), "paths are absolute"
        oneslot.write_config(done.stdout)
        assert oneslot.cli("config").stdout == done.stdout, "what it prints is a configuration of the same effect"
        assert not oneslot.data.exists()


def test_config_as_json_says_the_same(make_oneslot: Callable[..., Oneslot]) -> None:
    folded = {"kind": "elasticsearch", "url": "http://127.0.0.1:1", "mapping": {"a.b.c": "${KIND}", "a.b.d": "none"}}
    changes: dict[str, Any] = {
        "source": {"dsn": "host=127.0.0.1 password=geheim dbname=app"},
        "log": {"retain_age": "36h"},
        "sinks": {"-h": {"kind": "null"}, "search": folded, "file": {"tables": ["a", "b.*"], "enabled": False}},
    }
    oneslot = make_oneslot(config=changes)
    done = oneslot.cli("config", "--json", env={"KIND": "geheim"})
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 1, done
    assert "heim" not in done.stdout
    found = json.loads(done.stdout)
    sinks = found.pop("sinks")
    assert found == {
        "data_dir": str(oneslot.data),
        "allow_unsafe_filesystem": False,
        "log_level": "info",
        "listen": f"127.0.0.1:{oneslot.port}",
        "source": {
            "dsn": "host=127.0.0.1 password=******** dbname=app",
            "slot": "oneslot",
            "publication": "oneslot",
            "tables": oneslot.config["source"]["tables"],
            "snapshot": "never",
        },
        "log": {
            "segment_bytes": "512MiB",
            "retain_age": "36h",
            "retain_bytes": "50GiB",
            "when_full": "block",
            "compression": "none",
        },
    }
    common = {"start": "earliest", "enabled": True, "lanes": 4, "reject_limit": 5}
    assert list(sinks) == list(oneslot.config["sinks"]), "in the order of the file"
    file = {"kind": "file", "path": str(oneslot.folder / "changes.ndjson"), "tables": ["a", "b.*"]}
    assert sinks["file"] == {**common, **file, "enabled": False}
    assert sinks["-h"] == {**common, "kind": "null", "delay": "0s"}
    assert sinks["search"] == {
        **common,
        "kind": "elasticsearch",
        "url": ["http://127.0.0.1:1"],
        "index": "{schema}.{table}",
        "mapping": {"a.b.c": "********", "a.b.d": "none"},
        "compression": "auto",
        "timeout": "30s",
    }
    oneslot.change_config(sinks={"file": {"path": None}})
    refused = oneslot.cli("config", "--json", env={"KIND": "x"})
    assert refused.returncode == 78 and refused.stdout == "" and "`path` is missing here" in refused.stderr


# --- verify


def test_verify_with_and_without_a_broker(pg: Postgres, filled: Oneslot) -> None:
    done = filled.cli("verify")
    assert done.returncode == 0 and re.search(r"^ok +\d{20}  6 records, .*not sealed yet", done.stdout), done
    assert "all good: 1 segment" in done.stdout and "6 records read" in done.stdout
    pg.sql("INSERT INTO u VALUES (8)")
    filled.wait_durable(pg)
    filled.stop()
    report = json.loads(text(filled, "verify", "--json"))
    assert report["ok"] is True and report["segments"][0]["records"] == 7
    assert filled.cli("verify").returncode == 0, "verify leaves the lock"


def test_verify_while_segments_roll_and_go(pg: Postgres, make_oneslot: Callable[..., Oneslot]) -> None:
    log = {"segment_bytes": "1MiB", "retain_bytes": "4MiB"}
    oneslot = make_oneslot(pg, config={"log": log, "sinks": None})
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot.start()
    oneslot.wait_streaming()
    for number in range(12):
        pg.sql("INSERT INTO t SELECT %s + i, repeat('x', 1000) FROM generate_series(1, 1000) i", [number * 1000])
        done = oneslot.cli("verify")
        assert done.returncode == 0, done.stdout
    oneslot.wait_durable(pg)
    assert len(json.loads(text(oneslot, "verify", "--json"))["segments"]) > 2


def test_verify_without_a_log_says_so(make_oneslot: Callable[..., Oneslot]) -> None:
    done = make_oneslot().cli("verify")
    assert done.returncode == 1 and "data_dir" in done.stderr, done


# --- uninstall


def on_a_terminal(oneslot: Oneslot, args: list[str], answer: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [oneslot.programs.path(), *args, "-c", str(oneslot.config_path)],
        env=oneslot.env,
        cwd=oneslot.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        **ACCOUNT.popen_options(),  # type: ignore[call-overload]
    )
    os.close(theirs)
    shown = ""
    is_answered = False
    try:
        while select.select([ours], [], [], 30)[0]:
            piece = os.read(ours, 4096)
            if not piece:
                break
            shown += piece.decode()
            if "[y/N]" in shown and not is_answered:
                is_answered = True
                os.write(ours, answer.encode())
    except OSError:
        pass  # the terminal's other side is closed
    finally:
        os.close(ours)
    return process.wait(20), shown


def in_postgresql(pg: Postgres) -> list[str]:
    slots = pg.sql("SELECT slot_name FROM pg_replication_slots")
    return [name for (name,) in [*slots, *pg.sql("SELECT pubname FROM pg_publication")]]


def test_uninstall_asks_refuses_while_running_and_drops_both(pg: Postgres, filled: Oneslot) -> None:
    done = filled.cli("uninstall", "--yes")
    assert done.returncode == 1 and "a broker runs" in done.stderr and "stop oneslot first" in done.stderr, done
    assert in_postgresql(pg) == ["oneslot", "oneslot"]
    filled.stop()
    done = filled.cli("uninstall")
    assert done.returncode == 2 and "--yes" in done.stderr, done
    for answer in ("n\n", "\n", "yesterday\n"):
        status, shown = on_a_terminal(filled, ["uninstall"], answer)
        assert status == 1 and "nothing was dropped" in shown, shown
        assert "Drop the slot oneslot and the publication oneslot?" in shown
    assert in_postgresql(pg) == ["oneslot", "oneslot"]
    status, shown = on_a_terminal(filled, ["uninstall"], "y\n")
    assert status == 0 and "slot oneslot: dropped" in shown and "publication oneslot: dropped" in shown, shown
    assert in_postgresql(pg) == []
    again = [json.loads(line) for line in lines(filled, "uninstall", "--yes", "--json")]
    assert [(entry["what"], entry["dropped"]) for entry in again] == [("slot", False), ("publication", False)]
    assert filled.data.exists(), "the log stays"
    filled.start()
    source = filled.wait_state("refused")
    assert "no longer exists" in source["last_error"] and in_postgresql(pg) == []


def test_uninstall_leaves_what_is_not_ours(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("SELECT pg_create_physical_replication_slot('oneslot')", user="postgres")
    done = oneslot.cli("uninstall", "--yes")
    assert done.returncode == 1 and "is not ours; not dropped" in done.stderr, done
    assert in_postgresql(pg) == ["oneslot"]
    pg.stop()
    done = oneslot.cli("uninstall", "--yes")
    assert done.returncode == 1 and "cannot connect to PostgreSQL" in done.stderr, done


# --- version and help


def test_version_names_programs_and_libraries(make_oneslot: Callable[..., Oneslot]) -> None:
    oneslot = make_oneslot()
    shown = lines(oneslot, "version")
    version = re.fullmatch(r"oneslot (\d+\.\d+\.\d+)", shown[0])
    assert version and shown[1:3] == [f"oneslot-replicator {version[1]}", f"oneslot-sink {version[1]}"]
    assert any("liblmdb" in line for line in shown)
    assert json.loads(text(oneslot, "version", "--json"))["version"] == version[1]
    assert oneslot.cli("--version", config=False).stdout == "\n".join(shown) + "\n"


def test_every_command_has_help(make_oneslot: Callable[..., Oneslot]) -> None:
    oneslot = make_oneslot()

    def shown(*args: str) -> str:
        done = oneslot.cli(*args, config=False)
        assert done.returncode == 0 and done.stderr == "", done
        assert max(map(len, done.stdout.splitlines())) <= 130, "it fits a terminal"
        return done.stdout

    overview = shown("--help")
    assert shown("-h") == shown("help") == overview
    assert "0 done, 1 failed, 2 bad usage, 69 broker unreachable, 78 bad configuration" in overview
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", overview, re.MULTILINE), command
        page = shown(command, "--help")
        assert page.startswith(f"Usage: oneslot {command} ") and "Examples:" in page and "-c, --config FILE" in page
        assert shown(command, "-h") == shown("help", command) == page
    assert not (oneslot.folder / "data").exists()
    for key in ("data_dir", "segment_bytes", "when_full", "start"):
        assert key in shown("config", "--help"), "the keys of the configuration are listed"
    for program in ("oneslot-replicator", "oneslot-sink"):
        done = subprocess.run([oneslot.programs.path(program), "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "Exit status" in done.stdout, program
