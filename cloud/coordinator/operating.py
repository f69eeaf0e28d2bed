"""Performs background operations: reads and writes their files, a chunk of each in turn."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from cloud.artifacts.base import ArtifactStore
from cloud.coordinator import exports, imports, operations, selections
from cloud.coordinator.imports import BLOCK
from cloud.errors import CloudError, StorageFull, StorageUnavailable
from cloud.storage import operations as stored
from cloud.storage.database import Database
from cloud.storage.schema import RunRow

MAX_EXPORT_BYTES: Final = 4 * 2**30
Do = Callable[..., Awaitable[Any]]


class Operator:
    """`folder` keeps exports that are being written; `do` runs a function under the lease."""

    def __init__(self, database: Database, artifacts: ArtifactStore, folder: Path) -> None:
        self._database = database
        self._artifacts = artifacts
        self._folder = folder

    async def advance(self, do: Do, now: int) -> tuple[set[str], bool]:
        """A chunk of every operation; which have moved, and whether there is more to do."""
        moved: set[str] = set()
        more = False
        for row in await self._database.read(stored.open_ones):
            moved.add(row.id)
            if row.cancel is not None or now >= row.expires_at:
                await do(operations.end_cancelled, row.id, now)
                await asyncio.to_thread(self._part(row).unlink, missing_ok=True)
                continue
            try:
                more |= await self._chunk(do, row, now)
            except (StorageFull, StorageUnavailable):
                raise
            except CloudError as error:
                # Such as a table that was deleted meanwhile: it will not come back.
                await do(operations.fail, row.id, str(error), now)
        return moved, more

    async def _chunk(self, do: Do, row: RunRow, now: int) -> bool:
        if row.type.startswith("import"):
            return await self._import(do, row, now)
        if row.type.startswith("export"):
            return await self._export(do, row, now)
        found: bool = await do(selections.delete_chunk, row.id, row.operation, now)
        return found

    async def _import(self, do: Do, row: RunRow, now: int) -> bool:
        state = json.loads(row.operation)
        sha256, size = str(state["request"]["file"]), int(state["request"]["size"])
        length = min(BLOCK, size - state["offset"])
        block = b"".join(
            [chunk async for chunk in self._artifacts.read(sha256, state["offset"], length)]
        )
        is_last = state["offset"] + len(block) >= size
        found: bool = await do(imports.import_chunk, row.id, row.operation, block, is_last, now)
        return found

    def _part(self, row: RunRow) -> Path:
        return self._folder / f"{row.id}.part"

    async def _export(self, do: Do, row: RunRow, now: int) -> bool:
        state = json.loads(row.operation)
        part, size = self._part(row), int(state.get("size", 0))
        if size and not await asyncio.to_thread(_has, part, size):
            await do(exports.export_again, row.id)
            return True
        page = await self._database.read(exports.export_page, row.id)
        if page is None:
            return False
        header, records, after, more = page
        data = exports.csv_text(records if size else [header, *records])
        new_size = await asyncio.to_thread(_append, part, size, data)
        wanted = await do(
            exports.export_written,
            row.id,
            row.operation,
            header,
            after,
            len(records),
            new_size,
            now,
        )
        if more or not wanted:
            return bool(wanted)
        file, _ = await self._artifacts.save(_blocks(part), MAX_EXPORT_BYTES, lambda path: None)
        await do(exports.export_done, row.id, file.sha256, file.size, now)
        await asyncio.to_thread(part.unlink, missing_ok=True)
        return False


def _has(part: Path, size: int) -> bool:
    return part.exists() and part.stat().st_size >= size


def _append(part: Path, size: int, data: bytes) -> int:
    """Write after the first `size` bytes, which are safe; what lies behind them is dropped."""
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("r+b" if part.exists() else "w+b") as file:
        file.truncate(size)
        file.seek(size)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return size + len(data)


async def _blocks(part: Path) -> AsyncIterator[bytes]:
    with part.open("rb") as file:
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block
