"""A TCP link with faults between a client and a server, in a thread: cut, blackhole, delay.

Used where a real network would misbehave, because the kernel's own fault queue is seldom there.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.kit.ports import free_port

T = TypeVar("T")

_CHUNK = 65536


@dataclass
class LinkCounts:
    """What has passed since the link was opened, in connections and bytes."""

    accepted: int = 0
    refused: int = 0
    cut: int = 0
    to_target: int = 0
    from_target: int = 0


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    target: asyncio.StreamWriter | None = None
    pumps: list["asyncio.Task[None]"] = field(default_factory=list)


class FaultyLink:
    """Listens on `port` and forwards to `target_port`; every method may be called from any thread.

    `cut` resets (RST) all connections and new ones as they come; `blackhole` keeps connections
    open, accepts new ones and carries nothing; `delay` holds every byte back that long, each way;
    `restore` ends all three. What a blackhole held back arrives after `restore`, as TCP would
    send it again.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.target_host = target_host
        self.target_port = target_port
        self.counts = LinkCounts()
        self._cutting = False
        self._cut_after: int | None = None
        self._delay_s = 0.0
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty_link")

    def start(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def close(self) -> None:
        """Reset what is open and end the thread. May be called twice."""
        if not self._thread.is_alive():
            return
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection, and each new one until `restore`."""
        self._run(self._set(cutting=True))

    def reset_connections(self) -> None:
        """Reset every connection once; new ones are served."""
        self._run(self._set())

    def cut_after(self, to_target: int) -> None:
        """`cut`, when that many more bytes have gone to the target."""

        async def arm() -> None:
            self._cut_after = self.counts.to_target + to_target

        self._run(arm())

    def blackhole(self) -> None:
        """Carry nothing, close nothing."""
        self._call(self._flowing_clear)

    def delay(self, seconds: float) -> None:
        """Hold back each byte by `seconds`, each way."""

        def set_delay() -> None:
            self._delay_s = seconds

        self._call(set_delay)

    def restore(self) -> None:
        """Make the link healthy again."""

        def heal() -> None:
            self._cutting, self._cut_after, self._delay_s = False, None, 0.0
            self._flowing.set()

        self._call(heal)

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def is_cut(self) -> bool:
        return self._cutting

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # On the link's own loop from here on.

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=20)

    def _call(self, act: Callable[[], None]) -> None:
        async def run() -> None:
            act()

        self._run(run())

    async def _open(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve, self.host, self.port)

    async def _shut(self) -> None:
        self._server.close()
        pumps = [pump for connection in self._connections for pump in connection.pumps]
        self._reset_all()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        await asyncio.sleep(0)

    async def _set(self, cutting: bool = False) -> None:
        self._cutting = self._cutting or cutting
        self._reset_all()

    def _flowing_clear(self) -> None:
        self._flowing.clear()

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            self.counts.cut += 1
            self._reset(connection)

    def _reset(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        for writer in (connection.client, connection.target):
            if writer is not None:
                _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._cutting:
            self.counts.refused += 1
            _abort(client)
            return
        self.counts.accepted += 1
        connection = _Connection(client)
        self._connections.add(connection)
        me = asyncio.current_task()
        assert me is not None
        connection.pumps.append(me)
        try:
            await self._flowing.wait()
            from_target, target = await asyncio.open_connection(self.target_host, self.target_port)
        except OSError:
            self._reset(connection)
            return
        connection.target = target
        if connection not in self._connections:  # cut while it was connecting
            self._reset(connection)
            return
        there = self._loop.create_task(self._pump(reader, target, connection, to_target=True))
        back = self._loop.create_task(self._pump(from_target, client, connection, to_target=False))
        connection.pumps += [there, back]
        try:
            # Cancelled only by `close`; Python 3.11's streams would log that as an error.
            with suppress(asyncio.CancelledError):
                await asyncio.gather(there, back)
        finally:
            there.cancel()
            back.cancel()
            self._connections.discard(connection)
            for writer in (client, target):
                writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: _Connection,
        to_target: bool,
    ) -> None:
        """Carry one direction to its end; an end is passed on, a reset resets both sides."""
        pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        sender = self._loop.create_task(self._send(pending, writer, connection, to_target))
        connection.pumps.append(sender)
        try:
            while data := await reader.read(_CHUNK):
                await pending.put((self._loop.time() + self._delay_s, data))
            await pending.put((self._loop.time() + self._delay_s, b""))
            await sender
        except OSError:
            self._reset(connection)
        finally:
            sender.cancel()

    async def _send(
        self,
        pending: "asyncio.Queue[tuple[float, bytes]]",
        writer: asyncio.StreamWriter,
        connection: _Connection,
        to_target: bool,
    ) -> None:
        try:
            while True:
                due, data = await pending.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._flowing.wait()
                if not data:
                    if not writer.is_closing():
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
                self._count(len(data), to_target)
        except OSError:
            self._reset(connection)

    def _count(self, size: int, to_target: bool) -> None:
        if not to_target:
            self.counts.from_target += size
            return
        self.counts.to_target += size
        if self._cut_after is not None and self.counts.to_target >= self._cut_after:
            self._cut_after, self._cutting = None, True
            self._reset_all()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, dropping what is still unsent."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
