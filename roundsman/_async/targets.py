"""What groups, users, devices and data tables share: edits, and files that become runs."""

from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from pydantic import BaseModel, JsonValue

from contract.http.runs import Run
from contract.http.targets import Selection
from roundsman._async.artifacts import stream_of
from roundsman._async.transport import Transport, parse

M = TypeVar("M", bound=BaseModel)
Mode = Literal["keep_good", "all_or_nothing"]


async def create(transport: Transport, path: str, body: BaseModel, kind: type[M]) -> M:
    return parse(await transport.send("POST", path, body=body, repeatable=False), kind)


async def edit(transport: Transport, path: str, body: BaseModel, kind: type[M]) -> M:
    return parse(await transport.send("PATCH", path, body=body), kind)


async def import_file(
    transport: Transport, path: str, content: bytes | BinaryIO, mode: Mode
) -> Run:
    """Send a CSV file; the run that takes it in."""
    answer = await transport.send(
        "POST",
        path,
        query={"mode": mode},
        content=lambda: stream_of(content),
        headers={"content-type": "text/csv"},
        repeatable=False,
    )
    return parse(answer, Run)


async def select(transport: Transport, path: str, query: JsonValue, everything: bool) -> Run:
    """Begin an export or a deletion of what fits."""
    body = Selection(query=query, all=everything)
    return parse(await transport.send("POST", path, body=body, repeatable=False), Run)


async def download(transport: Transport, run: str, path: Path) -> int:
    """Write the file of an export that has ended; its size in bytes."""
    size = 0
    async with transport.body(f"/runs/{run}/download") as chunks:
        file = path.open("wb")  # the blocking twin would have two blocks in one
        try:
            async for chunk in chunks:
                size += file.write(chunk)
        finally:
            file.close()
    return size
