"""Fetches one artifact from the cloud by HTTP, on the standard library: resumed, verified, whole.

Bytes go to `<target>.part`, which survives the process; the name without `.part` stands only for
a file whose size and sha256 are right and on disk.
"""

import asyncio
import contextlib
import errno
import hashlib
import http.client
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from gateway.domain.backoff import backoff_ms, jittered_ms
from gateway.errors import ArtifactUnavailable, StorageFull

BLOCK: Final = 64 * 1024
SOCKET_TIMEOUT_S: Final = 15.0
REDIRECTS: Final = 5
FIRST_DELAY_MS: Final = 300
LONGEST_DELAY_MS: Final = 20_000
NO_PROGRESS_S: Final = 300.0
# What a full or read-only disk says.
DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})
PASSING: Final = frozenset({408, 423, 425, 429})

OnBytes = Callable[[int], None]


class _Transient(Exception):
    """Try again a little later."""


class _Damaged(Exception):
    """All bytes are there and they are not the artifact."""


@dataclass(frozen=True, slots=True)
class Download:
    """Downloads from one cloud. `authorization` gives the header's value for each request.

    `chance` gives numbers from 0 to 1; without a new byte for `no_progress_s` it gives up.
    """

    cloud_url: str
    authorization: Callable[[], str | None]
    chance: Callable[[], float]
    tls: ssl.SSLContext | None = None
    no_progress_s: float = NO_PROGRESS_S

    async def fetch(self, sha256: str, size: int, target: Path, on_bytes: OnBytes) -> None:
        """Bring the artifact to `target`; `on_bytes` hears how many bytes are there.

        Raises ArtifactUnavailable (`digest_mismatch` when other bytes came twice) and StorageFull.
        """
        loop = asyncio.get_running_loop()
        part = target.with_name(f"{target.name}.part")
        progress_at_s, farthest, tries, damaged = loop.time(), -1, 0, 0
        while True:
            transfer = _Transfer(self, sha256, size, part)
            try:
                await self._run(transfer, on_bytes)
                await asyncio.to_thread(_accept, part, target, sha256, size)
                return
            except _Damaged as error:
                damaged += 1
                if damaged > 1:
                    raise ArtifactUnavailable(str(error), "digest_mismatch") from error
                farthest = -1
            except _Transient as error:
                if transfer.have > farthest:
                    farthest, progress_at_s, tries = transfer.have, loop.time(), 0
                tries += 1
                delay_ms = backoff_ms(tries, FIRST_DELAY_MS, LONGEST_DELAY_MS)
                delay_s = jittered_ms(delay_ms, self.chance()) / 1000
                if loop.time() + delay_s > progress_at_s + self.no_progress_s:
                    raise ArtifactUnavailable(f"cannot fetch {sha256[:12]}: {error}") from error
                await asyncio.sleep(delay_s)
            except OSError as error:
                if error.errno in DISK_ERRORS:
                    raise StorageFull(f"no room for an artifact of {size} bytes") from error
                raise

    async def _run(self, transfer: "_Transfer", on_bytes: OnBytes) -> None:
        loop = asyncio.get_running_loop()
        transfer.tell = lambda count: _call_soon(loop, on_bytes, count)
        running = loop.run_in_executor(None, transfer.run)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            # The thread ends by itself soon. What it may still write is right for its place.
            transfer.stop()
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise


class _Transfer:
    """One request with its redirects, in a thread: appends to the part file what it gets."""

    def __init__(self, download: Download, sha256: str, size: int, part: Path) -> None:
        self.have = 0
        self.tell: OnBytes = lambda count: None
        self._download = download
        self._sha256 = sha256
        self._size = size
        self._part = part
        self._stopped = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def stop(self) -> None:
        """End it from another thread, waking it if it waits for bytes."""
        self._stopped.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self.have = self._part.stat().st_size if self._part.exists() else 0
        if self.have > self._size:
            self._part.unlink()
            self.have = 0
        if self.have == self._size and self._size:
            return
        url = f"{self._download.cloud_url.rstrip('/')}/artifacts/{self._sha256}"
        first = urlsplit(url)
        place = first
        for _ in range(REDIRECTS):
            is_home = (place.scheme, place.netloc) == (first.scheme, first.netloc)
            location = self._request(place, with_credentials=is_home)
            if location is None:
                return
            try:
                url = urljoin(url, location)
                place = urlsplit(url)
                _ = place.port
            except ValueError as error:
                text = f"redirected to what is no address: {location[:200]!r}"
                raise ArtifactUnavailable(text) from error
        raise ArtifactUnavailable("too many redirects")

    def _request(self, place: SplitResult, with_credentials: bool) -> str | None:
        """One request; returns where it is redirected to, or None when all bytes came."""
        connection = self._connect(place)
        try:
            headers = {"Accept-Encoding": "identity", "User-Agent": "roundsman-gateway"}
            if self.have:
                headers["Range"] = f"bytes={self.have}-"
            authorization = self._download.authorization() if with_credentials else None
            if authorization:
                headers["Authorization"] = authorization
            query = f"?{place.query}" if place.query else ""
            connection.request("GET", f"{place.path or '/'}{query}", headers=headers)
            with connection.getresponse() as response:
                return self._receive(response)
        except UnicodeError as error:  # where we were sent to
            raise ArtifactUnavailable(f"cannot fetch from {place.geturl()[:200]!r}") from error
        except (http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
            raise _Transient(f"{type(error).__name__}: {error}") from error
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise
            raise _Transient(str(error)) from error
        finally:
            connection.close()

    def _connect(self, place: SplitResult) -> http.client.HTTPConnection:
        host = place.hostname
        if place.scheme not in ("http", "https") or not host:
            raise ArtifactUnavailable(f"cannot fetch from {place.scheme}://{place.netloc}")
        made: http.client.HTTPConnection
        try:
            if place.scheme == "https":
                context = self._download.tls or ssl.create_default_context()
                made = http.client.HTTPSConnection(
                    host, place.port, timeout=SOCKET_TIMEOUT_S, context=context
                )
            else:
                made = http.client.HTTPConnection(host, place.port, timeout=SOCKET_TIMEOUT_S)
        except http.client.InvalidURL as error:
            raise ArtifactUnavailable(f"cannot fetch from {host[:200]!r}") from error
        self._connection = made
        return made

    def _receive(self, response: http.client.HTTPResponse) -> str | None:
        status = response.status
        if status in REDIRECTED:
            return response.headers.get("Location") or "/"
        if status == 416:
            self._part.unlink(missing_ok=True)
            raise _Transient("the cloud has no such range; starting over")
        if status in PASSING or status >= 500:
            raise _Transient(f"the cloud answers {status}")
        if status not in (200, 206):
            raise ArtifactUnavailable(f"the cloud answers {status} {response.reason}")
        start = self._start_of(response) if status == 206 else 0
        mode = "r+b" if self._part.exists() else "w+b"
        if self._stopped.is_set():
            raise _Transient("stopped")
        with open(self._part, mode) as file:
            # Here and not at the end: by then another transfer may have gone on.
            file.truncate(start)
            file.seek(start)
            self.have = start
            while self.have < self._size and not self._stopped.is_set():
                block = response.read1(min(BLOCK, self._size - self.have))
                if not block:
                    break
                file.write(block)
                self.have += len(block)
                self.tell(self.have)
        if self._stopped.is_set():
            raise _Transient("stopped")
        if self.have < self._size:
            raise _Transient(f"the connection ended at byte {self.have} of {self._size}")
        return None

    def _start_of(self, response: http.client.HTTPResponse) -> int:
        said = response.headers.get("Content-Range", "")
        found = re.match(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)$", said)
        if found is None or int(found.group(1)) > self.have:
            raise _Transient(f"a range that was not asked for: {said[:60]!r}")
        if found.group(2) not in ("*", str(self._size)):
            text = f"the cloud's file has {found.group(2)} bytes, the job says {self._size}"
            raise ArtifactUnavailable(text, "digest_mismatch")
        return int(found.group(1))


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _accept(part: Path, target: Path, sha256: str, size: int) -> None:
    """Check the finished part and give it its name, surely on disk. Raises _Damaged."""
    if not part.exists() and not size:
        part.touch()
    actual = digest_of(part)
    if actual != sha256 or part.stat().st_size != size:
        part.unlink()
        raise _Damaged(f"what was fetched is {actual[:12]}..., not {sha256[:12]}...")
    _sync(part)
    os.replace(part, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _call_soon(loop: asyncio.AbstractEventLoop, tell: OnBytes, count: int) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(tell, count)
