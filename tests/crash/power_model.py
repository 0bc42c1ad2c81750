"""What a disk holds after a power cut, from the record of powerloss_shim: only what was synced.

Strict: a file has the content of its last completed fsync, fdatasync or O_DSYNC write; a folder has the entries of its
own last fsync, so a synced file whose folder was not synced is missing, and a rename, removal or creation that
was not synced has not happened.

Adversarial: any part of what was not synced may have reached the disk too: each page of a write, each change of a
file's size, each creation, removal and rename in a folder, in any combination (a rename within a folder is one step, as
in every file system)."""

from __future__ import annotations

import os
import random
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Iterator

CREATE, MKDIR, WRITE, TRUNCATE, ALLOCATE, SYNC, RENAME, UNLINK, LINK, ACK, SLOT, OPEN = range(1, 13)
FDATASYNC, DSYNC, FAILED = 1, 2, 4
FOUND = " (found)"  # ends the label of a folder's sync that makes durable what an earlier process did
_HEAD = struct.Struct("<IBBHQqIII")
_MAGIC = 0x70776C31
_PAGE = 4096


@dataclass
class Record:
    op: int
    flags: int
    ino: int
    off: int
    path: str
    to: str
    data: bytes
    process: int = 0


def read_records(log: Path, root: Path) -> list[Record]:
    """Paths relative to the root. A last record that is cut off is the call of a process that was killed."""
    raw = log.read_bytes()
    records, at = [], 0
    while at + _HEAD.size <= len(raw):
        magic, op, flags, process, ino, off, npath, nto, ndata = _HEAD.unpack_from(raw, at)
        assert magic == _MAGIC, f"{log}: no record at byte {at}"
        at += _HEAD.size
        end = at + npath + nto + ndata
        if end > len(raw):
            break
        path, to = raw[at : at + npath].decode(), raw[at + npath : at + npath + nto].decode()
        inside = (_inside(path, root), _inside(to, root))
        records.append(Record(op, flags, ino, off, *inside, raw[end - ndata : end], process))
        at = end
    return records


def _inside(path: str, root: Path) -> str:
    return os.path.relpath(path, root) if path else ""


@dataclass
class File:
    cache: bytearray = field(default_factory=bytearray)
    disk: bytearray = field(default_factory=bytearray)
    # (offset, bytes), or (size, None); and whether the disk has it already: O_DSYNC leaves what is older pending.
    pending: list[tuple[int, bytes | None, bool]] = field(default_factory=list)
    is_opened: bool = True  # and not synced since

    def write(self, off: int, data: bytes) -> None:
        _put(self.cache, off, data)
        self.pending.append((off, data, False))

    def write_synced(self, off: int, data: bytes) -> None:
        _put(self.cache, off, data)
        _put(self.disk, off, data)
        self.pending.append((off, data, True))

    def resize(self, size: int) -> None:
        _resize(self.cache, size)
        self.pending.append((size, None, False))

    def sync(self) -> None:
        for off, data, _ in self.pending:
            if data is None:
                _resize(self.disk, off)
            else:
                _put(self.disk, off, data)
        self.pending.clear()

    def lose(self) -> None:
        """A sync that failed: the page cache has it and takes it for written."""
        self.pending.clear()

    def torn(self, rng: random.Random, chance: float) -> bytearray:
        """The disk, and some of what was on its way."""
        content = bytearray(self.disk)
        for off, data, is_there in self.pending:
            if data is None:
                if rng.random() < chance:
                    _resize(content, off)
                continue
            for begin, piece in _pages(off, data):
                if is_there or rng.random() < chance:
                    _put(content, begin, piece)
        return content


@dataclass
class Folder:
    cache: dict[str, "Node"] = field(default_factory=dict)
    disk: dict[str, "Node"] = field(default_factory=dict)
    # (name that goes, name that comes, what it names): one of the names is "" but for a rename.
    pending: list[tuple[str, str, "Node | None"]] = field(default_factory=list)
    last: tuple[str, int] = ("", 0)  # of them: "+new", "-gone" or "old>new", and the process that did it

    def change(self, gone: str, come: str, node: "Node | None", process: int) -> None:
        _change(self.cache, gone, come, node)
        self.pending.append((gone, come, node))
        if not come.endswith(".lock"):  # nobody waits for one to be durable
            self.last = (pattern(f"{gone}>{come}" if gone and come else f"-{gone}" if gone else f"+{come}"), process)

    def sync(self) -> None:
        self.disk = dict(self.cache)
        self.pending.clear()
        self.last = ("", 0)

    def torn(self, rng: random.Random, chance: float) -> dict[str, "Node"]:
        entries = dict(self.disk)
        for gone, come, node in self.pending:
            if rng.random() < chance:
                _change(entries, gone, come, node)
        return entries


Node = File | Folder


def _put(content: bytearray, off: int, data: bytes) -> None:
    if len(content) < off:
        content.extend(bytes(off - len(content)))
    content[off : off + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _pages(off: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        n = min(_PAGE - (off + at) % _PAGE, len(data) - at)
        yield off + at, data[at : at + n]
        at += n


def _change(entries: dict[str, Node], gone: str, come: str, node: Node | None) -> None:
    entries.pop(gone, None)
    if come and node is not None:
        entries[come] = node


class Disk:
    """Apply records one by one; at any moment write out what a power cut would leave."""

    def __init__(self, ignored: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        """ignored: the labels of syncs that count as not done (see apply). folders: there from the start."""
        there: dict[str, Node] = {name: Folder() for name in folders}
        self.root = Folder(dict(there), dict(there))
        self.ignored = frozenset(ignored)
        self.files: dict[int, File] = {}  # by inode number, the newest that had it

    def apply(self, record: Record) -> str:
        """The label, if the record is a sync."""
        match record.op:
            case 1:
                file = File()
                self.files[record.ino] = file
                self._folder(record.path).change("", _name(record.path), file, record.process)
            case 2:
                self._folder(record.path).change("", _name(record.path), Folder(), record.process)
            case 3:
                return self._write(record)
            case 4:
                self.files[record.ino].resize(record.off)
            case 5:
                file = self.files[record.ino]
                file.resize(max(record.off, len(file.cache)))
            case 6:
                return self._sync(record)
            case 7 | 9:
                self._move(record)
            case 8:
                self._remove(record)
            case 12:
                self.files[record.ino].is_opened = True
        return ""

    def _write(self, record: Record) -> str:
        file = self.files[record.ino]
        if not record.flags & DSYNC:
            file.write(record.off, record.data)
            return ""
        if record.flags & FAILED:
            _put(file.cache, record.off, record.data)
            return ""
        label = f"O_DSYNC write {pattern(record.path)}"
        if label in self.ignored:
            file.write(record.off, record.data)
        else:
            file.write_synced(record.off, record.data)
        return label

    def _sync(self, record: Record) -> str:
        node = self.files.get(record.ino)
        found = self._find(record.path)
        node = found if isinstance(found, Folder) or node is None else node
        assert node is not None, f"sync of an unknown file {record.path}"
        label = self._label(record, node)
        if record.flags & FAILED:
            if isinstance(node, File):
                node.lose()
            return ""
        if label not in self.ignored:
            node.sync()
        return label

    def _label(self, record: Record, node: Node) -> str:
        """A folder's names the last thing that it makes durable, which is why the code syncs."""
        kind = "fdatasync" if record.flags & FDATASYNC else "fsync"
        label = f"{kind} {pattern(record.path)}"
        if isinstance(node, Folder):
            what, process = node.last
            return f"{label} [{what}]{FOUND if what and process != record.process else ''}"
        if kind == "fdatasync":
            return label
        was_opened, node.is_opened = node.is_opened, False
        return f"{label} (opened)" if was_opened else label

    def _move(self, record: Record) -> None:
        node = self._find(record.path)
        source, target = self._folder(record.path), self._folder(record.to)
        old, new = _name(record.path), _name(record.to)
        if record.op == RENAME and source is target:
            source.change(old, new, node, record.process)
            return
        target.change("", new, node, record.process)
        if record.op == RENAME:
            source.change(old, "", None, record.process)

    def _remove(self, record: Record) -> None:
        """Sockets are made by bind(2), which is not recorded: their removal is no news."""
        folder = self._folder(record.path)
        if _name(record.path) in folder.cache:
            folder.change(_name(record.path), "", None, record.process)

    def _find(self, path: str) -> Node | None:
        node: Node | None = self.root
        for name in path.split("/") if path != "." else []:
            node = node.cache.get(name) if isinstance(node, Folder) else None
        return node

    def _folder(self, path: str) -> Folder:
        node = self._find(os.path.dirname(path) or ".")
        assert isinstance(node, Folder), f"no folder for {path}"
        return node

    # --- after the cut

    def write_out(self, to: Path, rng: random.Random | None = None) -> None:
        """Into the empty folder `to`; with rng by the adversarial model, otherwise by the strict one."""
        _write_folder(self.root, to, rng, rng.choice((0.1, 0.5, 0.9)) if rng else 0)

    def image(self) -> tuple[object, ...]:
        """Equal for two moments at which a power cut leaves the same."""
        return _image(self.root)


def _write_folder(folder: Folder, to: Path, rng: random.Random | None, chance: float) -> None:
    for name, node in (folder.disk if rng is None else folder.torn(rng, chance)).items():
        if isinstance(node, Folder):
            (to / name).mkdir()
            _write_folder(node, to / name, rng, chance)
        else:
            (to / name).write_bytes(node.disk if rng is None else node.torn(rng, chance))


def _image(node: Node) -> tuple[object, ...]:
    if isinstance(node, File):
        return (hash(bytes(node.disk)), len(node.disk))
    return tuple((name, _image(child)) for name, child in sorted(node.disk.items()))


def _name(path: str) -> str:
    return os.path.basename(path)


def pattern(path: str) -> str:
    """Segments are all alike: a label means a place in the code."""
    return re.sub(r"\d{16,}", "SEG", path)


# --- the points to look at


@dataclass
class Point:
    """A power cut after record `at`: no sync ends between it and the one before."""

    at: int
    label: str  # of the sync before it
    acked: int  # the highest flush LSN that PostgreSQL was told up to here
    slot_wanted: bool  # PostgreSQL was asked to create the slot


def points(records: list[Record], folders: Iterable[str] = ()) -> list[Point]:
    """One per sync, each as late as possible: everything promised before the next sync counts."""
    disk = Disk(folders=folders)
    found = [Point(-1, "start", 0, False)]
    acked, slot_wanted = 0, False
    for number, record in enumerate(records):
        label = disk.apply(record)
        if label:
            found.append(Point(number, label, acked, slot_wanted))
        acked = max(acked, record.off) if record.op == ACK else acked
        slot_wanted = slot_wanted or record.op == SLOT
        found[-1] = Point(number, found[-1].label, acked, slot_wanted)
    return found
