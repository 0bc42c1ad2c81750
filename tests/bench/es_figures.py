"""The figures of the Elasticsearch sink, each beside a bare client in the same run. See README.md."""

from __future__ import annotations

import argparse
import datetime
import http.client
import json
import re
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

from figures import Bench, anonymous_bytes, cpu_seconds, percentile, pgbench, sync_ms

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from harness.elasticsearch import VERSION, Elasticsearch  # noqa: E402
from harness.oneslot import Oneslot, merged  # noqa: E402
from harness.search import search_config  # noqa: E402
from harness.system import lsn, processes_with, wait_until  # noqa: E402

ALIAS = "fabric.user_data"
MIB = 1 << 20


class EsBench(Bench):
    def __init__(self, quick: bool, pairs: int) -> None:
        super().__init__(quick, pairs)
        self.es = Elasticsearch(self.work, heap="2g", settings={"http.max_content_length": "100mb"}).start()

    def close(self) -> None:
        self.es.close()
        super().close()

    def installed(self, **config: Any) -> Oneslot:
        """Whose slot exists; with the sink `search`, and nothing of it runs."""
        base = {"source": {"dsn": self.pg.dsn("oneslot", unix=True)}}
        config = merged(merged(base, search_config(self.es.url)), config)
        one = Oneslot(self.programs, self.work, self.pg, ["fabric.user_data"], config)
        self.clear()
        start_source(one)
        one.stop()
        return one

    def wait_ready(self) -> None:
        """Its heap may be full of what it was just given: 429 until that is collected."""
        wait_until(lambda: self.es.request("GET", "/_alias").status == 200, 60, "the node answers")

    def clear(self) -> None:
        self.wait_ready()
        self.es.clear()

    def es_cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid, _ in processes_with("ONESLOT_ES_ID", self.es.id))


def start_source(one: Oneslot) -> None:
    one.start_broker()
    one.wait_serving()
    one.start_replicator()
    one.wait_streaming()


# --- throughput

LANES = 4
NEAR_END_S = 0.02
STALLED_S = 60
LOOK_S = 0.25  # seldom: who looks takes its share of the cores from the node, and beside the bare client nobody looks
WARM_PAIRS = 1  # not counted: until then the node compiles its own code, at the expense of whoever comes first


class Sampler:
    """The largest anonymous memory of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while not self._done.wait(LOOK_S):
            self.peak = max(self.peak, anonymous_bytes(self.pid))

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, anonymous_bytes(self.pid))
        return self.peak


def time_sink(b: EsBench, one: Oneslot) -> dict[str, float]:
    """The log is full: from the start of the sink until everything is settled."""
    left = total = one.sink("search")["records_behind"]
    assert total > 0, "the log is empty"
    es_cpu = b.es_cpu()
    began = moved = time.monotonic()
    sink = one.start_sink("search")
    sampler = Sampler(sink.pid)
    while left > 0:
        time.sleep(LOOK_S if left > total / 20 else NEAR_END_S)
        seen = one.sink("search")
        if seen["records_behind"] != left:
            left, moved = seen["records_behind"], time.monotonic()
        elif time.monotonic() - moved > STALLED_S:
            raise TimeoutError(f"nothing settled for {STALLED_S} s: {seen}\n{one.log_tail()}")
    took = time.monotonic() - began
    return {"seconds": took, "cpu": cpu_seconds(sink.pid), "es_cpu": b.es_cpu() - es_cpu, "memory": sampler.stop()}


def bodies_of(one: Oneslot, index: str, size: int) -> list[bytes]:
    """What the sink sends, of all changes of the log, rendered before the clock runs."""
    made: list[bytes] = []
    lines: list[bytes] = []
    held = 0
    with one.http.stream("GET", "/changes", timeout=600) as answer:
        for text in answer:
            change = json.loads(text)
            if change["op"] != "insert":
                continue
            meta = {"_index": index, "_id": change["key"]["id"], "version": change["offset"]}
            meta |= {"version_type": "external_gte", "require_alias": True}
            source = text[text.index(b'"new":') + 6 :].rstrip()[:-1]
            lines += [json.dumps({"index": meta}, separators=(",", ":")).encode(), b"\n", source, b"\n"]
            held += sum(map(len, lines[-4:]))
            if held >= size:
                made.append(b"".join(lines))
                lines, held = [], 0
    return [*made, b"".join(lines)] if lines else made


AGAIN_S = 0.25  # where the sink's backoff begins


def send_all(port: int, bodies: list[bytes]) -> float:
    """Seconds until all are accepted, over as many connections as the sink has lanes. What is refused for now (429:
    the node's heap is full for a moment) is sent again, as the sink does."""
    left = list(reversed(bodies))
    path = "/_bulk?filter_path=errors,items.*.status,items.*.error.type"
    failures: list[Any] = []
    accepted: list[None] = []

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while left and not failures:
            try:
                body = left.pop()
            except IndexError:
                return
            connection.request("POST", path, body, {"Content-Type": "application/x-ndjson"})
            answer = connection.getresponse()
            is_done = answer.read(200).startswith(b'{"errors":false')
            answer.read()
            if answer.status == 429:
                left.append(body)
                time.sleep(AGAIN_S)
            elif is_done:
                accepted.append(None)
            else:
                failures.append(answer.status)

    began = time.monotonic()
    threads = [threading.Thread(target=send) for _ in range(LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == len(bodies), f"of {len(bodies)} requests {len(accepted)} were accepted: {failures}"
    return time.monotonic() - began


def copy_index(b: EsBench, alias: str, source: dict[str, Any]) -> None:
    """An empty index with the settings and the mapping that the sink made."""
    settings = source["settings"]["index"]
    kept = {key: settings[key] for key in settings if key not in ("uuid", "version", "creation_date", "provided_name")}
    body = {"settings": {"index": kept}, "mappings": source["mappings"], "aliases": {alias: {}}}
    b.es.ask("PUT", f"/{alias}-000001", body)


def figure_throughput(b: EsBench) -> None:
    n = 400_000 // b.scale
    one = b.installed(sinks={"search": {"lanes": LANES}})
    b.load_batches(max(1, n // 1000), min(n, 1000))
    start_source(one)
    one.wait_durable(b.pg, 600)
    time_sink(b, one)  # shows the size of its requests
    size = request_bytes(one, n)
    one.processes[-1].end()
    b.wait_ready()
    source = next(iter(b.es.ask("GET", f"/{ALIAS}").values()))
    bodies = bodies_of(one, ALIAS, size)
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    sides: list[Callable[[], None]] = [
        lambda: theirs.append(bare_turn(b, source, bodies)),
        lambda: ours.append(sink_turn(b, one)),
    ]
    for turn in range(WARM_PAIRS + b.pairs):
        for side in sides if turn % 2 == 0 else reversed(sides):
            side()
    one.stop()
    b.drop_slots()
    report_throughput(b, n, ours[WARM_PAIRS:], theirs[WARM_PAIRS:], size)


def sink_turn(b: EsBench, one: Oneslot) -> dict[str, float]:
    b.clear()
    one.http.post("/sinks/search/replay", {"from": "earliest"})
    result = time_sink(b, one)
    one.processes[-1].end()
    return result


def bare_turn(b: EsBench, source: dict[str, Any], bodies: list[bytes]) -> dict[str, float]:
    b.clear()
    copy_index(b, ALIAS, source)
    es_cpu = b.es_cpu()
    seconds = send_all(b.es.port, bodies)
    return {"seconds": seconds, "es_cpu": b.es_cpu() - es_cpu}


def request_bytes(one: Oneslot, records: int) -> int:
    """The mean size of the requests that made so many documents."""

    def counts() -> dict[str, float]:
        text = one.http.get("/metrics").body.decode()
        found = re.findall(r'^oneslot_sink_(\w+)_total\{sink="search".*\} (\S+)$', text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    one.wait(lambda: counts()["records"] >= records, 30, "the sink has said what it did")
    seen = counts()
    return int(seen["bytes"] / seen["requests"])


def report_throughput(
    b: EsBench, n: int, ours: list[dict[str, float]], theirs: list[dict[str, float]], size: int
) -> None:
    ratio = statistics.median(t["seconds"] / o["seconds"] for o, t in zip(ours, theirs))
    rate = statistics.median(n / o["seconds"] for o in ours)
    bare = statistics.median(n / t["seconds"] for t in theirs)
    node = statistics.median(o["es_cpu"] / n for o in ours)
    bare_node = statistics.median(t["es_cpu"] / n for t in theirs)
    share = statistics.median(o["cpu"] / o["es_cpu"] for o in ours)
    memory = max(o["memory"] for o in ours)
    what = f"{n:,} documents into one node, {LANES} lanes, {size / MIB:.1f} MiB requests"
    b.add(what, f"{rate:,.0f} documents/s, ratio {ratio:.2f}", f"{bare:,.0f} documents/s", "ratio 0.9")
    b.add("Elasticsearch's CPU per document", f"{node * 1e6:.0f} us", f"{bare_node * 1e6:.0f} us", "-")
    b.add("CPU of the worker beside Elasticsearch's", f"{share * 100:.1f} %", "-", "15 %")
    b.add("anonymous memory of the worker", f"{memory / MIB:.1f} MiB", "-", "64 MB")


# --- latency


class OffsetWatch:
    """When a sink's offset was seen to have reached a value: what is settled was acknowledged before."""

    def __init__(self, one: Oneslot, name: str) -> None:
        self.one = one
        self.name = name
        self.seen: list[tuple[float, int]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.one.port, timeout=30)
        while not self._done.wait(0.005):
            connection.request("GET", f"/lag/{self.name}")
            offset = json.loads(connection.getresponse().read()).get("offset") or 0
            if not self.seen or offset > self.seen[-1][1]:
                self.seen.append((time.time(), offset))

    def stop(self) -> list[tuple[float, int]]:
        self._done.set()
        self._thread.join()
        return self.seen


def latencies(one: Oneslot, seen: list[tuple[float, int]], since: float) -> list[float]:
    """Milliseconds from each record's commit until its offset was seen settled."""
    result: list[float] = []
    at = iter(seen)
    when, reached = next(at)
    stamp = datetime.datetime.fromtimestamp(since, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for change in one.changes(timeout=600, from_=stamp):
        while reached < change["offset"]:
            step = next(at, None)
            if step is None:
                return result
            when, reached = step
        commit = datetime.datetime.fromisoformat(change["ts"].replace("Z", "+00:00")).timestamp()
        result.append((when - commit) * 1000)
    return result


def text_of(values: list[float]) -> str:
    return f"p50 {percentile(values, 0.5):.1f} ms, p99 {percentile(values, 0.99):.1f} ms (n={len(values):,})"


def load_for(b: EsBench, one: Oneslot, sink: str, seconds: int) -> list[float]:
    """500 commits/s for so long; the latencies of that sink."""
    watch = OffsetWatch(one, sink)
    began = time.time() + 2
    load = pgbench(b, seconds, 500)
    _, errors = load.communicate()
    assert load.returncode == 0, errors.decode()
    time.sleep(1.0)
    return latencies(one, watch.stop(), began)


def figure_latency(b: EsBench) -> None:
    seconds = max(5, 60 // b.scale)
    one = b.installed()
    one.start()
    one.wait_streaming()
    b.pg.sql("SELECT fabric.people(1, 1000)")
    one.wait_settled("search")
    load_for(b, one, "search", seconds // 2)  # a node just started compiles its own code first
    values = load_for(b, one, "search", seconds)
    one.stop()
    b.drop_slots()
    b.add(f"commit to settled at 500 commits/s, {seconds} s", text_of(values), "-", "p99 250 ms")


# --- a target that is dead


def slot_lag(b: EsBench) -> int:
    slot = b.pg.slot()
    return b.pg.flush_lsn() - lsn(slot["confirmed_flush_lsn"])


def with_slot_lag(b: EsBench, action: Callable[[], Any]) -> tuple[Any, int]:
    """Its result and the largest lag of the slot meanwhile, bytes."""
    done = threading.Event()
    largest = [0]

    def watch() -> None:
        while not done.wait(0.25):
            largest[0] = max(largest[0], slot_lag(b))

    thread = threading.Thread(target=watch)
    thread.start()
    result = action()
    done.set()
    thread.join()
    return result, largest[0]


def figure_outage(b: EsBench) -> None:
    seconds = max(10, 600 // b.scale)
    one = b.installed(sinks={"file": {"kind": "file", "path": "./changes.ndjson"}})
    one.start()
    one.wait_streaming()
    b.pg.sql("SELECT fabric.people(1, 1000)")
    one.wait_settled("search")
    alive, lag_alive = with_slot_lag(b, lambda: load_for(b, one, "file", min(seconds, 60)))
    b.es.kill()
    dead, lag_dead = with_slot_lag(b, lambda: load_for(b, one, "file", seconds))
    behind = one.sink("search")["records_behind"]
    b.es.start()
    began = time.monotonic()
    one.wait_settled("search", 900)
    caught_up = time.monotonic() - began
    one.stop()
    b.drop_slots()
    b.add(f"the other sink, Elasticsearch dead for {seconds} s", text_of(dead), f"{text_of(alive)} (alive)", "the same")
    b.add("largest lag of the slot meanwhile", f"{lag_dead / 1024:.0f} KiB", f"{lag_alive / 1024:.0f} KiB (alive)", "the same")
    b.add("catching up without a restart", f"{behind:,} records in {caught_up:.1f} s", "-", "-")


FIGURES: dict[str, Callable[[EsBench], None]] = {
    "throughput": figure_throughput,
    "latency": figure_latency,
    "outage": figure_outage,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of everything, to see that it works")
    parser.add_argument("--pairs", type=int, default=4, help="even: the sides take turns at being first")
    options = parser.parse_args()
    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        parser.error(f"unknown figure {unknown[0]}; there are {', '.join(FIGURES)}")
    b = EsBench(options.quick, options.pairs)
    try:
        b.add("a sync of 4 KiB on this disk", f"{sync_ms(b.work.path):.2f} ms", f"Elasticsearch {VERSION}", "-")
        for name in options.figures or FIGURES:
            FIGURES[name](b)
    finally:
        b.print()
        b.close()


if __name__ == "__main__":
    main()
