"""Performs background operations: reads and writes their files, a chunk of each in turn."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from cloud.artifacts.base import ArtifactStore
from cloud.coordinator import (
    exports,
    gateway_stops,
    imports,
    operations,
    profiles,
    selections,
)
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
            if row.cancel is not None or now >= row.expires_at:
                moved.add(row.id)
                end = _ENDS.get(row.type, operations.end_cancelled)
                await do(end, row.id, now)
                await asyncio.to_thread(self._part(row).unlink, missing_ok=True)
                continue
            try:
                if _is_draining(row):
                    moved |= await self._drain(do, row, now)
                    continue
                if _waits_for_gateways(row):
                    if await self._database.read(profiles.look, row.id) is not None:
                        await do(profiles.wait_chunk, row.id, row.operation, now)
                        moved.add(row.id)
                    continue
                moved.add(row.id)
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
        chunk = _CHUNKS.get(row.type, selections.delete_chunk)
        found: bool = await do(chunk, row.id, row.operation, now)
        return found

    async def _drain(self, do: Do, row: RunRow, now: int) -> set[str]:
        """Look how far gateways are that are to stop; the run, if that has changed.

        It is looked at again with the next round: a wait writes nothing.
        """
        seen = await self._database.read(gateway_stops.look, row.id)
        if seen is None:
            return set()
        if seen.idle:
            await self._database.run(gateway_stops.wait_for_dispatch)
        await do(gateway_stops.drain_chunk, row.id, row.operation, seen.idle, now)
        return {row.id}

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


_CHUNKS: Final = {
    "act_on_devices": selections.act_chunk,
    "stop_gateways": gateway_stops.ask_chunk,
    "start_gateways": gateway_stops.ask_chunk,
    "deploy_profile": profiles.ask_chunk,
    "withdraw_profile": profiles.ask_chunk,
}
_ENDS: Final[dict[str, Callable[..., object]]] = {
    "stop_gateways": gateway_stops.end_cancelled,
    "deploy_profile": profiles.end_cancelled,
    "withdraw_profile": profiles.end_cancelled,
}


def _is_draining(row: RunRow) -> bool:
    return row.type == "stop_gateways" and json.loads(row.operation)["phase"] == "drain"


def _waits_for_gateways(row: RunRow) -> bool:
    return row.type in profiles.TYPES and json.loads(row.operation)["phase"] == "wait"


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
