"""A disk of a few MiB (tmpfs) that a test can fill: mounted by root, or inside a user namespace of the test's own
where an ordinary user runs the tests."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import time
from pathlib import Path

from harness.oneslot import Oneslot
from harness.system import ACCOUNT, Programs, WorkFolder, wait_until


class SmallDisk:
    """`path` is where programs started through `programs` see it, `view` where the test does."""

    def __init__(self, work: WorkFolder, size: int) -> None:
        self.path = work.new("disk")
        self.size = size
        self._holder: subprocess.Popen[bytes] | None = None
        self._is_mounted = False
        if os.geteuid() == 0 and self._mount():
            self.view = self.path
        else:
            self.view = self._hold(work)

    def _mount(self) -> bool:
        user = ACCOUNT.user
        owner = f",uid={user.pw_uid},gid={user.pw_gid}" if user else ""
        options = f"size={self.size},mode=755{owner}"
        argv = ["mount", "-t", "tmpfs", "-o", options, "oneslot-test", str(self.path)]
        self._is_mounted = subprocess.run(argv, capture_output=True, check=False).returncode == 0
        return self._is_mounted

    def _hold(self, work: WorkFolder) -> Path:
        """A process that keeps user and mount namespace alive; the test looks in through /proc."""
        script = f"mount -t tmpfs -o size={self.size} oneslot-test {shlex.quote(str(self.path))} && exec sleep 1000"
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **ACCOUNT.popen_options(),  # type: ignore[call-overload]
        )
        view = Path(f"/proc/{self._holder.pid}/root{self.path}")
        wait_until(lambda: self._is_there(view), 10, "a tmpfs in a user namespace: neither mount nor unshare works here")
        return view

    def _is_there(self, view: Path) -> bool:
        assert self._holder is not None and self._holder.stderr is not None
        if self._holder.poll() is not None:
            raise AssertionError(f"no small disk to be had: {self._holder.stderr.read().decode()}")
        mounts = Path(f"/proc/{self._holder.pid}/mountinfo").read_text(encoding="utf-8")
        return f" {self.path} " in mounts and os.statvfs(view).f_blocks * os.statvfs(view).f_frsize <= self.size

    def programs(self, programs: Programs, work: WorkFolder) -> Programs:
        """The same programs, begun inside the namespace where there is one."""
        if self._holder is None:
            return programs
        folder = work.new("bin")
        for real in programs.folder.glob("oneslot*"):
            enter = f"exec nsenter --preserve-credentials --user --mount --target {self._holder.pid} --wd=\"$PWD\" --"
            script = folder / real.name
            script.write_text(f'#!/bin/sh\n{enter} {shlex.quote(str(real))} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
        inside = object.__new__(Programs)
        inside.__dict__.update(programs.__dict__, folder=folder)
        return inside

    def adopt(self, oneslot: Oneslot, data: str = "data") -> None:
        """Its data folder lies here."""
        oneslot.change_config(data_dir=str(self.path / data))
        oneslot.data = self.view / data

    # --- filling it

    def free(self) -> int:
        stat = os.statvfs(self.view)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave: int = 0, name: str = "filler") -> None:
        """Makes a file grow until only so many bytes are free."""
        with open(self.view / name, "ab", buffering=0) as filler:
            while self.free() > leave:
                try:
                    filler.write(b"\0" * min(self.free() - leave, 1 << 16))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def empty(self, name: str = "filler") -> None:
        (self.view / name).unlink()

    def close(self) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait(10)
        for _ in range(50 if self._is_mounted else 0):
            if subprocess.run(["umount", str(self.path)], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)  # a process of the test is just ending
