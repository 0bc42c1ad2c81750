"""deploy/: the tour with Elasticsearch, and the compose file as far as it can be shown without an engine of containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
import yaml
from harness import Elasticsearch, Postgres, Search
from harness.oneslot import merged
from harness.postgres import binaries
from harness.system import ACCOUNT, REPO, WorkFolder, free_port

Make = Callable[..., Any]
COMPOSE = REPO / "deploy" / "compose"


@pytest.mark.timeout(600)  # it builds first
def test_quickstart_compares_the_documents_with_the_table() -> None:
    ports = ["--port", str(free_port()), "--pg-port", str(free_port())]  # the usual ones are test_quickstart's
    options = ["--no-install", "--with", "elasticsearch", "--rate", "100", "--check", "5", *ports]
    argv = [str(REPO / "deploy" / "quickstart"), *options]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(re.findall(r"^([a-z-]+) (\d+)$", done.stdout, re.MULTILINE))
    assert int(found["documents"]) == int(found["rows"]) > 0
    assert (found["documents-different"], found["dead-letters"]) == ("0", "0")


def test_quickstart_finds_a_document_that_is_not_its_row(pg: Postgres) -> None:
    """The judge judged: one value, one column, one document, one id that is wrong each show."""
    run_sql(pg, people_table())
    run_sql(pg, "INSERT INTO fabric.user_data (id, name) VALUES ('00000000-0000-0000-0000-00000000000a', 'Anna')")
    row = pg.value("SELECT to_jsonb(t) FROM fabric.user_data t", user="postgres")
    good = {"_id": row["id"], "_source": row}
    cases = [
        ([good], 0),
        ([], 1),
        ([{**good, "_id": "else"}], 2),
        ([{**good, "_source": {**row, "name": "Ana"}}], 2),
        ([{**good, "_source": {name: row[name] for name in row if name != "cell"}}], 2),
        ([{**good, "_source": {**row, "more": None}}], 2),
        ([good, {"_id": "b", "_source": {**row, "id": "00000000-0000-0000-0000-00000000000b"}}], 1),
    ]
    for documents, different in cases:
        lines = "".join(json_line(document) for document in documents)
        report = run_sql(pg, REPO / "deploy" / "quickstart-compare-search.sql", lines)
        assert f"documents-different {different}" in report.splitlines(), (documents, report)


def json_line(value: Any) -> str:
    return json.dumps(value) + "\n"


def people_table() -> str:
    script = (REPO / "deploy" / "quickstart-people.sql").read_text(encoding="utf-8")
    table = re.search(r"CREATE SCHEMA fabric;\nCREATE TABLE fabric\.user_data \(.*?\n\);", script, re.DOTALL)
    assert table is not None
    return table.group()


def run_sql(pg: Postgres, script: str | Path, stdin: str = "") -> str:
    """As superuser, by psql."""
    what = ["-f", str(script)] if isinstance(script, Path) else ["-c", script]
    argv = [str(binaries() / "psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", pg.dsn("postgres", unix=True), *what]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- install-deps

# All but the missing ones are installed.
DPKG_QUERY = """#!/bin/sh
for package; do
    case " cmake libyaml-dev -W " in *" $package "*) ;; *) printf 'ii %s\\n' "$package" ;; esac
done
"""


def test_install_deps_says_what_root_has_to_run(work: WorkFolder) -> None:
    """As an ordinary user on a machine without sudo: the exact line, and nothing is tried."""
    if os.geteuid() == 0:
        assert ACCOUNT.user is not None, "an unprivileged user to run it as"
    bin_folder, deploy = work.new("bin"), work.new("deploy")
    for tool in ("bash", "cat", "dirname", "env", "grep", "id", "sed"):
        (bin_folder / tool).symlink_to(shutil.which(tool) or tool)
    (bin_folder / "dpkg-query").write_text(DPKG_QUERY)
    (bin_folder / "dpkg-query").chmod(0o755)
    shutil.copy(REPO / "deploy" / "install-deps", deploy)
    done = subprocess.run(
        [str(deploy / "install-deps")],
        env={"PATH": str(bin_folder)},
        cwd=deploy,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **ACCOUNT.popen_options(),
    )
    assert done.returncode == 1 and done.stdout == "", done
    assert done.stderr.splitlines() == [
        "install-deps: packages are missing, and this is neither root nor a user with sudo. As root, run:",
        "  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends cmake libyaml-dev",
    ]


# --- compose


def compose() -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))


def mounts() -> Iterator[tuple[str, str]]:
    """(what is mounted, where) of every service."""
    for service in compose()["services"].values():
        for mount in service.get("volumes", ()):
            source, target = mount.split(":")[:2]
            yield source, target


def test_compose_opens_nothing_beyond_this_machine() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert ports and all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports), ports
    assert all("network_mode" not in service for service in compose()["services"].values())


def test_compose_names_what_there_is() -> None:
    file = compose()
    services = file["services"]
    for name, service in services.items():
        assert set(service.get("secrets", ())) <= set(file["secrets"]), name
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"} and "healthcheck" in services[other], name
    for source, _ in mounts():
        assert source in file["volumes"] if source[0] not in "./" else (COMPOSE / source).is_file(), source
    used = {source for source, _ in mounts() if source[0] not in "./"}
    assert used == set(file["volumes"])
    assert (REPO / services["oneslot"]["build"]["dockerfile"]).is_file()
    images = [service["image"] for service in services.values() if service["image"].startswith("docker.elastic.co/")]
    assert len(images) >= 2 and len({image.rsplit(":", 1)[1] for image in images}) == 1, images


def test_the_image_is_made_of_what_its_context_has() -> None:
    """Everything that CMake reads is let in by Dockerfile.dockerignore."""
    lines = (COMPOSE / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    for line in lines[1:]:
        assert line[0] == "!" and (REPO / line[1:]).exists(), line
    cmake = (REPO / "CMakeLists.txt").read_text(encoding="utf-8")
    folders = set(re.findall(r"^folder_library\(\w+ (\w+)", cmake, re.MULTILINE))
    assert folders and folders <= {line[1:] for line in lines}


def test_make_secrets_makes_each_once(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets"
    script.write_bytes((COMPOSE / "make-secrets").read_bytes())
    subprocess.run(["bash", str(script)], check=True)
    folder = tmp_path / "secrets"
    made = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert {f"./secrets/{name}" for name in made} == {secret["file"] for secret in compose()["secrets"].values()}
    assert len(set(made.values())) == len(made) and all(re.fullmatch("[0-9a-f]{48}", text) for text in made.values())
    assert folder.stat().st_mode & 0o777 == 0o700
    subprocess.run(["bash", str(script)], check=True)
    assert made == {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_the_containers_scripts_and_configuration_work_together(
    pg: Postgres, es: Elasticsearch, work: WorkFolder, make_oneslot: Make
) -> None:
    """The image's init scripts in their order, then oneslot with the file's configuration, addresses changed."""
    pg.sql("ALTER ROLE oneslot RENAME TO another", user="postgres")
    secret = work.new("s") / "oneslot_password"
    secret.write_text("it's one", encoding="utf-8")
    secret.chmod(0o644)
    scripts = sorted((target, source) for source, target in mounts() if "initdb.d" in target)
    assert len(scripts) == 3
    for target, source in scripts:
        copy = secret.parent / os.path.basename(target)
        text = (COMPOSE / source).read_text(encoding="utf-8")
        copy.write_text(text.replace("/run/secrets/oneslot_password", str(secret)), encoding="utf-8")
        run_sql(pg, copy)
    config = yaml.safe_load((COMPOSE / "oneslot.yaml").read_text(encoding="utf-8"))
    sinks = {name: merged(sink, {"url": es.url}) for name, sink in config["sinks"].items()}
    source = merged(config["source"], {"dsn": pg.dsn("oneslot"), "password_file": str(secret)})
    search = Search(pg, make_oneslot(pg, config={"source": source, "sinks": {"file": None, **sinks}}), es)
    checked = search.oneslot.cli("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    search.start()
    # What the container's healthcheck asks for.
    healthy = compose()["services"]["oneslot"]["healthcheck"]["test"][1]
    wanted = re.search(r"grep -q '(.*)'", healthy)
    assert wanted is not None and wanted.group(1) in search.oneslot.cli("lag", "--json").stdout
    run_sql(pg, "SELECT quickstart.arrive() FROM generate_series(1, 20)")
    run_sql(pg, "SELECT quickstart.change_somebody() FROM generate_series(1, 20)")
    search.settle()
    report = run_sql(
        pg,
        REPO / "deploy" / "quickstart-compare-search.sql",
        "".join(json_line({"_id": id, "_source": d.source}) for id, d in search.documents("fabric.user_data").items()),
    )
    assert "documents 20" in report.splitlines() and "documents-different 0" in report.splitlines(), report
