"""Artifacts: immutable files, pushed as a stream."""

import os
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, Final

from contract.http.fleet import Artifact
from roundsman._async.transport import Transport, parse

CHUNK: Final = 256 * 1024


class Artifacts:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def push(
        self,
        name: str,
        content: bytes | BinaryIO,
        *,
        kind: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Artifact:
        """Store a file under a name; the same bytes under the same name again change nothing.

        `kind="image"` has it checked as an MCUboot image. `content` is bytes or a file that can
        seek; `progress` is told bytes sent and bytes in all. Raises Conflict when the name stands
        for other bytes.
        """
        size = len(content) if isinstance(content, bytes) else content.seek(0, os.SEEK_END)
        answer = await self._transport.send(
            "POST",
            "/artifacts",
            query={"name": name, "kind": kind},
            content=lambda: _chunks(content, size, progress),
            headers={"content-type": "application/octet-stream", "content-length": str(size)},
        )
        return parse(answer, Artifact)

    async def get(self, name: str) -> Artifact:
        return await self._transport.get(f"/artifacts/{name}", Artifact)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Artifact]:
        """All artifacts; `limit` is the size of a page."""
        return self._transport.items("/artifacts", Artifact, {"limit": limit})


def stream_of(
    content: bytes | BinaryIO, progress: Callable[[int, int], object] | None = None
) -> AsyncIterator[bytes]:
    """The bytes in chunks, from the beginning; a file has to be able to seek."""
    size = len(content) if isinstance(content, bytes) else content.seek(0, os.SEEK_END)
    return _chunks(content, size, progress)


async def _chunks(
    content: bytes | BinaryIO, size: int, progress: Callable[[int, int], object] | None
) -> AsyncIterator[bytes]:
    if not isinstance(content, bytes):
        content.seek(0)
    sent = 0
    while sent < size:
        at_most = min(CHUNK, size - sent)  # a file that grows meanwhile would break the length
        chunk = (
            content[sent : sent + at_most] if isinstance(content, bytes) else content.read(at_most)
        )
        if not chunk:
            raise OSError(f"the file became shorter while it was sent: {sent} of {size} bytes")
        yield chunk
        sent += len(chunk)
        if progress is not None:
            progress(sent, size)
