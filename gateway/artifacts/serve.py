"""Serves cached artifacts to the gateway's own devices: GET and HEAD of `/<sha256>`, with Range.

A name is as hard to guess as the file itself; nothing can be listed.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

MAX_HEAD: Final = 8192
HEAD_WITHIN_S: Final = 10.0
STALLED_AFTER_S: Final = 30.0
BLOCK: Final = 32 * 1024
MAX_CONNECTIONS: Final = 64

_TARGET: Final = re.compile(r"/([0-9a-f]{64})(?:\?.*)?$")
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})$", re.ASCII)
_REASONS: Final = {
    200: "OK",
    206: "Partial Content",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    416: "Range Not Satisfiable",
    503: "Service Unavailable",
}


class ArtifactServer:
    """`async with ArtifactServer(...)`. `find` gives the file of a sha256, or None.

    `advertise` is the host devices reach the gateway by; port 0 takes a free one.
    """

    def __init__(
        self,
        find: Callable[[str], Path | None],
        host: str = "127.0.0.1",
        port: int = 0,
        advertise: str | None = None,
    ) -> None:
        self.served = 0
        self._find = find
        self._host = host
        self._port = port
        self._advertise = advertise or host
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    def url_for(self, sha256: str) -> str:
        return f"http://{self._advertise}:{self._port}/{sha256}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, limit=MAX_HEAD
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if len(self._writers) > MAX_CONNECTIONS:
                await _answer(writer, 503, {"Retry-After": "5"})
                return
            async with asyncio.timeout(HEAD_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
            await self._respond(writer, head.decode("latin-1"))
        except asyncio.LimitOverrunError:
            with contextlib.suppress(OSError, TimeoutError):
                await _answer(writer, 400, {})
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _respond(self, writer: asyncio.StreamWriter, head: str) -> None:
        lines = head.split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return await _answer(writer, 400, {})
        if words[0] not in ("GET", "HEAD"):
            return await _answer(writer, 405, {"Allow": "GET, HEAD"})
        target = _TARGET.match(words[1])
        path = self._find(target.group(1)) if target else None
        if target is None or path is None:
            return await _answer(writer, 404, {})
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return await _answer(writer, 404, {})
        try:
            await self._send(writer, file, target.group(1), _range_in(lines), words[0] == "HEAD")
        finally:
            os.close(file)
        return None

    async def _send(
        self, writer: asyncio.StreamWriter, file: int, sha256: str, wanted: str, only_head: bool
    ) -> None:
        size = os.fstat(file).st_size
        span = _span(wanted, size)
        if span is None:
            await _answer(writer, 416, {"Content-Range": f"bytes */{size}"})
            return
        start, end = span
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Accept-Ranges": "bytes",
            "ETag": f'"{sha256}"',
        }
        status = 200
        if wanted:
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{size}"
        await _head(writer, status, headers)
        while start < end and not only_head:
            block = os.pread(file, min(BLOCK, end - start), start)
            if not block:
                raise OSError("the file has become shorter")
            writer.write(block)
            start += len(block)
            async with asyncio.timeout(STALLED_AFTER_S):
                await writer.drain()
        self.served += 1


def _range_in(lines: list[str]) -> str:
    """The value of a Range header we understand; several ranges are answered with the whole."""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "range" and _RANGE.match(value.strip()):
            return value.strip()
    return ""


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last; None when there is no such range."""
    found = _RANGE.match(wanted)
    if found is None:
        return 0, size
    first, last = found.groups()
    if not first:
        length = int(last or 0)
        return (max(size - length, 0), size) if length and size else None
    start, end = int(first), min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None


async def _answer(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    await _head(writer, status, {"Content-Length": "0", **headers})


async def _head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    async with asyncio.timeout(STALLED_AFTER_S):
        await writer.drain()
