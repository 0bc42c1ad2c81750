"""An Elasticsearch that misbehaves on command: a proxy before a real node, so that documents, versions and tombstones
are the real server's and tests judge what it holds afterwards. Faults answer in the node's place, change what is
forwarded, or spoil the answer."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Mapping

from harness.elasticsearch import Elasticsearch
from harness.system import free_port, wait_until


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes  # unpacked
    is_packed: bool
    at: float = 0.0  # when it had come, time.monotonic()


@dataclass
class Answer:
    """What goes back. None for a status: the connection is closed without one."""

    status: int | None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    send: int | None = None  # bytes of the body that are sent before the connection is closed; None: all
    drip: float = 0.0  # seconds between single bytes
    is_endless: bool = False  # blanks for ever, until the client has enough or the fake ends


Forward = Callable[[Request], Answer]
Fault = Callable[[Request, Forward], Answer]


@dataclass
class Action:
    """One of a _bulk body."""

    op: str  # index, delete, ...
    meta: dict[str, Any]
    lines: bytes

    @property
    def id(self) -> str:
        return self.meta["_id"]

    @property
    def source(self) -> dict[str, Any] | None:
        lines = self.lines.split(b"\n")
        return json.loads(lines[1]) if lines[1] else None


def actions_of(body: bytes) -> list[Action]:
    """Strict: what is not an action or a document raises."""
    lines = body.split(b"\n")
    assert lines.pop() == b"", "a _bulk body ends with a line break"
    found: list[Action] = []
    while lines:
        head = lines.pop(0)
        ((op, meta),) = json.loads(head).items()
        assert op in ("index", "create", "delete"), op
        document = b"" if op == "delete" else lines.pop(0) + b"\n"
        found.append(Action(op, meta, head + b"\n" + document))
    return found


# --- faults


def status(code: int, error: str = "", headers: Mapping[str, str] | None = None) -> Fault:
    """In the node's place: nothing is applied."""
    body = json.dumps({"error": {"type": error or "fake_exception", "reason": "fake"}, "status": code}).encode()
    return lambda request, forward: Answer(code, body, {"Content-Type": "application/json", **(headers or {})})


def refuse_items(code: int, error: str, where: Callable[[Action], bool] = lambda action: True) -> Fault:
    """Those actions fail, alone; the others are applied."""

    def fault(request: Request, forward: Forward) -> Answer:
        actions = actions_of(request.body)
        refused = [where(action) for action in actions]
        kept = b"".join(action.lines for action, no in zip(actions, refused) if not no)
        items: list[Any] = []
        answer = Answer(200, b"{}", {"Content-Type": "application/json"})
        if kept:
            answer = forward(Request(request.method, request.path, request.headers, kept, False))
            if answer.status != 200:
                return answer
            items = json.loads(answer.body).get("items", [])
            assert len(items) == refused.count(False)
        merged = []
        for action, no in zip(actions, refused):
            failed = {action.op: {"status": code, "error": {"type": error, "reason": "fake"}}}
            merged.append(failed if no else items.pop(0))
        errors = any("error" in entry for item in merged for entry in item.values())
        answer.body = json.dumps({"errors": errors, "items": merged}).encode()
        return answer

    return fault


def drop_after_applying(request: Request, forward: Forward) -> Answer:
    """The node did it, and nobody hears of it."""
    forward(request)
    return Answer(None)


def drop_before(request: Request, forward: Forward) -> Answer:
    return Answer(None)


def truncate(share: float = 0.5) -> Fault:
    """Applied; the answer breaks off."""

    def fault(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        answer.send = int(len(answer.body) * share)
        return answer

    return fault


def garble(change: Callable[[bytes], bytes]) -> Fault:
    """Applied; the answer is changed, its length is right."""

    def fault(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        answer.body = change(answer.body)
        return answer

    return fault


def change_items(change: Callable[[list[Any]], list[Any]]) -> Fault:
    """Applied; the answer has other items."""
    return garble(lambda body: json.dumps({"errors": True, "items": change(items_of(body))}).encode())


def items_of(body: bytes) -> list[Any]:
    return json.loads(body).get("items", [])


def pretend(change: Callable[[list[Any]], list[Any]], spoil: Callable[[Answer], None] = lambda answer: None) -> Fault:
    """Nothing is applied; the answer is that of a success, spoiled: whoever takes it for one loses documents."""

    def fault(request: Request, forward: Forward) -> Answer:
        items = change([{action.op: {"status": 200}} for action in actions_of(request.body)])
        body = json.dumps({"errors": False, "items": items}).encode()
        answer = Answer(200, body, {"Content-Type": "application/json"})
        spoil(answer)
        return answer

    return fault


def cut_off(answer: Answer) -> None:
    """For pretend: the connection is closed behind half of it."""
    answer.send = len(answer.body) // 2


def cut_short(answer: Answer) -> None:
    """For pretend: half of it, with that length."""
    answer.body = answer.body[: len(answer.body) // 2]


def drip(seconds: float) -> Fault:
    """Applied; the answer comes byte by byte."""

    def fault(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        answer.drip = seconds
        return answer

    return fault


def endless(request: Request, forward: Forward) -> Answer:
    """Applied; the answer never ends."""
    answer = forward(request)
    answer.is_endless = True
    return answer


# --- the server


@dataclass
class _Rule:
    fault: Fault
    path: str
    left: int | None
    used: int = 0


class FakeES:
    def __init__(self, node: Elasticsearch, tls: tuple[Path, Path] | None = None) -> None:
        """tls: certificate and key of 127.0.0.1; the node behind it speaks plainly."""
        self.node = node
        self.tls = tls
        self.port = free_port()
        self.requests: list[Request] = []
        self.is_closing = threading.Event()
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def inject(self, fault: Fault, times: int | None = 1, path: str = "/_bulk") -> _Rule:
        """The next `times` requests (None: all, until heal) whose path contains `path`. The rule counts them in used."""
        rule = _Rule(fault, path, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def heal(self) -> None:
        with self._lock:
            self._rules.clear()

    def wait_used(self, rule: _Rule, times: int = 1, timeout: float = 60.0) -> None:
        wait_until(lambda: rule.used >= times, timeout, f"the fault happens {times} times")

    def bulks(self) -> list[Request]:
        return [request for request in list(self.requests) if "/_bulk" in request.path]

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            rule = next((r for r in self._rules if r.path in request.path and r.left != 0), None)
            if rule is not None and rule.left is not None:
                rule.left -= 1
        if rule is None:
            return self.forward(request)
        try:
            return rule.fault(request, self.forward)
        finally:
            with self._lock:
                rule.used += 1

    def forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=300)
        skipped = ("host", "content-length", "content-encoding", "accept-encoding", "connection", "expect")
        headers = {name: value for name, value in request.headers.items() if name not in skipped}
        try:
            connection.request(request.method, request.path, request.body or None, headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() == "content-type"}
            return Answer(answer.status, answer.read(), kept)
        except (OSError, http.client.HTTPException):
            return Answer(None)  # the node is down
        finally:
            connection.close()

    # --- life

    def open(self) -> None:
        """Again after close(): same port."""
        fake = self

        class Handler(_Handler):
            owner = fake

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is what some tests are about."""

        self.is_closing.clear()
        self._server = Server(("127.0.0.1", self.port), Handler)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nothing listens any more: a refused connection."""
        self.is_closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FakeES

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("transfer-encoding"):
            self.send_error(501, "chunked")
            return
        body = self.rfile.read(int(headers.get("content-length", "0")))
        is_packed = headers.get("content-encoding") == "gzip"
        unpacked = gzip.decompress(body) if is_packed else body
        answer = self.owner.answer(Request(self.command, self.path, headers, unpacked, is_packed, time.monotonic()))
        if answer.status is None or self.owner.is_closing.is_set():
            self._cut()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        length = len(answer.body) if not answer.is_endless else 1 << 50
        if self.command != "HEAD":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self._send(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve

    def _send(self, answer: Answer) -> None:
        sent = answer.body if answer.send is None else answer.body[: answer.send]
        if answer.drip:
            for at in range(len(sent)):
                self.wfile.write(sent[at : at + 1])
                if self.owner.is_closing.wait(answer.drip):
                    return
        elif answer.is_endless:
            while not self.owner.is_closing.wait(0.001):
                self.wfile.write(b" " * 65536)
        else:
            self.wfile.write(sent)
        if answer.send is not None:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def log_message(self, format: str, *args: Any) -> None:
        pass
