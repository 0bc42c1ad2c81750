"""P2: a replicator that was killed may have an append still on its way. Whatever of it arrives behind its successor's
session is refused (409) and nothing of it is in the log."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Callable, Iterator

import pytest
from harness import Http, Oneslot, Postgres, assert_tables_equal, check_log, fold
from harness.system import ACCOUNT


class Append:
    """One POST /internal/append whose body is being held back."""

    def __init__(self, upstream: socket.socket, rest: bytes) -> None:
        self.upstream = upstream
        self.rest = rest

    def arrive(self) -> int:
        """The rest of it reaches the broker; the status of the answer."""
        self.upstream.sendall(self.rest)
        self.upstream.settimeout(30)
        answer = self.upstream.recv(65536)
        self.upstream.close()
        return int(answer.split(b" ", 2)[1])


class Road:
    """Between replicator and broker: passes everything on, and holds back the appends that it is told to, which
    outlive the replicator that sent them."""

    def __init__(self, data: Path) -> None:
        self.path = data / "append.sock"
        self.real = data / "append.real"
        os.rename(self.path, self.real)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        ACCOUNT.own(self.path)
        self.listener.listen()
        self.wants: Callable[[bytes], int | None] | None = None
        self.held: list[Append] = []
        self.changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold_next(self, wants: Callable[[bytes], int | None]) -> None:
        """wants(body) is how many bytes of it may pass; None: all, and wait for another one."""
        self.wants = wants

    def wait_held(self, number: int) -> Append:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.held) >= number, 60), "no such append came"
        return self.held[number - 1]

    def close(self) -> None:
        self.listener.close()
        os.unlink(self.path)
        os.rename(self.real, self.path)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                upstream.connect(str(self.real))
                threading.Thread(target=self._serve, args=[client, upstream], daemon=True).start()

    def _serve(self, client: socket.socket, upstream: socket.socket) -> None:
        """One request at a time, as our clients send them."""
        stream = client.makefile("rb")
        with contextlib.suppress(OSError):
            while request := _request(stream):
                head, body = request
                passes = self._passes(head, body)
                if passes is not None:
                    upstream.sendall(head + body[:passes])
                    self._keep(Append(upstream, body[passes:]))
                    return  # the client waits, or is killed
                upstream.sendall(head + body)
                client.sendall(_answer(upstream))
        client.close()
        upstream.close()

    def _passes(self, head: bytes, body: bytes) -> int | None:
        if self.wants is None or not head.startswith(b"POST /internal/append "):
            return None
        passes = self.wants(body)
        if passes is not None:
            self.wants = None
        return passes

    def _keep(self, append: Append) -> None:
        with self.changed:
            self.held.append(append)
            self.changed.notify_all()


def _request(stream: "socket.SocketIO") -> tuple[bytes, bytes] | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    return head, stream.read(_length(head))


def _answer(upstream: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(upstream)
    head, _, body = data.partition(b"\r\n\r\n")
    length = _length(head + b"\r\n\r\n")
    while len(body) < length:
        body += _more(upstream)
    return head + b"\r\n\r\n" + body


def _more(upstream: socket.socket) -> bytes:
    data = upstream.recv(1 << 20)
    if not data:
        raise OSError("the broker closed the connection")
    return data


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


@pytest.fixture
def road(pg: Postgres, oneslot: Oneslot) -> Iterator[Road]:
    """Broker and replicator run, with a road between them."""
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    oneslot.start_broker()
    oneslot.wait_serving()
    road = Road(oneslot.data)
    oneslot.start_replicator()
    oneslot.wait_streaming()
    pg.sql("INSERT INTO t VALUES (0, 'first')")
    oneslot.wait_durable(pg)
    yield road
    road.close()


def succeed(oneslot: Oneslot) -> None:
    """The replicator is killed, another one takes over."""
    oneslot.kill_and_wait("replicator")
    sessions = oneslot.log_text().count("ev=session_opened generation=")
    oneslot.start_replicator()
    oneslot.wait(
        lambda: oneslot.log_text().count("ev=session_opened generation=") > sessions, 30, "the successor has a session"
    )


def check(pg: Postgres, oneslot: Oneslot, number: int) -> None:
    oneslot.wait_durable(pg)
    changes = oneslot.changes()
    assert check_log(changes) == number
    assert_tables_equal(pg, fold(changes), ["public.t"])


def test_half_an_append_that_arrives_after_the_successors_data_is_refused(
    pg: Postgres, oneslot: Oneslot, road: Road
) -> None:
    road.hold_next(lambda body: len(body) // 2)
    pg.sql("INSERT INTO t VALUES (1, 'on its way')")
    late = road.wait_held(1)
    succeed(oneslot)
    check(pg, oneslot, 2)
    assert late.arrive() == 409
    check(pg, oneslot, 2)
    pg.sql("INSERT INTO t VALUES (2, 'goes on')")
    check(pg, oneslot, 3)


def test_half_an_append_that_arrives_before_the_successors_data_is_refused(
    pg: Postgres, oneslot: Oneslot, road: Road
) -> None:
    """The successor has its session but nothing of the change yet: only the fence is left to refuse it."""
    road.hold_next(lambda body: len(body) // 2)
    pg.sql("INSERT INTO t VALUES (1, 'on its way')")
    late = road.wait_held(1)
    road.hold_next(lambda body: 0)
    succeed(oneslot)
    again = road.wait_held(2)
    assert late.arrive() == 409
    assert len(oneslot.changes()) == 1, "nothing of it is in the log"
    assert again.arrive() == 200
    assert len(oneslot.changes()) == 2
    oneslot.kill_and_wait("replicator")  # its answer went to the road
    oneslot.start_replicator()
    check(pg, oneslot, 2)


def test_the_middle_of_a_transaction_is_refused_in_the_middle_of_the_same_one(
    pg: Postgres, oneslot: Oneslot, road: Road
) -> None:
    """A transaction of many appends: some of it was durable when its replicator was killed, one append is on its
    way and has neither begin nor commit; the successor is itself in the middle of that transaction. The rest of the
    old one would fit there, and double its rows."""
    appends: list[int] = []

    def third(body: bytes) -> int | None:
        appends.append(len(body))
        return len(body) // 2 if len(appends) == 3 else None

    road.hold_next(third)
    pg.sql("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i")
    late = road.wait_held(1)
    appends.clear()
    road.hold_next(third)
    succeed(oneslot)
    again = road.wait_held(2)
    assert len(oneslot.changes()) == 1, "half a transaction is not visible"
    assert late.arrive() == 409
    assert again.arrive() == 200
    oneslot.kill_and_wait("replicator")
    oneslot.start_replicator()
    check(pg, oneslot, 20001)


def test_a_session_opened_by_hand_fences_the_replicator_which_goes_on_with_another(
    pg: Postgres, oneslot: Oneslot, road: Road
) -> None:
    """Whoever opens a session is the one: the former is told so and begins again, without losing anything."""
    stranger = Http(unix=str(road.real))
    answer = stranger.request("POST", "/internal/session", headers={"Content-Type": "application/msgpack"}, body=b"")
    assert answer.status == 200
    pg.sql("INSERT INTO t VALUES (1, 'fenced, and sent again')")
    check(pg, oneslot, 2)
    assert oneslot.log_contains("code=FENCED")
