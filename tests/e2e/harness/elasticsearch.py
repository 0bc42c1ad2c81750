"""A real Elasticsearch or OpenSearch node of the tests' own, and what an index holds. deploy/fetch-elasticsearch brings
the server; it runs as the unprivileged account, on a port and in a folder of its own, and survives SIGKILL with its
data."""

from __future__ import annotations

import base64
import glob
import json
import os
import signal
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping
from urllib.parse import quote

from harness.httpclient import Http, Response
from harness.system import ACCOUNT, REPO, Process, WorkFolder, base_environment, free_port, kill, processes_with, wait_until

VERSION = os.environ.get("ONESLOT_ES_VERSION", "7.17.9")
# Beyond what a batch of the sink makes of ordinary rows, and little enough that a test can exceed it.
MAX_BODY_MIB = 16
USER, PASSWORD = "test", "secret1"
_BCRYPT = "$2a$10$RES9VkYCrnwFxqZcNgqw7eMB6hgNLAFCCOqHV/qtE.ca2VuG.G5KK"
# What the launcher of 7.17 would say; without some of these SIGTERM hangs.
_FLAGS_7 = """-XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -Djna.nosys=true -Dlog4j2.disable.jmx=true
 -Dlog4j.shutdownHookEnabled=false -Dio.netty.noUnsafe=true -Dio.netty.noKeySetOptimization=true
 -Dio.netty.recycler.maxCapacityPerThread=0 -Dio.netty.allocator.numDirectArenas=0 -Djava.locale.providers=SPI,COMPAT
 --add-opens=java.base/java.io=ALL-UNNAMED -Des.distribution.type=zip -Des.distribution.flavor=default
 -Des.bundled_jdk=false""".split()


@dataclass(frozen=True)
class Document:
    id: str
    version: int
    source: dict[str, Any]
    index: str


def java_home() -> Path:
    """ONESLOT_JAVA_HOME, or Debian's OpenJDK of a version that all of these servers run on."""
    if "ONESLOT_JAVA_HOME" in os.environ:
        return Path(os.environ["ONESLOT_JAVA_HOME"])
    for version in (17, 21):
        for found in glob.glob(f"/usr/lib/jvm/java-{version}-openjdk-*/bin/java"):
            return Path(found).parents[1]
    raise FileNotFoundError("no OpenJDK 17 or 21 under /usr/lib/jvm: run deploy/install-deps tests")


def server_home(version: str) -> Path:
    done = subprocess.run(
        [str(REPO / "deploy" / "fetch-elasticsearch"), version], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(done.stdout.strip())


class Elasticsearch:
    def __init__(
        self,
        work: WorkFolder,
        version: str = VERSION,
        heap: str = "512m",
        settings: Mapping[str, Any] | None = None,
        security: bool = False,
    ) -> None:
        """version: as deploy/fetch-elasticsearch takes it. security: user `test` with password `secret1`."""
        self.version = version
        self.is_opensearch = version.startswith("opensearch")
        self.home = server_home(version)
        self.folder = work.new("e")
        self.heap = heap
        self.port = free_port()
        self.security = security
        self.settings: dict[str, Any] = {
            "cluster.name": "test",
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": free_port(),
            "discovery.type": "single-node",
            "cluster.routing.allocation.disk.threshold_enabled": False,
            "action.destructive_requires_name": False,
            "http.max_content_length": f"{MAX_BODY_MIB}mb",
            **({} if self.is_opensearch else self._security()),
            **(settings or {}),
        }
        self.id = uuid.uuid4().hex
        self._process: Process | None = None
        self._write_config()

    # --- life

    def start(self, timeout: float = 180.0) -> "Elasticsearch":
        """Until it answers and its indices can be written."""
        assert not self.is_running(), "this node is running already"
        self._process = Process(self._argv(), self.folder / "server.log", self.home, self._environment())
        wait_until(self._is_ready, timeout, f"Elasticsearch answers, see {self.folder}/server.log and logs/")
        return self

    def kill(self) -> None:
        """SIGKILL to every process of it, until they are gone."""
        assert self._process is not None
        wait_until(self._kill_all, 20, "the node is gone")
        self._process.wait(20)

    def restart(self) -> None:
        """As after a crash: SIGKILL, then again on the same data and port."""
        if self.is_running():
            self.kill()
        self.start()

    def stop(self) -> None:
        """As a person would."""
        assert self._process is not None
        self._signal(signal.SIGTERM)
        wait_until(lambda: not self._pids(), 30, "the node ends after SIGTERM")
        self._process.wait(10)

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def is_running(self) -> bool:
        return bool(self._pids())

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP: requests hang, connections stay."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _pids(self) -> list[int]:
        return [pid for pid, _ in processes_with("ONESLOT_ES_ID", self.id)]

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            kill(pid, number)

    def _kill_all(self) -> bool:
        self._signal(signal.SIGKILL)
        return not self._pids()

    def _is_ready(self) -> bool:
        assert self._process is not None
        if not self._process.is_running():
            raise AssertionError(f"Elasticsearch did not start:\n{self._process.text()[-4000:]}")
        if self.request("GET", "/").status != 200:
            return False
        health = self.request("GET", "/_cluster/health")
        return health.status == 200 and health.json()["status"] in ("green", "yellow")

    # --- asking it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: Any = None, timeout: float = 30.0, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Whatever the status."""
        sent = dict(headers or {})
        if self.security and "Authorization" not in sent:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return Http(port=self.port).request(method, path, body=body, headers=sent, timeout=timeout)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The body of a success."""
        answer = self.request(method, path, body)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body[:2000]!r}"
        return answer.json() if answer.body else None

    def aliases(self) -> dict[str, list[str]]:
        """alias -> indices behind it."""
        found: dict[str, list[str]] = {}
        for index, entry in self.ask("GET", "/_alias").items():
            for alias in entry["aliases"]:
                found.setdefault(alias, []).append(index)
        return {alias: sorted(indices) for alias, indices in found.items()}

    def indices(self) -> list[str]:
        """Those that a sink made; a server's own begin with a dot."""
        return sorted(index for index in self.ask("GET", "/_alias") if not index.startswith("."))

    def mapping(self, index: str) -> dict[str, Any]:
        """Of the one index behind a name."""
        found = list(self.ask("GET", f"/{_q(index)}/_mapping").values())
        assert len(found) == 1, found
        return found[0]["mappings"]

    def refresh(self, index: str = "_all") -> None:
        self.ask("POST", f"/{_q(index)}/_refresh")

    def get(self, index: str, id: str) -> Document | None:
        """Realtime: what a write has acknowledged is seen."""
        answer = self.request("GET", f"/{_q(index)}/_doc/{_q(id)}")
        if answer.status == 404:
            return None
        found = answer.json()
        return Document(found["_id"], found["_version"], found["_source"], found["_index"])

    def documents(self, index: str) -> dict[str, Document]:
        """Every document of an index or alias by its id, after a refresh; none where there is no such index."""
        if self.request("POST", f"/{_q(index)}/_refresh").status == 404:
            return {}
        query = {"size": 500, "version": True, "sort": ["_doc"], "query": {"match_all": {}}}
        answer = self.ask("POST", f"/{_q(index)}/_search?scroll=1m", query)
        found: dict[str, Document] = {}
        while hits := answer["hits"]["hits"]:
            for hit in hits:
                assert hit["_id"] not in found, f"id {hit['_id']!r} in {found[hit['_id']].index} and {hit['_index']}"
                found[hit["_id"]] = Document(hit["_id"], hit["_version"], hit["_source"], hit["_index"])
            answer = self.ask("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": answer["_scroll_id"]})
        self.request("DELETE", "/_search/scroll", {"scroll_id": answer["_scroll_id"]})
        return found

    # --- doing something to it

    def set(self, index: str, **settings: Any) -> None:
        """Index settings, `__` for a dot; None is the default again."""
        body = {name.replace("__", "."): value for name, value in settings.items()}
        self.ask("PUT", f"/{_q(index)}/_settings", {"index": body})

    @contextmanager
    def read_only(self, index: str) -> Iterator[None]:
        """The flood stage's block."""
        self.set(index, blocks__read_only_allow_delete=True)
        try:
            yield
        finally:
            self.set(index, blocks__read_only_allow_delete=None)

    def put(self, index: str, id: str, source: Mapping[str, Any], version: int | None = None) -> None:
        """As another program would."""
        query = "" if version is None else f"?version={version}&version_type=external"
        self.ask("PUT", f"/{_q(index)}/_doc/{_q(id)}{query}", source)

    def clear(self) -> None:
        """Every index gone."""
        for index in self.indices():
            self.ask("DELETE", f"/{_q(index)}")
        self.request("PUT", "/_cluster/settings", {"transient": {"*": None}, "persistent": {"*": None}})

    # --- making it

    def _security(self) -> dict[str, Any]:
        if not (self.home / "modules" / "x-pack-security").is_dir():
            return {}
        return {"xpack.security.enabled": self.security, "xpack.security.authc.api_key.enabled": True}

    def _write_config(self) -> None:
        conf, name = self.folder / "conf", "opensearch" if self.is_opensearch else "elasticsearch"
        for folder in (conf, self.folder / "tmp"):
            folder.mkdir()
        lines = (self.home / "config" / "jvm.options").read_text().splitlines()
        # Those that write into the server's folder, or choose memory.
        kept = [line for line in lines if not any(word in line for word in ("logs/", "HeapDump", "-Xm")) and line[:1] != "#"]
        (conf / "jvm.options").write_text("\n".join([*kept, f"-Xms{self.heap}", f"-Xmx{self.heap}", ""]))
        (conf / "log4j2.properties").write_bytes((self.home / "config" / "log4j2.properties").read_bytes())
        (conf / f"{name}.yml").write_text("".join(f"{key}: {json.dumps(v)}\n" for key, v in self.settings.items()))
        if self.security:
            (conf / "users").write_text(f"{USER}:{_BCRYPT}\n")
            (conf / "users_roles").write_text(f"superuser:{USER}\n")
        ACCOUNT.own_tree(self.folder)

    def _environment(self) -> dict[str, str]:
        conf, tmp, java = str(self.folder / "conf"), str(self.folder / "tmp"), str(java_home())
        env = {**base_environment(self.folder), "ONESLOT_ES_ID": self.id, "LIBFFI_TMPDIR": tmp}
        if self.is_opensearch:
            return env | {"OPENSEARCH_PATH_CONF": conf, "OPENSEARCH_JAVA_HOME": java, "OPENSEARCH_TMPDIR": tmp}
        return env | {
            "ES_HOME": str(self.home),
            "ES_PATH_CONF": conf,
            "ES_JAVA_HOME": java,
            "ES_TMPDIR": tmp,
            "CLI_NAME": "server",
            "CLI_LIBS": "lib/tools/server-cli",
        }

    def _argv(self) -> list[str]:
        if self.is_opensearch:
            return ["bash", str(self.home / "bin" / "opensearch")]
        if not self.version.startswith("7."):
            return ["bash", str(self.home / "bin" / "elasticsearch-cli")]
        paths = [f"-Djava.io.tmpdir={self.folder}/tmp", f"-Des.path.home={self.home}", f"-Des.path.conf={self.folder}/conf"]
        memory = [f"-Xms{self.heap}", f"-Xmx{self.heap}"]
        main = ["-cp", f"{self.home}/lib/*", "org.elasticsearch.bootstrap.Elasticsearch"]
        return [str(java_home() / "bin" / "java"), *memory, *_FLAGS_7, *paths, *main]


def _q(name: str) -> str:
    """Every byte of a name that means something in a path, the slash too; commas stay: several names."""
    return quote(name, safe=",*")
