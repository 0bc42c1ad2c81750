"""Who may use the HTTP interface and how much of it: nobody from another machine or a web page, bounded in headers,
bodies, connections and time; files that other users cannot open; and /openapi.json, which is true."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from openapi_spec_validator import validate

from harness import Oneslot, Postgres, wait_until

IDLE_SECONDS = 60  # broker.c, IDLE_TIMEOUT_S
CONNECTIONS = 256  # broker.c, READ_CONNECTIONS
READERS = 64  # readers.h, READERS_MAX


def connect(oneslot: Oneslot, timeout: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", oneslot.port), timeout)


def raw(oneslot: Oneslot, request: bytes) -> bytes:
    """Everything that is answered until the connection ends."""
    answer = b""
    with connect(oneslot) as s:
        with contextlib.suppress(OSError):
            s.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            while piece := s.recv(65536):
                answer += piece
    return answer


def status(answer: bytes) -> int:
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert match, answer[:200]
    return int(match[1])


def ask(oneslot: Oneslot, head: str, body: bytes = b"") -> int:
    lines = head.strip().replace("\n", "\r\n")
    return status(raw(oneslot, f"{lines}\r\nConnection: close\r\n\r\n".encode() + body))


@pytest.fixture
def serving(make_oneslot: Callable[..., Oneslot]) -> Oneslot:
    """A broker without a source."""
    oneslot = make_oneslot()
    oneslot.start_broker()
    oneslot.wait_serving()
    return oneslot


def test_only_loopback_names_are_hosts(serving: Oneslot) -> None:
    def host(name: str) -> int:
        return ask(serving, f"GET /healthz HTTP/1.1\nHost: {name}")

    for name in ("localhost", "127.0.0.1", f"127.0.0.1:{serving.port}", "[::1]", "[::1]:80", "LOCALHOST:7432"):
        assert host(name) == 200, name
    for name in ("example.com", f"rebound.example:{serving.port}", "127.0.0.1.example.com", "localhost.", "10.0.0.1", ""):
        assert host(name) == 403, name
    assert ask(serving, "GET /healthz HTTP/1.1\nX: y") == 400
    assert ask(serving, "GET /healthz HTTP/1.1\nHost: localhost\nHost: example.com") == 400
    refused = serving.http.request("GET", "/healthz", headers={"Host": "example.com"})
    assert refused.headers["content-type"] == "application/problem+json"
    assert "localhost, 127.0.0.1 or [::1]" in refused.json()["detail"]
    assert "access-control-allow-origin" not in serving.http.get("/lag").headers


def test_a_post_that_a_web_page_could_send_is_refused(serving: Oneslot) -> None:
    def post(kind: str, path: str = "/sinks/x/pause") -> int:
        line = f"\nContent-Type: {kind}" if kind else ""
        return ask(serving, f"POST {path} HTTP/1.1\nHost: localhost\nContent-Length: 2{line}", b"{}")

    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert post(kind) == 415, kind
    for kind in ("application/json", "application/json; charset=utf-8", "application/msgpack"):
        assert post(kind) == 404, kind
    assert ask(serving, "DELETE /sinks/x HTTP/1.1\nHost: localhost\nContent-Length: 2", b"{}") == 415


def test_internal_calls_are_for_the_socket_only(serving: Oneslot) -> None:
    for method, path in (
        ("GET", "/internal/fetch?from=0"),
        ("POST", "/internal/sinks/file/session"),
        ("POST", "/internal/sinks/file/commit"),
        ("POST", "/internal/sinks/file/status"),
    ):
        body = {} if method == "POST" else None
        refused = serving.http.request(method, path, body=body)
        assert refused.status == 403 and "oneslot.sock" in refused.json()["detail"], refused
        assert serving.unix.request(method, path, body=body).status not in (403, 404, 405)
    for path in ("/internal/source", "/internal/session", "/internal/append"):
        assert serving.http.request("POST", path, body={}).status in (403, 404)
        assert serving.unix.request("POST", path, body={}).status == 404, "the writer's calls have a socket of their own"


def test_files_are_for_their_owner_only(pg: Postgres, oneslot: Oneslot) -> None:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)")
    oneslot.start()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t VALUES (1)")
    oneslot.wait_caught_up(pg)
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [oneslot.data, *oneslot.data.rglob("*")]}
    sockets = [path.name for path in modes if path.is_socket()]
    assert sorted(sockets) == ["append.sock", "oneslot.sock"]
    assert modes[oneslot.data] == 0o700
    for path, mode in modes.items():
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path} {mode:o}"
    written = oneslot.folder / "changes.ndjson"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_listen_takes_localhost_and_ipv6(make_oneslot: Callable[..., Oneslot]) -> None:
    named = make_oneslot()
    named.change_config(listen=f"localhost:{named.port}")
    named.start_broker()
    named.wait_serving()
    assert asked_by_name("localhost", named.port) == 200
    numbered = make_oneslot()
    numbered.change_config(listen=f"127.0.0.2:{numbered.port}")
    numbered.start_broker()
    numbered.wait(lambda: asked_by_name("127.0.0.2", numbered.port) == 200, 20, "it answers at 127.0.0.2")
    if os.path.exists("/proc/net/if_inet6") and "00000000000000000000000000000001" in Path("/proc/net/if_inet6").read_text():
        six = make_oneslot()
        six.change_config(listen=f"[::1]:{six.port}")
        six.start_broker()
        six.wait(lambda: asked_by_name("::1", six.port) == 200, 20, "it answers at ::1")


def asked_by_name(host: str, port: int) -> int:
    """The status of a request to the configured address, which the client names in its Host."""
    connection = http.client.HTTPConnection(host, port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        return connection.getresponse().status


# --- bounds


def test_headers_and_bodies_are_bounded(serving: Oneslot) -> None:
    def with_header(size: int) -> bytes:
        head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: "
        return head + b"x" * size + b"\r\n\r\n"

    assert status(raw(serving, with_header(8 * 1024))) == 200
    assert status(raw(serving, with_header(40 * 1024))) == 431
    assert raw(serving, with_header(4 * 1024 * 1024))[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.1 413")
    long_query = raw(serving, b"GET /changes?from=" + b"1" * 50000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(long_query) in (414, 431)
    post = "POST /sinks/x/pause HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {}"
    assert ask(serving, post.format(10**6), b"x" * 10**6) == 413
    assert ask(serving, post.format(2**62)) == 413
    assert ask(serving, post.format("2\nContent-Length: 3"), b"{}") == 400
    assert ask(serving, post.format("2\nTransfer-Encoding: chunked"), b"0\r\n\r\n") == 400
    assert ask(serving, "GET /changes HTTP/1.0\nHost: localhost") == 505, "a stream needs chunks"
    for rubbish in (b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n"):
        assert raw(serving, rubbish)[:9] in (b"", b"HTTP/1.1 ")
    with connect(serving) as unfinished:
        unfinished.sendall(b"\0" * 100)
    assert serving.http.get("/healthz").status == 200
    head = serving.http.request("HEAD", "/healthz")
    assert head.status in (200, 405) and head.body == b""


def test_too_many_readers_are_told_so(filled: Oneslot, pg: Postgres) -> None:
    serving = filled
    with contextlib.ExitStack() as stack:
        for number in range(READERS):
            query = {"follow": 1, "from": "latest"}
            stream = stack.enter_context(serving.http.stream("GET", "/changes", query))
            assert stream.status == 200, number
        refused = serving.http.get("/changes")
        assert refused.status == 429 and int(refused.headers["retry-after"]) > 0
        assert refused.json()["detail"].startswith(f"{READERS} readers")
        assert serving.http.get("/lag").status == 200
    pg.sql("INSERT INTO t VALUES (3, 'who has gone is noticed when there is something to send')")
    wait_until(lambda: serving.http.get("/changes").status == 200, 20, "there is room again")


def test_connections_are_bounded_and_idle_ones_do_not_shut_others_out(serving: Oneslot) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(serving)) for _ in range(CONNECTIONS - 20)]
        for s in held:
            s.sendall(b"GET /healthz HT")
        assert serving.http.get("/healthz").status == 200
        more = []
        for _ in range(100):
            with contextlib.suppress(OSError):
                more.append(stack.enter_context(connect(serving, 5)))
        wait_until(lambda: serving.unix.get("/healthz").status == 200, 20, "the socket has connections of its own")
        descriptors = len(os.listdir(f"/proc/{serving.pid('broker')}/fd"))
        assert descriptors < CONNECTIONS + 150, descriptors
        answer = raw(serving, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer == b"" or status(answer) == 503, answer
    wait_until(lambda: serving.http.get("/healthz").status == 200, 20, "they have gone, and all is well")


@pytest.mark.soak
def test_a_request_that_never_ends_is_closed(serving: Oneslot) -> None:
    """A byte now and then does not keep a connection: the whole header has its time."""
    began = time.monotonic()
    with connect(serving, 5 * IDLE_SECONDS) as silent, connect(serving) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        slow.settimeout(1)
        ended = False
        while not ended and time.monotonic() - began < 3 * IDLE_SECONDS:
            try:
                slow.sendall(b"x")
                ended = slow.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                ended = True
        assert ended and IDLE_SECONDS - 10 < time.monotonic() - began < 2 * IDLE_SECONDS
        assert silent.recv(1) == b""
    assert serving.http.get("/healthz").status == 200


# --- the description


@pytest.fixture
def filled(pg: Postgres, oneslot: Oneslot) -> Oneslot:
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL")
    oneslot.start()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t VALUES (1, 'a'), (2, NULL); UPDATE t SET v = 'b'; DELETE FROM t WHERE id = 1; TRUNCATE t")
    pg.emit("x")
    oneslot.wait_caught_up(pg)
    return oneslot


def test_the_description_is_valid_and_names_what_is_served(filled: Oneslot) -> None:
    document = filled.http.get("/openapi.json").json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    index = filled.http.get("/").body.decode()
    for path, methods in document["paths"].items():
        assert path in index and not path.startswith("/internal"), path
        for method, operation in methods.items():
            assert method in ("get", "delete", "post") and operation["summary"], (path, method)
    for path in ("/lag", "/lag/{sink}", "/changes", "/positions/{position}", "/sinks", "/metrics", "/healthz", "/readyz"):
        assert path in document["paths"], path
    query = {parameter["name"] for parameter in document["paths"]["/changes"]["get"]["parameters"]}
    assert {"from", "until", "tables", "ops", "limit", "follow", "wait", "format"} <= query


def test_answers_are_what_the_description_says(filled: Oneslot, work: Any) -> None:
    """schemathesis makes requests from the description and holds the answers against it."""
    schema = filled.folder / "openapi.json"
    document = filled.http.get("/openapi.json").json()
    for parameter in document["paths"]["/changes"]["get"]["parameters"]:
        if parameter["name"] in ("follow", "wait"):  # what is held open has tests of its own
            parameter["schema"] = {"enum": [0]}
    schema.write_text(json.dumps(document), encoding="utf-8")
    st = [str(Path(sys.executable).parent / "st"), "run", str(schema), "--url", f"http://127.0.0.1:{filled.port}"]
    options = ["--max-examples=15", "--workers=1", f"--seed={os.environ['ONESLOT_SEED']}", "--request-timeout=20"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    done = subprocess.run(
        [*st, *options, f"--checks={checks}", "--phases=examples,coverage,fuzzing", "--no-color"],
        cwd=filled.folder,
        env={**os.environ, "HOME": str(filled.folder)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert filled.http.get("/healthz").status == 200
