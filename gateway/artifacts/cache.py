"""Artifacts on the gateway's disk, by sha256: fetched once however many devices wait for them.

What tasks hold is kept until they let go; beyond the cap the rest goes, the least used first.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from contract.ids import Sha256
from gateway.artifacts.download import OnBytes, digest_of
from gateway.crash_points import reach
from gateway.errors import StorageFull

KEEP_FREE: Final = 32 << 20

# percent, and a note such as "41 of 93 KiB"
OnProgress = Callable[[float, str], None]


class Fetcher(Protocol):
    """Brings an artifact to a file, verified; `Download` is one."""

    async def fetch(self, sha256: str, size: int, target: Path, on_bytes: OnBytes) -> None: ...


@dataclass
class _Running:
    """A download that several wait for."""

    task: "asyncio.Task[None]"
    listeners: list[OnProgress] = field(default_factory=list)


class ArtifactCache:
    """`fetch` for steps, `hold` and `release` for tasks, `find_held` for the server.

    `max_bytes` is exceeded only by what tasks hold at the same time. `keep_free` bytes of the
    disk are left to others.
    """

    def __init__(
        self, folder: Path, fetcher: Fetcher, max_bytes: int, keep_free: int = KEEP_FREE
    ) -> None:
        self._folder = folder
        self._fetcher = fetcher
        self._max_bytes = max_bytes
        self._keep_free = keep_free
        self._verified: set[str] = set()
        self._running: dict[str, _Running] = {}
        self._holders: dict[str, set[str]] = {}

    async def fetch(
        self, sha256: Sha256, size: int, on_progress: OnProgress, holder: str = ""
    ) -> Path:
        """The verified file; with a `holder` it stays until `release(holder)`.

        Raises ArtifactUnavailable and StorageFull.
        """
        if holder:
            self.hold(sha256, holder)
        path = self._folder / sha256
        while not await self._is_good(sha256, size):
            await self._join(sha256, size, on_progress)
        os.utime(path)  # the time of use decides what goes first
        return path

    def hold(self, sha256: Sha256, holder: str) -> None:
        self._holders.setdefault(holder, set()).add(sha256)

    def release(self, holder: str) -> None:
        """What nobody else holds may go when room is needed. Unknown holders are fine."""
        self._holders.pop(holder, None)

    def find(self, sha256: str) -> Path | None:
        """A file that was verified in this process."""
        path = self._folder / sha256
        return path if sha256 in self._verified and path.exists() else None

    def find_held(self, sha256: str) -> Path | None:
        """A file that a task has now: no device may fetch another."""
        is_held = any(sha256 in held for held in self._holders.values())
        return self.find(sha256) if is_held else None

    def size_bytes(self) -> int:
        return sum(size for _, size, _ in self._files())

    async def _is_good(self, sha256: str, size: int) -> bool:
        """Whether the file is there and right. Its bytes are checked once in each process."""
        path = self._folder / sha256
        try:
            is_right_size = path.stat().st_size == size
        except FileNotFoundError:
            self._verified.discard(sha256)
            return False
        if is_right_size and sha256 in self._verified:
            return True
        if sha256 in self._running:
            return False  # it is being fetched or checked by the first who asked
        if is_right_size and await asyncio.to_thread(digest_of, path) == sha256:
            self._verified.add(sha256)
            return True
        if sha256 not in self._running and sha256 not in self._verified:
            path.unlink(missing_ok=True)
        return sha256 in self._verified

    async def _join(self, sha256: str, size: int, on_progress: OnProgress) -> None:
        """Wait for the one download of this artifact; the last who leaves ends it."""
        running = self._running.get(sha256)
        if running is None:
            task = asyncio.get_running_loop().create_task(
                self._download(sha256, size), name=f"artifacts.fetch {sha256[:12]}"
            )
            running = self._running[sha256] = _Running(task)
        running.listeners.append(on_progress)
        try:
            await asyncio.shield(running.task)
        finally:
            running.listeners.remove(on_progress)
            if not running.listeners and not running.task.done():
                self._running.pop(sha256, None)  # whoever comes now starts anew
                running.task.cancel()
                await asyncio.wait({running.task})

    async def _download(self, sha256: str, size: int) -> None:
        try:
            await asyncio.to_thread(self._make_room, sha256, size)

            def tell(count: int) -> None:
                running = self._running.get(sha256)
                note = f"fetched {count // 1024} of {size // 1024} KiB"
                for listener in list(running.listeners) if running else []:
                    listener(100 * count / size if size else 100, note)

            reach("artifacts.before_fetch", sha256)
            await self._fetcher.fetch(sha256, size, self._folder / sha256, tell)
            reach("artifacts.after_fetch", sha256)
            self._verified.add(sha256)
        finally:
            running = self._running.get(sha256)
            if running is not None and running.task is asyncio.current_task():
                del self._running[sha256]

    def _make_room(self, sha256: str, size: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = {sha256, *self._running}.union(*self._holders.values())
        files = sorted(self._files(), key=lambda file: file[2])
        excess = sum(file_size for _, file_size, _ in files) + size - self._max_bytes
        short = size + self._keep_free - shutil.disk_usage(self._folder).free
        for path, file_size, _ in files:
            if max(excess, short) <= 0:
                return
            if path.name.removesuffix(".part") in kept:
                continue
            path.unlink(missing_ok=True)
            self._verified.discard(path.name)
            excess, short = excess - file_size, short - file_size
        if short > 0:
            raise StorageFull(f"the disk is too full for an artifact of {size} bytes")

    def _files(self) -> list[tuple[Path, int, float]]:
        """Path, bytes and time of last use of every file, half ones too."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    found.append((path, stat.st_size, stat.st_mtime))
        return found
