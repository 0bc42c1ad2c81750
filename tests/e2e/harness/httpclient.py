"""HTTP over TCP or a Unix socket with the standard library only. A body that breaks off raises."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any, Iterator, Mapping
from urllib.parse import urlencode


@dataclass
class Response:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def ndjson(self) -> list[Any]:
        """Every line; the last one must be ended."""
        assert not self.body or self.body.endswith(b"\n"), f"torn last line: {self.body[-200:]!r}"
        return [json.loads(line) for line in self.body.splitlines()]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Http:
    def __init__(self, port: int | None = None, unix: str | None = None) -> None:
        assert (port is None) != (unix is None), "one of port and unix"
        self.port = port
        self.unix = unix

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """A body that is not bytes is sent as JSON."""
        with self.stream(method, path, query, body, headers, timeout) as answer:
            return Response(answer.status, _lower(answer), answer.read())

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer as it comes: iterate over its lines, or read1()."""
        connection = self._connection(timeout)
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, _target(path, query), body=body, headers=sent)
            yield connection.getresponse()
        finally:
            connection.close()

    def get(self, path: str, **query: Any) -> Response:
        return self.request("GET", path, query)

    def post(self, path: str, body: Any = None) -> Response:
        return self.request("POST", path, body={} if body is None else body)

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.unix is not None:
            return _UnixConnection(self.unix, timeout)
        assert self.port is not None
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)


def _target(path: str, query: Mapping[str, Any] | None) -> str:
    """`from` and `until` are given as from_ and until_ where Python reserves the word."""
    wanted = {name.rstrip("_"): value for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(wanted)}" if wanted else path


def _lower(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.getheaders()}
