"""Damage is reported, never served and never cut away: a flipped byte, a torn file, a missing or foreign segment, a
damaged MANIFEST, a format of tomorrow. Each by `verify`, by readers, and where it stops the broker, by the broker."""

from __future__ import annotations

import http.client
import json
import random
import re
import shutil
import socket
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import Oneslot, Postgres, WorkFolder, check_log
from harness.system import ACCOUNT

PAGE = 4096
MARK = b"needle-%05d-"


def word(number: int) -> bytes:
    return MARK % number


LOG = {"log": {"segment_bytes": "1MiB"}, "sinks": None}


def fill(pg: Postgres, oneslot: Oneslot) -> None:
    """Three sealed segments or more and an active one, 500 rows in each transaction; then stops it."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot.start()
    oneslot.wait_streaming()
    for number in range(12):
        pg.sql(
            "INSERT INTO t SELECT i, 'needle-' || lpad(i::text, 5, '0') || '-' || repeat(md5(i::text), 28)"
            " FROM generate_series(%s::int, %s::int) i",
            [number * 500, number * 500 + 499],
        )
        oneslot.wait_durable(pg)
    oneslot.wait(lambda: sealed(oneslot)[2:] and not unsealed(oneslot)[1:], 20, "all but the newest are sealed")
    assert check_log(oneslot.changes()) == 6000
    oneslot.stop()


_filled: dict[str, Path] = {}


@pytest.fixture
def damaged(
    session_work: WorkFolder, make_pg: Callable[..., Postgres], make_oneslot: Callable[..., Oneslot]
) -> Oneslot:
    """A log of its own to damage, without a source; filled once per session, and copied."""
    if "data" not in _filled:
        pg = make_pg()
        first = make_oneslot(pg, config=LOG)
        fill(pg, first)
        _filled["data"] = session_work.new("filled") / "data"
        shutil.copytree(first.data, _filled["data"], ignore=lambda _, names: [n for n in names if n.endswith(".sock")])
    oneslot = make_oneslot(config=LOG)
    shutil.copytree(_filled["data"], oneslot.data)
    ACCOUNT.own_tree(oneslot.data)
    return oneslot


def folders(oneslot: Oneslot) -> list[Path]:
    return sorted(path for path in (oneslot.data / "log").iterdir() if path.name.isdigit())


def sealed(oneslot: Oneslot) -> list[Path]:
    return [path for path in folders(oneslot) if (path / "MANIFEST").exists()]


def unsealed(oneslot: Oneslot) -> list[Path]:
    return [path for path in folders(oneslot) if not (path / "MANIFEST").exists()]


def numbers_in(segment: Path) -> list[int]:
    """The rows whose text lies in the file of the segment."""
    return sorted({int(found) for found in re.findall(rb"needle-(\d{5})-", (segment / "data.mdb").read_bytes())})


def flip(path: Path, at: int, bit: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))


def flip_row(segment: Path, number: int) -> None:
    """A bit in the middle of this row's text."""
    at = (segment / "data.mdb").read_bytes().index(word(number)) + len(word(number)) + 40
    flip(segment / "data.mdb", at)


def verify(oneslot: Oneslot, status: int) -> dict[str, dict[str, Any]]:
    """What it says of each segment, by name; the text must say the same."""
    done = oneslot.cli("verify", "--json")
    assert done.returncode == status, (done.stdout, done.stderr)
    report = json.loads(done.stdout)
    assert report["ok"] is (status == 0)
    text = oneslot.cli("verify")
    assert text.returncode == status
    for segment in report["segments"]:
        line = next(line for line in text.stdout.splitlines() if segment["segment"] in line)
        assert line.startswith({"ok": "ok", "damaged": "DAMAGED"}.get(segment["result"], segment["result"])), line
        if "offset" in segment and segment["result"] == "damaged":
            assert str(segment["offset"]) in line, line
    return {segment["segment"]: segment for segment in report["segments"]}


def raw_answer(oneslot: Oneslot, path: str) -> bytes:
    answer = b""
    with socket.create_connection(("127.0.0.1", oneslot.port), 20) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        try:
            while piece := s.recv(1 << 16):
                answer += piece
        except ConnectionResetError:
            pass
    return answer


def assert_readers_stop_before(oneslot: Oneslot, number: int) -> None:
    """/changes and `oneslot tail` give the rows before the damage, intact, and then break off."""
    with pytest.raises((http.client.IncompleteRead, OSError)):
        oneslot.get_changes()
    assert not raw_answer(oneslot, "/changes").endswith(b"\r\n0\r\n\r\n"), "no last chunk"
    tail = oneslot.cli("tail", "--json")
    assert tail.returncode == 1 and tail.stderr.count("\n") == 1 and tail.stderr.startswith("oneslot tail: "), tail.stderr
    got = [json.loads(line) for line in tail.stdout.splitlines()]
    ids = [change["new"]["id"] for change in got]
    assert ids == list(range(len(ids))) and len(ids) <= number, f"{len(ids)} rows before the damage at {number}"
    assert len(ids) == number, "what lies before it is served"
    for change in got:
        assert change["new"]["v"].startswith(word(change["new"]["id"]).decode())


def start_broker(oneslot: Oneslot) -> None:
    oneslot.start_broker()
    oneslot.wait_serving()


@pytest.mark.parametrize("which", ["sealed", "active"])
def test_a_flipped_bit_is_reported_and_never_served(damaged: Oneslot, which: str) -> None:
    segment = sealed(damaged)[1] if which == "sealed" else unsealed(damaged)[0]
    ids = numbers_in(segment)
    number = ids[len(ids) // 2]
    expected = verify(damaged, 0)
    assert sum(entry["records"] for entry in expected.values()) == 6000
    flip_row(segment, number)
    size = (segment / "data.mdb").stat().st_size

    def assert_reported() -> None:
        found = verify(damaged, 1)
        assert [name for name, entry in found.items() if entry["result"] != "ok"] == [segment.name]
        entry = found[segment.name]
        assert entry["result"] == "damaged"
        assert entry["offset"] == first + number, "the offset is that of the record"
        assert "restore" in entry["detail"]

    first = min(int(path.name) for path in folders(damaged))
    assert_reported()
    start_broker(damaged)
    assert_reported()
    assert_readers_stop_before(damaged, number)
    after = damaged.changes(from_=first + ids[-1] + 1)
    assert [change["new"]["id"] for change in after] == list(range(ids[-1] + 1, 6000)), "what lies behind it is served"
    assert re.search(r"changes_broken_off.*CORRUPT", damaged.log_text()) and "needle" not in damaged.log_text()
    assert re.search(rf"segment \S*{segment.name} is damaged at offset \d+", damaged.log_text())
    metrics = damaged.http.get("/metrics").body.decode()
    assert int(re.search(r"^oneslot_readers_broken_total (\d+)$", metrics, re.MULTILINE)[1]) >= 3  # type: ignore[index]
    assert damaged.http.get("/lag").status == 200
    damaged.stop()
    start_broker(damaged)
    assert (segment / "data.mdb").stat().st_size >= size, "nothing is cut away"
    assert_reported()
    damaged.stop()
    flip_row(segment, number)
    assert verify(damaged, 0) == expected, "and with the bit back all is there"


def test_a_sink_stops_at_the_damage_and_the_log_goes_on(
    pg: Postgres, make_oneslot: Callable[..., Oneslot]
) -> None:
    damaged = make_oneslot(pg, config=LOG)
    fill(pg, damaged)
    segment = sealed(damaged)[1]
    number = numbers_in(segment)[100]
    flip_row(segment, number)
    damaged.change_config(sinks={"file": {"kind": "file", "path": "./changes.ndjson"}})
    damaged.start()
    damaged.wait_streaming()
    pg.sql("INSERT INTO t VALUES (6000, 'new')")
    damaged.wait_durable(pg)
    damaged.wait(lambda: "damaged" in (damaged.sink().get("last_error") or ""), 40, "the sink says that it is stuck")
    assert damaged.sink()["state"] in ("stopped", "retrying"), damaged.sink()

    def has_all_before_it() -> bool:  # it was fetched before the damage was met; writing it may take longer
        return [change["new"]["id"] for change in damaged.file_changes(allow_torn=True)] == list(range(number))

    damaged.wait(has_all_before_it, 30, "all before the damage is written")
    lag = damaged.lag()
    assert lag["source"]["state"] == "streaming", "the log takes what comes"
    assert lag["sinks"][0]["records_behind"] > 0


@pytest.mark.sampled
def test_any_flipped_bit_of_a_segment_is_noticed_or_harmless(
    damaged: Oneslot, rng: random.Random, soak: bool
) -> None:
    """Whatever bit: `verify` either finds everything as it was, or reports this segment; it never crashes, and never
    calls something else whole."""
    expected = verify(damaged, 0)
    segment = sealed(damaged)[1]
    data = segment / "data.mdb"
    whole = data.read_bytes()
    reported = 0
    for _ in range(400 if soak else 25):
        at, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        flip(data, at, bit)
        done = damaged.cli("verify", "--json")
        report = {entry["segment"]: entry for entry in json.loads(done.stdout)["segments"]}
        bad = [name for name, entry in report.items() if entry["result"] != "ok"]
        assert done.returncode == (1 if bad else 0) and bad in ([], [segment.name]), (at, bit, done)
        assert bad or report == expected, f"byte {at} bit {bit}: something else was called whole"
        reported += len(bad)
        flip(data, at, bit)
    assert data.read_bytes() == whole
    assert reported > 5, "most of a segment is records"


def refuse(oneslot: Oneslot, *patterns: str) -> None:
    """The broker does not start, says why, and leaves the log as it is; `verify` reports it too."""
    before = contents(oneslot)
    process = oneslot.start_broker()
    assert process.wait(30) == 1, process.text()
    for pattern in patterns:
        assert re.search(pattern, process.text()), (pattern, process.text())
    run = oneslot.cli("run")
    assert run.returncode == 1 and re.search(patterns[0], run.stderr), run.stderr
    done = oneslot.cli("verify")
    assert done.returncode == 1, done.stdout
    assert contents(oneslot) == before, "nothing was changed"


def contents(oneslot: Oneslot) -> dict[Path, bytes]:
    files = [path for path in (oneslot.data / "log").rglob("*") if path.is_file() and path.name != "lock.mdb"]
    return {path: path.read_bytes() for path in files}


def test_a_truncated_file(damaged: Oneslot) -> None:
    data = sealed(damaged)[0] / "data.mdb"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    refuse(damaged, r"data\.mdb has \d+ bytes, its MANIFEST says \d+", "restore it from a backup")
    data.unlink()
    refuse(damaged, r"data\.mdb is missing", "restore it from a backup")


def test_a_file_that_ends_where_nobody_expects_it_ends_the_reading_process_only(damaged: Oneslot) -> None:
    """LMDB reads through a map: `verify` reads in a process of its own, and outlives it."""
    segment = sealed(damaged)[0]
    manifest, data = segment / "MANIFEST", segment / "data.mdb"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**fields, "file_bytes": 2 * PAGE}))
    data.write_bytes(data.read_bytes()[: fields["file_bytes"] // 2 // PAGE * PAGE])
    done = damaged.cli("verify")
    assert done.returncode == 1 and re.search(rf"^DAMAGED +{segment.name} .*signal 7", done.stdout, re.MULTILINE), done
    assert len(re.findall(r"^ok ", done.stdout, re.MULTILINE)) == len(folders(damaged)) - 1, done.stdout


def test_a_truncated_newest_file(damaged: Oneslot) -> None:
    """LMDB reads a torn file through a map: it must be noticed, not end in a signal."""
    data = unsealed(damaged)[0] / "data.mdb"
    whole = data.read_bytes()
    for size in (len(whole) // 2 // PAGE * PAGE, 5 * PAGE, 2 * PAGE, PAGE + 100, 100, 0):
        data.write_bytes(whole[:size])
        ACCOUNT.own(data)
        done = damaged.cli("verify")
        assert done.returncode == 1 and "DAMAGED" in done.stdout, (size, done.stdout, done.stderr)
        process = damaged.start_broker()
        assert process.wait(30) == 1, (size, process.text())
        assert data.parent.name in process.text(), (size, process.text())
    data.write_bytes(whole)
    verify(damaged, 0)


def test_a_missing_segment(damaged: Oneslot) -> None:
    gone = sealed(damaged)[1]
    away = damaged.folder / "away"
    gone.rename(away)
    refuse(damaged, "a segment is missing between", "restore it from a backup")
    away.rename(gone)
    verify(damaged, 0)


def test_the_whole_log_missing_beside_its_state(damaged: Oneslot) -> None:
    (damaged.data / "log").rename(damaged.folder / "away")
    process = damaged.start_broker()
    assert process.wait(30) == 1
    assert "the segments of the log are missing" in process.text(), process.text()
    assert folders(damaged) == []


def test_a_damaged_manifest(damaged: Oneslot) -> None:
    manifest = sealed(damaged)[1] / "MANIFEST"
    whole = manifest.read_bytes()
    fields = json.loads(whole)
    for text in (
        b"",
        b"{}",
        whole[: len(whole) // 2],
        whole.replace(b'"next"', b'"nxet"'),
        json.dumps({**fields, "base": fields["base"] - 1}).encode(),
        json.dumps({**fields, "next": fields["next"] + 1}).encode(),
    ):
        manifest.write_bytes(text)
        refuse(damaged, "is damaged|is missing|not where its name says")
    manifest.write_bytes(whole)
    verify(damaged, 0)


def test_a_segment_of_another_log(damaged: Oneslot) -> None:
    """One of the same name and length, from a log of its own: the swap shows in the log's identity."""
    target = sealed(damaged)[1]
    fields = json.loads((target / "MANIFEST").read_text())
    fields["log"] = "00000000-0000-4000-8000-000000000000"
    (target / "MANIFEST").write_text(json.dumps(fields))
    refuse(damaged, "belongs to another log", "move it away")


def test_segments_that_were_swapped(damaged: Oneslot) -> None:
    first, second = sealed(damaged)[:2]
    (first / "data.mdb").rename(damaged.folder / "kept")
    shutil.copy2(second / "data.mdb", first / "data.mdb")
    ACCOUNT.own(first / "data.mdb")
    done = damaged.cli("verify")
    assert done.returncode == 1 and re.search(f"DAMAGED +{first.name}", done.stdout), done.stdout
    start_broker(damaged)
    with pytest.raises((http.client.IncompleteRead, OSError)):
        damaged.changes()
    assert b"needle" not in raw_answer(damaged, "/changes?limit=1")
    assert "is that of another segment" in damaged.log_text()


def test_a_newer_format_is_refused(damaged: Oneslot) -> None:
    manifest = sealed(damaged)[0] / "MANIFEST"
    text = manifest.read_text()
    manifest.write_text(text.replace('"format":1', '"format":2'))
    refuse(damaged, "was written by a newer version of oneslot", "run that version")
    manifest.write_text(text)
    verify(damaged, 0)


def test_a_damaged_state(damaged: Oneslot) -> None:
    """The ledger decides what was acknowledged: without it nothing is assumed."""
    state = next(path for path in damaged.data.rglob("data.mdb") if "log" not in path.relative_to(damaged.data).parts)
    whole = state.read_bytes()
    for text in (whole[:PAGE], b"\0" * len(whole)):
        state.write_bytes(text)
        ACCOUNT.own(state)
        process = damaged.start_broker()
        assert process.wait(30) == 1, process.text()
        assert "restore" in process.text() or "damaged" in process.text(), process.text()
    state.write_bytes(whole)
    start_broker(damaged)
