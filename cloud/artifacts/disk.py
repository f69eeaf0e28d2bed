"""Artifacts in a folder: written beside, synced, then renamed to their sha256."""

import asyncio
import errno
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from cloud.artifacts.base import Stored
from cloud.crash_points import reach
from cloud.errors import Invalid, StorageFull

T = TypeVar("T")

_BLOCK: Final = 1024 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskStore:
    """`<folder>/ab/abcdef...`; what an upload has not finished lies in `<folder>/incoming`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Make the folders, and drop what uploads before the last stop left behind."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            left.unlink(missing_ok=True)

    async def save(
        self, chunks: AsyncIterator[bytes], limit: int, inspect: Callable[[Path], T]
    ) -> tuple[Stored, T]:
        handle, name = tempfile.mkstemp(dir=self._incoming)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                digest, size = await self._receive(file, chunks, limit)
            facts = await asyncio.to_thread(inspect, path)
            await asyncio.to_thread(self._keep, path, digest)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(f"{self._folder}: {error.strerror}") from error
            raise
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return Stored(digest, size), facts

    async def size(self, sha256: str) -> int | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            if _DIGEST.fullmatch(sha256):
                return self._path(sha256).stat().st_size
        return None

    async def read(self, sha256: str, start: int, length: int) -> AsyncIterator[bytes]:
        left = length
        with self._path(sha256).open("rb") as file:
            file.seek(start)
            while left > 0:
                block = await asyncio.to_thread(file.read, min(_BLOCK, left))
                if not block:
                    return
                left -= len(block)
                yield block

    @property
    def _incoming(self) -> Path:
        return self._folder / "incoming"

    def _path(self, sha256: str) -> Path:
        if not _DIGEST.fullmatch(sha256):
            raise ValueError("not a sha256")
        return self._folder / sha256[:2] / sha256

    async def _receive(
        self, file: BinaryIO, chunks: AsyncIterator[bytes], limit: int
    ) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        block = bytearray()

        def write() -> None:
            digest.update(block)
            file.write(block)
            block.clear()

        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise Invalid("too_large", f"the artifact has more than {limit} bytes")
            block += chunk
            if len(block) >= _BLOCK:
                await asyncio.to_thread(write)
        await asyncio.to_thread(write)
        await asyncio.to_thread(_sync, file)
        return digest.hexdigest(), size

    def _keep(self, path: Path, digest: str) -> None:
        target = self._path(digest)
        target.parent.mkdir(exist_ok=True)
        path.chmod(0o444)
        reach("artifacts.before_keep", digest)
        path.rename(target)
        # The name is durable only once its folder is.
        for folder in (target.parent, self._folder):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        reach("artifacts.after_keep", digest)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
