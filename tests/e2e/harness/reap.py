"""Ends what a killed test run left behind: the processes whose environment names that run.
Usage: reap.py RUN_ID. Needs nothing but the standard library."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def left_behind(run_id: str) -> list[int]:
    wanted = f"ONESLOT_TEST_RUN={run_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or not _is_server(entry):
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def _is_server(entry: Path) -> bool:
    """The shell and the Python of the run itself carry the variable too. (java: Elasticsearch.)"""
    try:
        program = os.path.basename((entry / "cmdline").read_bytes().split(b"\0")[0])
    except OSError:
        return False
    return program.startswith((b"oneslot", b"postgres", b"java"))


def main() -> int:
    for pid in left_behind(sys.argv[1]):
        print(f"reap: killing what a test left behind: {pid}", file=sys.stderr)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
