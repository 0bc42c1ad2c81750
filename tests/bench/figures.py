"""The figures of the README, each beside the alternative in the same run. See README.md."""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from harness.oneslot import Oneslot  # noqa: E402
from harness.postgres import Postgres  # noqa: E402
from harness.system import ACCOUNT, REPO, Programs, WorkFolder, base_environment, lsn, wait_until  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
SETTINGS = {
    "fsync": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "32GB",
    "checkpoint_timeout": "1h",
    "log_min_messages": "warning",
    "log_replication_commands": "off",
    "track_commit_timestamp": "on",
}
TABLE = """
CREATE SCHEMA fabric;
CREATE TABLE fabric.user_data (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, gender text, address text,
  latitude numeric(9,6), longitude numeric(9,6), timezone text, email text, phone text, cell text, date_of_birth timestamp,
  registered_date timestamp, picture_url text, insertion_time timestamp DEFAULT now());
CREATE FUNCTION fabric.people(first bigint, n bigint) RETURNS void LANGUAGE sql AS $$
INSERT INTO fabric.user_data (name, gender, address, latitude, longitude, timezone, email, phone, cell, date_of_birth,
  registered_date, picture_url)
SELECT 'Person Number ' || i, CASE WHEN i % 2 = 0 THEN 'male' ELSE 'female' END,
  i || ' Long Street Name, Some City, Some State, Country ' || i, (i % 180) - 90 + 0.123456, (i % 360) - 180 + 0.654321,
  '+5:30', 'person.number.' || i || '@example.com', '(555)-' || i, '(666)-' || i,
  timestamp '1980-01-01' + (i % 10000) * interval '1 day', timestamp '2010-01-01' + (i % 4000) * interval '1 day',
  'https://randomuser.me/api/portraits/men/' || i || '.jpg'
FROM generate_series(first, first + n - 1) i $$;
CREATE PROCEDURE fabric.batches(txns bigint, n bigint) LANGUAGE plpgsql AS $$
BEGIN
  FOR k IN 0 .. txns - 1 LOOP
    PERFORM fabric.people(k * n, n);
    COMMIT;
  END LOOP;
END $$;
"""


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def anonymous_bytes(pid: int) -> int:
    found = re.search(r"^Anonymous:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(found.group(1)) * 1024 if found else 0


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Bench:
    def __init__(self, quick: bool, pairs: int) -> None:
        self.pairs = pairs
        self.scale = 50 if quick else 1
        self.work = WorkFolder()
        self.programs = Programs(REPO / "build", self.work)
        self.pg = Postgres(self.work, {**SETTINGS, "max_replication_slots": str(2 * pairs + 10)})
        self.pg.start()
        self.pg.sql(TABLE)
        self.rows: list[tuple[str, str, str, str]] = []

    def close(self) -> None:
        self.pg.close()
        self.work.remove()

    # --- the two sides

    def oneslot(self, slot: str = "oneslot", **log: Any) -> Oneslot:
        """A fresh installation whose slot exists; nothing of it runs."""
        config = {"source": {"dsn": self.pg.dsn("oneslot", unix=True), "slot": slot}, "log": log, "sinks": None}
        one = Oneslot(self.programs, self.work, self.pg, ["fabric.user_data"], config)
        one.start_broker()
        one.wait_serving()
        one.start_replicator()
        one.wait_streaming()
        one.stop()
        return one

    def drop_slots(self) -> None:
        """Once nothing holds them any more: a walsender notices the end of its client a little later."""
        wait_until(lambda: not self.pg.sql("SELECT 1 FROM pg_replication_slots WHERE active"), 30, "slots are free")
        self.pg.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots", user="postgres")

    def create_slot(self, slot: str = "theirs") -> None:
        self.pg.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot], user="postgres")

    def recvlogical(self, target: str, end: str = "", slot: str = "theirs") -> list[str]:
        bounds = ["--endpos", end, "--no-loop"] if end else ["--no-loop"]
        return [
            *(str(self.pg.bin / "pg_recvlogical"), "-d", self.pg.dsn("oneslot", unix=True), "--slot", slot),
            *("--start", "-f", target, "-o", "proto_version=1", "-o", "publication_names=oneslot", "-F", "0"),
            *bounds,
        ]

    def end_lsn(self) -> str:
        """What is committed now ends at or below it. A record behind it makes --endpos be reached."""
        end = self.pg.value("SELECT pg_current_wal_lsn()::text")
        self.pg.sql("SELECT pg_logical_emit_message(false, 'bench', '')", user="postgres")
        return end

    def warm(self, mebibytes: int) -> None:
        path = self.work.path / "warm"
        for _ in range(2):
            with open(path, "wb") as out:
                for _ in range(max(1, mebibytes // self.scale)):
                    out.write(bytes(1 << 20))
            path.unlink()

    def time_alternative(self, slot: str, end: str) -> tuple[float, float]:
        """Seconds, CPU seconds."""
        began = time.monotonic()
        child = subprocess.Popen(self.recvlogical("/dev/null", end, slot), env=base_environment(self.work.path))
        _, status, used = os.wait4(child.pid, 0)
        assert status == 0, f"pg_recvlogical ended with {status}"
        return time.monotonic() - began, used.ru_utime + used.ru_stime

    def time_oneslot(self, one: Oneslot, end: str) -> tuple[float, float]:
        """From the replicator's start until all up to `end` is durable; the broker's and the replicator's CPU."""
        one.start_broker()
        one.wait_serving()
        broker = one.pid("broker")
        before = cpu_seconds(broker)
        began = time.monotonic()
        one.start_replicator()
        while lsn(one.lag()["source"]["durable_lsn"] or "0/0") < lsn(end):
            time.sleep(0.05)
        took = time.monotonic() - began
        used = cpu_seconds(broker) - before + cpu_seconds(one.pid("replicator"))
        one.stop()
        return took, used

    def compare(self, load: Callable[[], None], mebibytes: int, **log: Any) -> dict[str, float]:
        """Medians of one backlog read by both, in turn, through slots of their own."""
        ones = [self.oneslot(f"ours_{turn}", **log) for turn in range(self.pairs)]
        for turn in range(self.pairs):
            self.create_slot(f"theirs_{turn}")
        load()
        end = self.end_lsn()
        results = []
        for turn, one in enumerate(ones):
            result: dict[str, float] = {}

            def ours() -> None:
                self.warm(mebibytes)
                before = self.log_bytes(one)
                result["ours"], result["ours_cpu"] = self.time_oneslot(one, end)
                result["log_bytes"] = self.log_bytes(one) - before

            def theirs() -> None:
                self.warm(mebibytes)
                result["theirs"], result["theirs_cpu"] = self.time_alternative(f"theirs_{turn}", end)

            for side in (ours, theirs) if turn % 2 == 0 else (theirs, ours):
                side()
            results.append(result)
            self.last = one
        self.drop_slots()
        return medians(results)

    @staticmethod
    def log_bytes(one: Oneslot) -> int:
        return sum(path.stat().st_size for path in one.data.glob("log/*/data.mdb"))

    # --- loads

    def load_big(self, rows: int) -> None:
        self.pg.sql("TRUNCATE fabric.user_data")
        self.pg.sql(f"SELECT fabric.people(1, {rows})")

    def load_batches(self, txns: int, rows: int) -> None:
        self.pg.sql("TRUNCATE fabric.user_data")
        with self.pg.connect() as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute(f"CALL fabric.batches({txns}, {rows})")

    # --- the table

    def add(self, figure: str, ours: str, theirs: str, asked: str) -> None:
        self.rows.append((figure, ours, theirs, asked))
        print(f"  {figure}: {ours} | {theirs} | asked: {asked}", flush=True)

    def print(self) -> None:
        head = ("figure", "oneslot", "alternative", "asked")
        widths = [max(len(row[i]) for row in [head, *self.rows]) for i in range(4)]
        for row in (head, tuple("-" * w for w in widths), *self.rows):
            print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |")


def sync_ms(folder: Path) -> float:
    times = []
    with open(folder / "sync", "wb") as out:
        for _ in range(200):
            out.write(bytes(4096))
            out.flush()
            began = time.monotonic()
            os.fdatasync(out.fileno())
            times.append((time.monotonic() - began) * 1000)
    return statistics.median(times)


def medians(results: list[dict[str, float]]) -> dict[str, float]:
    result = {key: statistics.median(r[key] for r in results) for key in results[0]}
    result["ratio"] = statistics.median(r["theirs"] / r["ours"] for r in results)
    return result


def rates(name: str, n: int, m: dict[str, float]) -> tuple[str, str]:
    return (
        f"{n / m['ours']:,.0f} {name}/s, ratio {m['ratio']:.2f}",
        f"{n / m['theirs']:,.0f} {name}/s",
    )


def pgoutput_bytes(b: Bench, rows: int) -> int:
    """What the same rows are as pgoutput: pg_recvlogical writes each message and a line break."""
    b.create_slot()
    b.load_big(rows)
    end = b.end_lsn()
    target = b.work.path / "pgoutput"
    subprocess.run(b.recvlogical(str(target), end), check=True, env=base_environment(b.work.path))
    size = target.stat().st_size
    target.unlink()
    b.drop_slots()
    return size - rows


def figure_big(b: Bench) -> None:
    n = 1_000_000 // b.scale
    m = b.compare(lambda: b.load_big(n), 900)
    b.add(f"one transaction of {n:,} rows", *rates("rows", n, m), "ratio 1.0")
    b.add(
        "CPU s per 1,000,000 rows",
        f"{m['ours_cpu'] * 1e6 / n:.2f}, ratio {m['ours_cpu'] / m['theirs_cpu']:.2f}",
        f"{m['theirs_cpu'] * 1e6 / n:.2f}",
        "1.6 where pg_recvlogical takes 1.9: ratio 0.84",
    )
    per_byte = m["log_bytes"] / pgoutput_bytes(b, n)
    b.add("bytes in the log per byte of pgoutput", f"{per_byte:.2f}", "-", "1.0")


def figure_zstd(b: Bench) -> None:
    n = 1_000_000 // b.scale
    m = b.compare(lambda: b.load_big(n), 900, compression="zstd")
    per_byte = m["log_bytes"] / pgoutput_bytes(b, n)
    b.add("the same with zstd", f"{per_byte:.2f}", "-", "0.5")
    b.add("one transaction with zstd", *rates("rows", n, m), "-")


def figure_small(b: Bench) -> None:
    n = 200_000 // b.scale
    m = b.compare(lambda: b.load_batches(n, 1), 400)
    b.add(f"{n:,} one-row transactions", *rates("transactions", n, m), "ratio 1.0")


def figure_rolling(b: Bench) -> None:
    txns = 5_000 // b.scale
    rolling = {"segment_bytes": "256MiB", "retain_bytes": "512MiB"}
    m = b.compare(lambda: b.load_batches(txns, 1000), 2000, **rolling)
    segments = len(list(b.last.data.glob("log/*")))
    b.add(
        f"{txns * 1000:,} rows in transactions of 1,000, rolling ({segments} segments left)",
        *rates("rows", txns * 1000, m),
        "ratio 0.97",
    )


def figure_memory(b: Bench) -> None:
    n = 5_000_000 // b.scale
    one = b.oneslot()
    one.start_broker()
    one.wait_serving()
    one.start_replicator()
    one.wait_streaming()
    one.wait_durable(b.pg)
    pids = [one.pid("broker"), one.pid("replicator")]
    idle = sum(map(anonymous_bytes, pids))
    b.pg.sql("TRUNCATE fabric.user_data")
    peak = [0]
    done = threading.Event()

    def sample() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], sum(map(anonymous_bytes, pids)))
            done.wait(0.1)

    sampler = threading.Thread(target=sample)
    sampler.start()
    b.pg.sql(f"SELECT fabric.people(1, {n})")
    one.wait_durable(b.pg, 600)
    done.set()
    sampler.join()
    one.stop()
    b.drop_slots()
    mib = 1 << 20
    b.add("anonymous memory, idle", f"{idle / mib:.1f} MiB", "-", "16 MB")
    b.add(f"anonymous memory, one transaction of {n:,} rows", f"{peak[0] / mib:.1f} MiB", "-", "48 MB")


def pgbench(b: Bench, seconds: int, rate: int) -> subprocess.Popen[bytes]:
    script = b.work.path / "one.sql"
    script.write_text("\\set i random(1, 1000000)\nSELECT fabric.people(:i, 1);\n")
    ACCOUNT.own(script)
    argv = [str(b.pg.bin / "pgbench"), "-h", str(b.pg.folder), "-p", str(b.pg.port), "-U", "app", "-n", "-f", str(script)]
    argv += ["-c", "4", "-j", "1", "-M", "prepared", "-R", str(rate), "-T", str(seconds), "app"]
    return subprocess.Popen(argv, env=base_environment(b.work.path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def collect(pieces: Iterator[bytes]) -> list[tuple[float, bytes]]:
    """Pieces with the time at which each arrived; looked at afterwards, so that looking costs no latency."""
    return [(time.time(), piece) for piece in pieces]


def ndjson_latencies(arrived: list[tuple[float, bytes]]) -> list[float]:
    import datetime

    result = []
    rest = b""
    for at, piece in arrived:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            found = re.search(rb'"ts":"([^"]+)Z"', line)
            if found:
                stamp = datetime.datetime.fromisoformat(found.group(1).decode() + "+00:00").timestamp()
                result.append((at - stamp) * 1000)
    return result


def pgoutput_latencies(arrived: list[tuple[float, bytes]]) -> list[float]:
    """A Begin is 21 bytes and a line break; its commit time counts from 2000. Inserts of texts never look like one."""
    result = []
    epoch = 946684800
    for at, piece in arrived:
        for found in re.finditer(rb"(?s)(?:^|\n)B\x00\x00\x00.{5}(\x00.{7}).{4}\n", piece):
            stamp = int.from_bytes(found.group(1), "big") / 1e6 + epoch
            result.append((at - stamp) * 1000)
    return result


def socket_pieces(one: Oneslot, stop: threading.Event) -> Iterator[bytes]:
    with socket.create_connection(("127.0.0.1", one.port)) as s:
        s.settimeout(0.5)
        s.sendall(b"GET /changes?from=latest&follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not stop.is_set():
            try:
                piece = s.recv(1 << 20)
            except TimeoutError:
                continue
            if not piece:
                return
            yield piece


def pipe_pieces(out: Any, stop: threading.Event) -> Iterator[bytes]:
    while not stop.is_set():
        piece = os.read(out.fileno(), 1 << 20)
        if not piece:
            return
        yield piece


def under_load(b: Bench, pieces: Callable[[threading.Event], Iterator[bytes]], seconds: int) -> list[tuple[float, bytes]]:
    stop = threading.Event()
    arrived: list[tuple[float, bytes]] = []
    reader = threading.Thread(target=lambda: arrived.extend(collect(pieces(stop))))
    reader.start()
    load = pgbench(b, seconds, 2000)
    _, errors = load.communicate()
    assert load.returncode == 0, errors.decode()
    time.sleep(0.5)
    stop.set()
    b.pg.sql("SELECT fabric.people(1, 1)")  # so that a blocked reader sees the end
    reader.join(5)
    return arrived


def figure_latency(b: Bench) -> None:
    seconds = max(3, 60 // b.scale)
    one = b.oneslot()
    one.start_broker()
    one.wait_serving()
    one.start_replicator()
    one.wait_streaming()
    ours = ndjson_latencies(under_load(b, lambda stop: socket_pieces(one, stop), seconds))
    one.stop()
    b.create_slot()
    child = subprocess.Popen(b.recvlogical("-"), env=base_environment(b.work.path), stdout=subprocess.PIPE)
    theirs = pgoutput_latencies(under_load(b, lambda stop: pipe_pieces(child.stdout, stop), seconds))
    child.kill()
    child.wait()
    b.drop_slots()
    texts = [
        f"p50 {percentile(v, 0.5):.2f} ms, p99 {percentile(v, 0.99):.2f} ms, max {max(v):.1f} ms (n={len(v):,})"
        for v in (ours, theirs)
    ]
    b.add(f"commit to readable at 2,000 commits/s, {seconds} s", *texts, "p50 1.5 ms, p99 5 ms")


def drain_http(port: int, path: str) -> int:
    """Bytes of the body as they come (chunk heads included)."""
    total = 0
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while True:
            n = s.recv_into(buffer)
            if n == 0:
                return total
            total += n


def figure_replay(b: Bench) -> None:
    n = 1_000_000 // b.scale
    one = b.oneslot()
    b.load_big(n)
    one.start_broker()
    one.wait_serving()
    one.start_replicator()
    one.wait_streaming()
    one.wait_durable(b.pg, 600)
    psql = [str(b.pg.bin / "psql"), b.pg.dsn("app"), "-c", "COPY fabric.user_data TO STDOUT"]
    ours, theirs = [], []
    for _ in range(b.pairs + 1):  # the first pair warms both
        began = time.monotonic()
        size = drain_http(one.port, "/changes?from=earliest")
        ours.append(time.monotonic() - began)
        began = time.monotonic()
        subprocess.run(psql, check=True, stdout=subprocess.DEVNULL, env=base_environment(b.work.path))
        theirs.append(time.monotonic() - began)
    lines = len(one.changes(limit=5))
    assert lines == 5
    one.stop()
    b.drop_slots()
    ratio = statistics.median(t / o for o, t in zip(ours[1:], theirs[1:]))
    o, t = statistics.median(ours[1:]), statistics.median(theirs[1:])
    b.add(
        f"replay of {n:,} records ({size / 1e6:.0f} MB NDJSON) over TCP",
        f"{n / o:,.0f} rows/s, ratio {ratio:.2f}",
        f"{n / t:,.0f} rows/s (psql COPY)",
        "ratio 2.5",
    )


FIGURES: dict[str, Callable[[Bench], None]] = {
    "big": figure_big,
    "small": figure_small,
    "rolling": figure_rolling,
    "latency": figure_latency,
    "memory": figure_memory,
    "replay": figure_replay,
    "zstd": figure_zstd,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of everything, to see that it works")
    parser.add_argument("--pairs", type=int, default=4)
    options = parser.parse_args()
    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        parser.error(f"unknown figure {unknown[0]}; there are {', '.join(FIGURES)}")
    b = Bench(options.quick, options.pairs)
    try:
        b.add("a sync of 4 KiB on this disk", f"{sync_ms(b.work.path):.2f} ms", "-", "-")
        for name in options.figures or FIGURES:
            FIGURES[name](b)
    finally:
        b.print()
        b.close()


if __name__ == "__main__":
    main()
