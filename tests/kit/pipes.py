"""In-memory byte pipes with the faults of real lines: byte by byte, lossy, late, cut after n bytes.

Errors are three, because callers do three things:
    PipeClosed   this end was closed: a mistake of the caller
    PipeBroken   the line was cut: reconnect
    PipeBusy     two tasks read at once: a mistake of the caller
"""

import asyncio
import random
from collections import deque
from dataclasses import dataclass


class PipeError(ConnectionError):
    """What all pipe errors are."""


class PipeClosed(PipeError):
    """This end has been closed."""


class PipeBroken(PipeError):
    """The line has been cut, by a fault or by `PipeEnd.cut`."""


class PipeBusy(PipeError):
    """Another task is reading from this end."""


@dataclass(frozen=True, slots=True)
class Line:
    """How one direction treats the bytes it carries; the same seed gives the same faults."""

    read_at_most: int | None = None  # bytes handed out by one read
    lost_bytes: float = 0.0  # share of single bytes that vanish
    lost_writes: float = 0.0  # share of whole writes that vanish
    flipped_bytes: float = 0.0  # share of bytes that arrive with one bit changed
    delay_s: float = 0.0
    cut_after: int | None = None  # bytes carried before the line breaks
    seed: int = 0


WHOLE = Line()
BYTE_BY_BYTE = Line(read_at_most=1)


def lossy(lost_bytes: float = 0.2, seed: int = 0) -> Line:
    return Line(lost_bytes=lost_bytes, seed=seed)


def late(delay_s: float) -> Line:
    return Line(delay_s=delay_s)


def cut_after(count: int) -> Line:
    return Line(cut_after=count)


class _Direction:
    def __init__(self, line: Line) -> None:
        self.line = line
        self.buffer = bytearray()
        self.carried = 0
        self.ended = False
        self.broken = False
        self.changed = asyncio.Event()
        self._on_the_way: deque[bytes | None] = deque()  # None is the end
        self._random = random.Random(line.seed)

    def send(self, data: bytes) -> None:
        if self.line.cut_after is not None and self.carried + len(data) > self.line.cut_after:
            data, cut = data[: self.line.cut_after - self.carried], True
        else:
            cut = False
        self.carried += len(data)
        self._deliver(self._spoil(data))
        if cut:
            self.break_line()

    def end(self) -> None:
        self._deliver(None)

    def break_line(self) -> None:
        self.broken = True
        self.changed.set()

    def _spoil(self, data: bytes) -> bytes:
        line, chance = self.line, self._random.random
        if line.lost_writes and chance() < line.lost_writes:
            return b""
        if line.lost_bytes:
            data = bytes(byte for byte in data if chance() >= line.lost_bytes)
        if line.flipped_bytes:
            data = bytes(
                byte ^ (1 << self._random.randrange(8)) if chance() < line.flipped_bytes else byte
                for byte in data
            )
        return data

    def _deliver(self, data: bytes | None) -> None:
        self._on_the_way.append(data)
        if self.line.delay_s:
            asyncio.get_running_loop().call_later(self.line.delay_s, self._arrive)
        else:
            self._arrive()

    def _arrive(self) -> None:
        data = self._on_the_way.popleft()
        if data is None:
            self.ended = True
        else:
            self.buffer += data
        self.changed.set()


class PipeEnd:
    """One end of a pipe: `read`, `write`, `close`, and `cut` for the test."""

    def __init__(self, incoming: _Direction, outgoing: _Direction) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._reading = False

    async def read(self, count: int = 65536) -> bytes:
        """Wait for at least one byte, return up to `count`; b"" when the other end has closed."""
        if self._reading:
            raise PipeBusy("another task is reading from this end")
        self._reading = True
        try:
            return await self._read(count)
        finally:
            self._reading = False

    async def write(self, data: bytes) -> None:
        """Send `data`; what a fault loses is lost silently, as on a real line."""
        if self._closed:
            raise PipeClosed("this end is closed")
        if self._outgoing.broken or self._incoming.broken:
            raise PipeBroken("the line is cut")
        self._outgoing.send(data)
        if self._outgoing.broken:
            self._incoming.changed.set()

    def close(self) -> None:
        """Close this end. The other reads what is on the way, then b""."""
        if not self._closed:
            self._closed = True
            self._outgoing.end()
            self._incoming.changed.set()

    def cut(self) -> None:
        """Break both directions now; what has not been read is gone."""
        for direction in (self._incoming, self._outgoing):
            direction.buffer.clear()
            direction.break_line()

    @property
    def bytes_sent(self) -> int:
        return self._outgoing.carried

    async def _read(self, count: int) -> bytes:
        incoming = self._incoming
        while True:
            if self._closed:
                raise PipeClosed("this end is closed")
            if incoming.buffer:
                size = min(count, incoming.line.read_at_most or count)
                data = bytes(incoming.buffer[:size])
                del incoming.buffer[:size]
                return data
            if incoming.broken or self._outgoing.broken:
                raise PipeBroken("the line is cut")
            if incoming.ended:
                return b""
            incoming.changed.clear()
            await incoming.changed.wait()


def pipe(there: Line = WHOLE, back: Line = WHOLE) -> tuple[PipeEnd, PipeEnd]:
    """Two joined ends; `there` carries from the first to the second, `back` the other way."""
    forward, backward = _Direction(there), _Direction(back)
    return PipeEnd(backward, forward), PipeEnd(forward, backward)
