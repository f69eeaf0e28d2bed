"""SMP requests and replies over a byte link: one request in flight, matched by sequence number.

What is on the line beside the frames (boot banners, logs) is passed on as text. Late, doubled and
foreign replies are dropped and counted.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from contract.device.smp import (
    FrameCounters,
    FrameReader,
    Request,
    Response,
    SmpFrame,
    SmpInvalid,
    TextLine,
    decode_response,
    encode_frame,
)
from gateway.errors import DeviceUnreachable
from gateway.transports.base import ByteLink, Turns
from gateway.transports.line_watch import check_line, hear_garbage, look_at

DRAIN_WITHIN_S: Final = 5.0
LONGEST_WAIT_S: Final = 6.0
SHORTEST_WAIT_S: Final = 0.5
LINES_AT_ONCE: Final = 100
LINES_PER_S: Final = 20.0
BYTES_PER_S: Final = 11_520.0  # where nobody says how fast the line is


class NoReply(Exception):
    """The device did not answer in time; the line itself is still there."""


@dataclass(slots=True)
class LinkCounters:
    """What happened on the link since it was made. `strangers` are replies nobody waits for."""

    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    strangers: int = 0
    undecodable: int = 0
    text_lines: int = 0
    text_lines_dropped: int = 0


class SmpLink:
    """Speaks with one device. `open` and `close` may follow each other any number of times.

    `first_sequence` should be random: what a device still owes an earlier process then hardly
    ever fits. `bytes_per_s` makes room in the waits for what a slow line needs for the bytes.
    `turns` is told of garbage on `bus`; where that line is shut, the link is closed and stays so.
    """

    def __init__(
        self,
        port: ByteLink,
        on_text: Callable[[str], None],
        *,
        first_sequence: int = 0,
        reply_wait_s: float = 2.5,
        bytes_per_s: float | None = None,
        turns: Turns | None = None,
        bus: str = "",
    ) -> None:
        self.counters = LinkCounters()
        self._port = port
        self._on_text = on_text
        self._sequence = first_sequence
        self._first_wait_s = reply_wait_s
        self._round_trip_s: float | None = None
        self._bytes_per_s = bytes_per_s
        self._turns = turns
        self._bus = bus
        self._frames = FrameReader()
        self._reader: asyncio.Task[None] | None = None
        self._waiting: _Waiting | None = None
        self._allowed_lines = float(LINES_AT_ONCE)
        self._counted_at_s = 0.0

    @property
    def frames(self) -> FrameCounters:
        """What has been read since the link was opened."""
        return self._frames.counters

    @property
    def is_open(self) -> bool:
        return self._port.is_open and self._reader is not None and not self._reader.done()

    async def open(self) -> None:
        """Open the port and start reading. Raises DeviceUnreachable: LineQuarantined, if shut."""
        await self.close()
        if self._turns is not None:
            check_line(self._turns, self._bus)
        await self._port.open()
        self._frames = FrameReader()
        loop = asyncio.get_running_loop()
        self._counted_at_s = loop.time()
        self._reader = loop.create_task(self._read(), name="transports.smp_link.reader")
        self._reader.add_done_callback(look_at)
        await self.resync()

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, DeviceUnreachable):
                await reader
        await self._port.close()

    async def resync(self) -> None:
        """End whatever half line the device may have: else it would eat the next frame."""
        self._port.write(b"\n")
        await self._port.drain(DRAIN_WITHIN_S)

    def wait_s(self, tries: int) -> float:
        """How long the next try should wait: by what replies took so far, longer each time."""
        usual_s = self._first_wait_s if self._round_trip_s is None else 4 * self._round_trip_s
        shortest_s = min(SHORTEST_WAIT_S, self._first_wait_s)
        return min(max(usual_s, shortest_s) * 1.6**tries, LONGEST_WAIT_S)

    async def ask(self, request: Request, *, deadline_s: float, tries: int = 8) -> Response:
        """Send until it is answered; for requests that may safely arrive twice.

        `deadline_s` is a time of the loop's clock. Raises NoReply and DeviceUnreachable.
        """
        loop = asyncio.get_running_loop()
        asked = _Waiting(request, loop.create_future())
        for number in range(tries):
            left_s = deadline_s - loop.time()
            if number and left_s <= 0:
                break
            with contextlib.suppress(NoReply):
                return await self._try(asked, min(self.wait_s(number), max(left_s, 0.05)))
            await self.resync()
        raise NoReply(f"no reply to {len(asked.sequences)} requests")

    async def ask_once(self, request: Request, wait_s: float) -> Response:
        """Send it a single time. Raises NoReply and DeviceUnreachable."""
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        return await self._try(_Waiting(request, future), wait_s)

    async def _try(self, asked: "_Waiting", wait_s: float) -> Response:
        """One try. A reply to an earlier try of the same request counts as well."""
        if self._reader is None or not self.is_open:
            raise DeviceUnreachable("the line is closed")
        loop = asyncio.get_running_loop()
        self._sequence = (self._sequence + 1) & 0xFF
        asked.sequences.add(self._sequence)
        lines = encode_frame(asked.request.encode(self._sequence))
        size = sum(map(len, lines))
        if self._bytes_per_s is not None:
            wait_s += size / self._bytes_per_s
        self._waiting = asked
        self.counters.requests += 1
        sent_at_s = loop.time()
        try:
            self._port.write(b"".join(lines))
            await self._port.drain(max(DRAIN_WITHIN_S, wait_s))
            either: set[asyncio.Future[Any]] = {asked.reply, self._reader}
            await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting = None
        if asked.reply.done():
            self._learn(loop.time() - sent_at_s, asked)
            return asked.reply.result()
        if self._reader.done():
            self._reader.result()  # raises what ended it
        self.counters.timeouts += 1
        raise NoReply(f"no reply within {wait_s:.1f} s")

    def _learn(self, took_s: float, asked: "_Waiting") -> None:
        self.counters.replies += 1
        if len(asked.sequences) > 1:
            return  # it cannot be told which try was answered
        before_s = self._round_trip_s
        self._round_trip_s = took_s if before_s is None else max(took_s, 0.9 * before_s)

    async def _read(self) -> None:
        while True:
            data = await self._port.read()
            before = self._frames.counters.garbage_bytes
            for item in self._frames.feed(data):
                match item:
                    case SmpFrame():
                        self._take(item.message)
                    case TextLine():
                        self._tell(item.text)
            garbage = self._frames.counters.garbage_bytes - before
            if self._turns is not None and garbage:
                line_s = garbage / (self._bytes_per_s or BYTES_PER_S)
                await hear_garbage(self._turns, self._bus, self._port, line_s)

    def _take(self, message: bytes) -> None:
        try:
            response = decode_response(message)
        except SmpInvalid:
            self.counters.undecodable += 1
            return
        waiting, header = self._waiting, response.header
        if (
            waiting is None
            or waiting.reply.done()
            or not any(waiting.request.is_answered_by(header, n) for n in waiting.sequences)
        ):
            self.counters.strangers += 1
            return
        waiting.reply.set_result(response)
        if self._turns is not None:
            self._turns.worked(self._bus)

    def _tell(self, text: str) -> None:
        """Pass a line on, unless the device says more than anyone can read."""
        self.counters.text_lines += 1
        now_s = asyncio.get_running_loop().time()
        refilled = self._allowed_lines + (now_s - self._counted_at_s) * LINES_PER_S
        self._allowed_lines, self._counted_at_s = min(refilled, LINES_AT_ONCE), now_s
        if self._allowed_lines < 1:
            self.counters.text_lines_dropped += 1
            return
        self._allowed_lines -= 1
        self._on_text(text[:512])


class _Waiting:
    """The request in flight, with the numbers of all its tries."""

    def __init__(self, request: Request, reply: "asyncio.Future[Response]") -> None:
        self.request = request
        self.reply = reply
        self.sequences: set[int] = set()
