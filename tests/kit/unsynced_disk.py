"""A disk that keeps what was not synced in a layer of its own: a power cut drops that layer.

Run as a program: `python -m tests.kit.unsynced_disk MOUNT IMAGE SOCKET` serves the files of the
folder IMAGE at MOUNT until it is told to end. It takes one command a line on SOCKET, see `Disk`.
"""

import errno
import json
import os
import random
import socketserver
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Final

from mfusepy import FUSE, FuseOSError, Operations

SECTOR: Final = 512
OPERATIONS: Final = (
    "getattr", "readdir", "statfs", "open", "create", "mkdir", "unlink", "rmdir", "rename", "read",
    "write", "truncate", "fsync", "fsyncdir", "chmod", "utimens", "release",
)  # fmt: skip
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Node:
    """A file or a folder. `synced` is what a power cut leaves, `data` what programs see.

    `unsynced` holds (offset, bytes) of writes and (size, None) of truncations, in order.
    """

    mode: int
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)
    entries: dict[str, "Node"] = field(default_factory=dict)
    # Changes of entries: (names and nodes to set, None to remove), each whole or not at all.
    changes: list[dict[str, "Node | None"]] = field(default_factory=list)
    synced_entries: dict[str, "Node"] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def change(self, change: dict[str, "Node | None"]) -> None:
        _apply(self.entries, change)
        self.changes.append(change)

    def sync(self) -> None:
        self.synced, self.unsynced = bytes(self.data), []
        self.synced_entries, self.changes = dict(self.entries), []

    def after_cut(self, chance: random.Random | None) -> bytes:
        """What the platter holds: without `chance` what was synced, else perhaps parts of more."""
        left = bytearray(self.synced)
        if chance is None:
            return self.synced
        for offset, data in self.unsynced:
            if data is None:
                if chance.random() < 0.5:
                    _cut_to(left, offset)
                continue
            keeps = chance.choice((0.0, 0.5, 0.9, 1.0))
            for start, piece in _sectors(offset, data):
                if chance.random() < keeps:
                    _put(left, start, piece)
        return bytes(left)

    def entries_after_cut(self, chance: random.Random | None) -> dict[str, "Node"]:
        left = dict(self.synced_entries)
        for change in self.changes:
            if chance is not None and chance.random() < 0.5:
                _apply(left, change)
        return left


def _apply(entries: dict[str, Node], change: dict[str, Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _put(data: bytearray, offset: int, piece: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


def _cut_to(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        end = min(at + SECTOR - (offset + at) % SECTOR, len(data))
        yield offset + at, data[at:end]
        at = end


def _guarded(kind: type["Disk"]) -> type["Disk"]:
    """Operations one at a time, and none after the power went."""
    for name in OPERATIONS:
        setattr(kind, name, _guard(getattr(kind, name)))
    return kind


def _guard(operation: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(operation)
    def guarded(disk: "Disk", *arguments: Any, **named: Any) -> Any:
        with disk.mutex:
            if disk.is_cut:
                raise FuseOSError(errno.EIO)
            return operation(disk, *arguments, **named)

    return guarded


@_guarded
class Disk(Operations):  # type: ignore[misc]
    """The file system. It obeys commands, JSON objects whose `do` is one of these.

    `cut` to the folders `images`, each as `seeds` say (null: nothing unsynced is left): from then
    on nothing works. `limit` to `bytes` in all. `read_only`, `bad_reads` of files whose name
    contains `name` (empty for none), `bad_writes`: with `on`.
    """

    use_ns = True  # mfusepy asks for it: times are in nanoseconds

    def __init__(self, image: Path) -> None:
        self._root = _loaded(image)
        self._open: dict[int, Node] = {}
        self._last_handle = 0
        self.mutex = threading.RLock()
        self.is_cut = False
        self._limit: int | None = None
        self._read_only = False
        self._bad_reads = ""
        self._bad_writes = False

    def do(self, command: dict[str, Any]) -> None:
        with self.mutex:
            match command["do"]:
                case "cut":
                    self.is_cut = True
                    for image, seed in zip(command["images"], command["seeds"], strict=True):
                        chance = None if seed is None else random.Random(seed)
                        _keep(self._root, Path(image), chance)
                case "limit":
                    self._limit = command["bytes"]
                case "read_only":
                    self._read_only = command["on"]
                case "bad_reads":
                    self._bad_reads = command["name"]
                case "bad_writes":
                    self._bad_writes = command["on"]

    # -- what the kernel asks for

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        node = self._node(path, fh)
        now = time.time_ns()
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), now)
        links = 2 if node.is_folder else 1
        return {"st_mode": node.mode, "st_nlink": links, "st_size": len(node.data), **times}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *self._node(path).entries]

    def statfs(self, path: str) -> dict[str, int]:
        size = 1 << 30 if self._limit is None else self._limit
        free = max(size - self._used(self._root), 0) // SECTOR
        sizes = {"f_bsize": SECTOR, "f_frsize": SECTOR, "f_blocks": size // SECTOR}
        return {**sizes, "f_bfree": free, "f_bavail": free, "f_namemax": 255}

    def open(self, path: str, flags: int) -> int:
        if flags & _WRITES:
            self._must_be_writable()
        return self._opened(self._node(path))

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._must_be_writable()
        parent, name = self._place(path)
        node = Node(stat.S_IFREG | mode)
        parent.change({name: node})
        return self._opened(node)

    def mkdir(self, path: str, mode: int) -> None:
        self._must_be_writable()
        parent, name = self._place(path)
        parent.change({name: Node(stat.S_IFDIR | mode)})

    def unlink(self, path: str) -> None:
        self._must_be_writable()
        self._node(path)
        parent, name = self._place(path)
        parent.change({name: None})

    rmdir = unlink

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        self._must_be_writable()
        node = self._node(old)
        (parent, name), (to, new_name) = self._place(old), self._place(new)
        if parent is to:
            parent.change({name: None, new_name: node})
        else:
            parent.change({name: None})
            to.change({new_name: node})

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        if self._bad_reads and self._bad_reads in path:
            raise FuseOSError(errno.EIO)
        return bytes(self._node(path, fh).data[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._must_be_writable()
        node = self._node(path, fh)
        self._must_fit(offset + len(data) - len(node.data))
        _put(node.data, offset, data)
        node.unsynced.append((offset, bytes(data)))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        self._must_be_writable()
        node = self._node(path, fh)
        self._must_fit(length - len(node.data))
        _cut_to(node.data, length)
        node.unsynced.append((length, None))

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._must_be_writable()
        self._node(path, fh).sync()

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._must_be_writable()
        self._node(path).sync()

    def chmod(self, path: str, mode: int) -> None:
        node = self._node(path)
        node.mode = stat.S_IFMT(node.mode) | mode

    def utimens(self, path: str, times: Any = None) -> None:
        self._must_be_writable()

    def release(self, path: str, fh: int) -> None:
        self._open.pop(fh, None)

    # -- small parts

    def _node(self, path: str, handle: int | None = None) -> Node:
        if handle is not None and handle in self._open:
            return self._open[handle]
        node = self._root
        for name in path.split("/"):
            if name:
                if name not in node.entries:
                    raise FuseOSError(errno.ENOENT)
                node = node.entries[name]
        return node

    def _place(self, path: str) -> tuple[Node, str]:
        parent, _, name = path.rpartition("/")
        return self._node(parent), name

    def _opened(self, node: Node) -> int:
        self._last_handle += 1
        self._open[self._last_handle] = node
        return self._last_handle

    def _must_be_writable(self) -> None:
        if self._read_only:
            raise FuseOSError(errno.EROFS)
        if self._bad_writes:
            raise FuseOSError(errno.EIO)

    def _must_fit(self, more: int) -> None:
        if self._limit is not None and more > 0 and self._used(self._root) + more > self._limit:
            raise FuseOSError(errno.ENOSPC)

    def _used(self, node: Node) -> int:
        return len(node.data) + sum(self._used(entry) for entry in node.entries.values())


def _loaded(path: Path) -> Node:
    """A file or folder with all that is in it, as something long synced."""
    node = Node(path.stat().st_mode)
    if path.is_dir():
        node.entries = {entry.name: _loaded(entry) for entry in path.iterdir()}
    else:
        node.data = bytearray(path.read_bytes())
    node.sync()
    return node


def _keep(node: Node, path: Path, chance: random.Random | None) -> None:
    """Write what a cut leaves as ordinary files."""
    path.mkdir()
    for name, entry in sorted(node.entries_after_cut(chance).items()):
        if entry.is_folder:
            _keep(entry, path / name, chance)
        else:
            (path / name).write_bytes(entry.after_cut(chance))


def main(mount: str, image: str, socket: str) -> None:
    disk = Disk(Path(image))

    class Commands(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                disk.do(json.loads(line))
                self.wfile.write(b"done\n")

    server = socketserver.ThreadingUnixStreamServer(socket, Commands)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # No caching of names, so that what a test changes is seen at once; one thread is enough.
    FUSE(disk, mount, foreground=True, nothreads=True, entry_timeout=0, attr_timeout=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
