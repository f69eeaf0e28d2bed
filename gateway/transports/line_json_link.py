"""Line-JSON over a line that several devices share: one request in flight, replies matched by id.

Echoes, late and doubled replies and damaged lines are dropped and counted. The port is opened by
the first device that needs it, and let go of by the last.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from contract.device.line_json import Event, Frame, LineReader, Reply, Request, encode
from gateway.errors import DeviceUnreachable, PortUnavailable
from gateway.transports.base import ByteLink, Turns
from gateway.transports.line_watch import hear_garbage, look_at

DRAIN_WITHIN_S: Final = 5.0
LISTEN_WITHIN_S: Final = 5.0

OnEvent = Callable[[Event], None]


@dataclass(slots=True)
class LinkCounters:
    """What happened on the line since it was made.

    `echoes` are requests that came back (RS-485 hears itself), `late` replies to what nobody waits
    for any more, `strangers` frames of devices that nobody here knows.
    """

    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    echoes: int = 0
    late: int = 0
    strangers: int = 0
    events: int = 0


class LineJsonLine:
    """One port for all devices on it. `bus` is its name in `turns`; `prefix` begins all its ids.

    The prefix must be random: what a device remembers of an earlier process must never fit.
    """

    def __init__(
        self, bus: str, port: ByteLink, turns: Turns, prefix: str, bytes_per_s: float
    ) -> None:
        self.bus = bus
        self.counters = LinkCounters()
        self.frames = LineReader()
        # By address: the request whose outcome is not known, so that it may be asked for again.
        self.unanswered: dict[str, Request] = {}
        self._port = port
        self._turns = turns
        self._prefix = prefix
        self._count = 0
        self._bytes_per_s = bytes_per_s
        self._members: dict[str, OnEvent] = {}
        self._listeners: dict[str, OnEvent] = {}
        self._opening = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._waiting: tuple[Request, asyncio.Future[Reply]] | None = None

    @property
    def is_open(self) -> bool:
        return self._port.is_open and self._reader is not None and not self._reader.done()

    def new_id(self) -> str:
        """An id that no request of any process had before."""
        self._count += 1
        return f"{self._prefix}-{self._count:x}"

    def join(self, address: str, on_event: OnEvent) -> None:
        """A device is used from now on; `on_event` gets what it says unasked."""
        self._members[address] = on_event

    async def leave(self, address: str) -> None:
        """A device is no longer used; the last one lets go of the port."""
        self._members.pop(address, None)
        async with self._opening:
            if not self._members and not self._listeners:  # nobody has joined meanwhile
                await self._close()

    async def listen(self, address: str, on_event: OnEvent) -> None:
        """Hear what a device says unasked, beside whoever uses it; opens the line if need be.

        Raises DeviceUnreachable: no turn in time, or the line cannot be opened.
        """
        self._listeners[address] = on_event
        if not self.is_open:
            async with self._turns.hold(self.bus, LISTEN_WITHIN_S, address), self._opening:
                await self._opened()

    async def listen_no_more(self, address: str) -> None:
        self._listeners.pop(address, None)
        if address not in self._members:
            await self.leave(address)

    async def exchange(self, request: Request, wait_s: float, turn_within_s: float) -> Reply | None:
        """Send once and wait for the reply; None when none came in time.

        `wait_s` counts from the request's last byte. The turn is held for as long, not longer.
        Raises DeviceUnreachable: no turn in time, or the line is gone.
        """
        line = encode(request)
        async with self._turns.hold(self.bus, turn_within_s, request.to):
            async with self._opening:
                reader = await self._opened()
            reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._waiting = request, reply
            self.counters.requests += 1
            wait_s += len(line) / self._bytes_per_s
            try:
                self._port.write(line)
                await self._port.drain(max(DRAIN_WITHIN_S, wait_s))
                either: set[asyncio.Future[Any]] = {reply, reader}
                await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._waiting = None
            if reply.done():
                self.counters.replies += 1
                return reply.result()
            if reader.done():
                reader.result()  # raises what ended it
            self.counters.timeouts += 1
            return None

    async def _opened(self) -> asyncio.Task[None]:
        """The task that reads, started with the port if need be. Only who has the turn asks."""
        if self._reader is not None and self.is_open:
            return self._reader
        await self._close()
        try:
            await self._port.open()
        except PortUnavailable as error:
            self._turns.failed(self.bus, str(error))
            raise
        self.frames = LineReader()
        loop = asyncio.get_running_loop()
        self._reader = loop.create_task(self._read(), name="transports.line_json_link.reader")
        self._reader.add_done_callback(look_at)
        return self._reader

    async def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, DeviceUnreachable):
                await reader
        await self._port.close()

    async def _read(self) -> None:
        counters = self.frames.counters
        while True:
            try:
                data = await self._port.read()
            except PortUnavailable as error:
                self._turns.failed(self.bus, str(error))
                await self._port.close()
                raise
            before = counters.garbage_bytes
            for frame in self.frames.feed(data):
                self._take(frame)
            garbage = counters.garbage_bytes - before
            if garbage:
                line_s = garbage / self._bytes_per_s
                await hear_garbage(self._turns, self.bus, self._port, line_s)

    def _take(self, frame: Frame) -> None:
        match frame:
            case Request():
                self.counters.echoes += 1
            case Reply():
                self._take_reply(frame)
            case Event():
                known = (self._members.get(frame.sender), self._listeners.get(frame.sender))
                heard = [on_event for on_event in known if on_event is not None]
                if not heard:
                    self.counters.strangers += 1
                    return
                self.counters.events += 1
                self._turns.worked(self.bus)
                for on_event in heard:
                    on_event(frame)

    def _take_reply(self, frame: Reply) -> None:
        if self._waiting is not None:
            request, reply = self._waiting
            if (frame.id, frame.sender) == (request.id, request.to) and not reply.done():
                self._turns.worked(self.bus)
                reply.set_result(frame)
                return
        if frame.id.startswith(f"{self._prefix}-"):
            self.counters.late += 1
        else:
            self.counters.strangers += 1
