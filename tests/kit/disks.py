"""Disks that fail: mounted for a test, cut off, filled, worn out; skipped where that cannot be.

with failing_disk(folder, programs) as disk:
...write below disk.path...
disk.cut(tmp_path / "after")
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import Program, Programs
from tests.kit.waiting import wait_until


@dataclass
class FailingDisk:
    """A mounted disk. What is done to it takes effect before the call returns."""

    path: Path
    program: Program
    _socket: Path

    def cut(self, image: Path) -> None:
        """The power goes: `image` gets what was synced, and the disk is gone."""
        self.cut_to([image], [None])

    def cut_to(self, images: Sequence[Path], seeds: Sequence[int | None]) -> None:
        """As `cut`, to one folder for each seed: with one, parts of what was not synced are left.

        Which parts is the seed's: sectors of 512 bytes, in no order; changes of names likewise.
        """
        self._do(do="cut", images=[str(image) for image in images], seeds=list(seeds))

    def limit(self, size: int | None) -> None:
        """So many bytes in all, from now on; None for no limit."""
        self._do(do="limit", bytes=size)

    def fill(self) -> None:
        """Not one byte more."""
        self.limit(0)

    def set_read_only(self, on: bool) -> None:
        self._do(do="read_only", on=on)

    def break_writes(self, on: bool) -> None:
        """Every write and sync is an I/O error."""
        self._do(do="bad_writes", on=on)

    def break_reads(self, name: str) -> None:
        """Reads of files whose path contains `name` are I/O errors; none if it is empty."""
        self._do(do="bad_reads", name=name)

    def _do(self, **command: Any) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self._socket))
            connection.sendall(json.dumps(command).encode() + b"\n")
            answer = connection.recv(100)
        assert answer == b"done\n", self.program.tail()


@contextmanager
def failing_disk(
    folder: Path, programs: Programs, image: Path | None = None
) -> Iterator[FailingDisk]:
    """A FUSE mount below `folder`, beginning with the files of `image`; gone after the block."""
    why = why_no_fuse()
    if why:
        pytest.skip(why)
    mount, begin, control = folder / "disk", folder / "begin", folder / "disk.socket"
    mount.mkdir(parents=True)
    if image is None:
        begin.mkdir()
    # Paths of sockets are short.
    with _short(control) as short:
        words = [mount, begin if image is None else image, short]
        program = programs.python("tests.kit.unsynced_disk", *words, name=f"disk-{folder.name}")
        try:
            wait_until(lambda: os.path.ismount(mount) or not program.is_running, 30, program.tail)
            assert program.is_running, program.tail()
            yield FailingDisk(mount, program, short)
        finally:
            _unmount(mount)
            program.close()


@contextmanager
def _short(path: Path) -> Iterator[Path]:
    if len(str(path)) < 90:
        yield path
        return
    short = Path("/tmp") / f"rm-{os.getpid()}-{abs(hash(path)) % 10**8}.socket"
    try:
        yield short
    finally:
        short.unlink(missing_ok=True)


def why_no_fuse() -> str:
    """Why file systems of our own cannot be mounted here; empty if they can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse that we may use"
    if shutil.which("fusermount3") is None and shutil.which("fusermount") is None:
        return "fusermount is not installed (apt install fuse3)"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: without libfuse
        return f"mfusepy cannot be used: {error}"
    return ""


def _unmount(mount: Path) -> None:
    tool = shutil.which("fusermount3") or shutil.which("fusermount") or "umount"
    with suppress(subprocess.SubprocessError):
        # Lazy: a program that still has files open there does not keep the mount.
        subprocess.run([tool, "-u", "-z", mount], timeout=30, check=False, capture_output=True)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A real tmpfs of so many bytes; skipped where we may not mount."""
    mount = folder / "small"
    mount.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)]
    try:
        subprocess.run(words, timeout=30, check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], timeout=30, check=False, capture_output=True)
