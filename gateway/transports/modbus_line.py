"""A Modbus line, RS-485 or TCP, shared by the units on it: one client, one exchange at a time.

The client is pymodbus's, told to try once and never to reconnect by itself: what a lost reply
means is for the driver to decide. Whatever it takes for a reply is compared with the request.
"""

import asyncio
import logging
import os
import struct
import termios
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from pymodbus import ModbusException as LibraryError
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.pdu import ExceptionResponse, ModbusPDU

from gateway.domain.modbus_points import Block, Write
from gateway.errors import DeviceUnreachable, PortUnavailable
from gateway.transports.base import Turns

# Modbus over Serial Line 1.02, 2.5.1.1: 3.5 characters between frames, at least 1.75 ms.
LEAST_GAP_S: Final = 0.00175
BITS_PER_CHARACTER: Final = 11
CONNECT_WITHIN_S: Final = 5.0
# Ours ends a wait; the library's only has to be later.
LIBRARY_WAIT_S: Final = 3600.0
READS: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}

# It tells of every lost reply as an error; we say what it means.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


class NoReply(Exception):
    """Nothing that answers the request came in time; it may have been done."""


class Exceptional(Exception):
    """The unit answers with a Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


@dataclass(frozen=True)
class SerialPlace:
    """`parity` is "N", "E" or "O"; `has_echo`: what we send comes back to us."""

    port: str
    baud: int
    parity: str
    stopbits: int
    has_echo: bool = False


@dataclass(frozen=True)
class TcpPlace:
    host: str
    port: int


class ModbusLine:
    """The line of all units that the gateway speaks with over one port, or one TCP server.

    `bus` is its name in `turns`. The port is opened by who needs it first, and let go of when the
    last unit leaves.
    """

    def __init__(self, bus: str, place: SerialPlace | TcpPlace, turns: Turns) -> None:
        self.bus = bus
        self._place = place
        self._turns = turns
        self._members: set[int] = set()
        self._client: ModbusBaseClient | None = None
        self._lost = asyncio.Event()
        self._heard = 0
        self._free_at_s = 0.0

    def join(self, unit: int) -> None:
        """A unit is used from now on."""
        self._members.add(unit)

    def leave(self, unit: int) -> None:
        """A unit is no longer used; the last one lets go of the port."""
        self._members.discard(unit)
        if not self._members:
            self._close()

    async def read(
        self, unit: int, block: Block, reply_wait_s: float, within_s: float
    ) -> Sequence[int]:
        """Registers, or bits as 0 and 1. Raises NoReply, Exceptional, DeviceUnreachable.

        `reply_wait_s` counts from when the request has passed the line, `within_s` is for the turn.
        """
        is_bits = block.kind in ("coil", "discrete")
        size = 5 + (block.count + 7) // 8 if is_bits else 5 + 2 * block.count

        def ask(client: ModbusBaseClient) -> Awaitable[ModbusPDU]:
            reader = {
                "coil": client.read_coils,
                "discrete": client.read_discrete_inputs,
                "holding": client.read_holding_registers,
                "input": client.read_input_registers,
            }[block.kind]
            return reader(block.address, count=block.count, device_id=unit)

        reply = await self._exchange(unit, ask, reply_wait_s + self._line_s(8 + size), within_s)
        came = len(reply.bits) // 8 if is_bits else len(reply.registers)
        asked = (block.count + 7) // 8 if is_bits else block.count
        if reply.function_code != READS[block.kind] or came != asked:
            raise NoReply("what came does not answer the request")
        return [int(bit) for bit in reply.bits[: block.count]] if is_bits else reply.registers

    async def write(
        self, unit: int, write: Write, reply_wait_s: float, within_s: float, *, is_single: bool
    ) -> None:
        """Write registers or coils; `is_single` by the function for one. Raises as `read`."""
        is_bits, values, address = write.kind == "coil", list(write.values), write.address

        def ask(client: ModbusBaseClient) -> Awaitable[ModbusPDU]:
            if is_bits and is_single:
                return client.write_coil(address, bool(values[0]), device_id=unit)
            if is_bits:
                return client.write_coils(address, [bool(v) for v in values], device_id=unit)
            if is_single:
                return client.write_register(address, values[0], device_id=unit)
            return client.write_registers(address, values, device_id=unit)

        size = 17 + (len(values) if is_bits else 2 * len(values))
        reply = await self._exchange(unit, ask, reply_wait_s + self._line_s(size), within_s)
        wanted = (5 if is_bits else 6) if is_single else (15 if is_bits else 16)
        echoed = [int(bit) for bit in reply.bits] if is_bits else reply.registers
        is_same = echoed == values if is_single else reply.count == len(values)
        if reply.function_code != wanted or reply.address != address or not is_same:
            raise NoReply("what came does not answer the request")

    async def _exchange(
        self,
        unit: int,
        ask: Callable[[ModbusBaseClient], Awaitable[ModbusPDU]],
        wait_s: float,
        within_s: float,
    ) -> ModbusPDU:
        async with self._turns.hold(self.bus, within_s, f"unit {unit}"):
            client = await self._opened()
            await asyncio.sleep(max(self._free_at_s - _now_s(), 0))
            self._heard = 0
            reply = await self._answer(client, ask, wait_s)
        if isinstance(reply, ExceptionResponse) or reply.isError():
            raise Exceptional(reply.exception_code)
        return reply

    async def _answer(
        self,
        client: ModbusBaseClient,
        ask: Callable[[ModbusBaseClient], Awaitable[ModbusPDU]],
        wait_s: float,
    ) -> ModbusPDU:
        # A reply that is only late must not be taken for the answer to what is asked next. TCP has
        # transaction numbers for that.
        settle_s = min(wait_s, 1.0) if isinstance(self._place, SerialPlace) else 0.0
        try:
            asking = asyncio.ensure_future(ask(client))
        except LibraryError:  # lost since we looked; nothing was sent
            self._fail("it was lost")
        losing = asyncio.ensure_future(self._lost.wait())
        both: set[asyncio.Future[object]] = {asking, losing}  # type: ignore[arg-type]
        try:
            await asyncio.wait(both, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and not self._lost.is_set():
                reply = asking.result()
                self._turns.worked(self.bus)
                settle_s = self._gap_s
                return reply
        except (LibraryError, OSError) as error:
            raise NoReply(str(error)) from error
        finally:
            self._free_at_s = _now_s() + settle_s
            for task in both:
                task.cancel()
            await asyncio.wait(both)
            with suppress(LibraryError, OSError, asyncio.CancelledError):
                asking.result()  # said above, or of no interest any more
        if self._lost.is_set():
            self._close()
            raise NoReply(f"{self._where} was lost")
        if self._heard:
            self._turns.garbage(self.bus, self._line_s(self._heard))
        raise NoReply(f"no reply within {wait_s:.2g} s")

    async def _opened(self) -> ModbusBaseClient:
        """The client, connected now if need be. Only who has the turn asks."""
        if self._client is not None and self._client.connected and not self._lost.is_set():
            return self._client
        self._close()
        self._lost = asyncio.Event()
        client = self._client = self._new_client(self._lost)
        client.ctx.callback_data = forgiving(client.ctx.callback_data)  # type: ignore[method-assign]
        # In a task of its own, waited for to its end: given up halfway, the library loses the port
        # and leaves it open.
        connecting = asyncio.ensure_future(client.connect())
        try:
            await asyncio.wait({connecting}, timeout=CONNECT_WITHIN_S)
        finally:
            if not connecting.done():
                if isinstance(self._place, TcpPlace):
                    connecting.cancel()
                await asyncio.wait({connecting})
                self._close()
        if connecting.cancelled():
            self._fail("no answer")
        try:
            is_connected = connecting.result()
        except (LibraryError, OSError, ValueError, termios.error) as error:
            self._fail(str(error))
        if not is_connected:
            self._fail(self._why_not())
        return client

    def _new_client(self, lost: asyncio.Event) -> ModbusBaseClient:
        def connection(is_there: bool) -> None:
            if not is_there:
                lost.set()

        def packet(is_sent: bool, data: bytes) -> bytes:
            if not is_sent:
                self._heard = len(data)
            return data

        place = self._place
        if isinstance(place, TcpPlace):
            return AsyncModbusTcpClient(
                place.host, port=place.port, timeout=LIBRARY_WAIT_S, retries=0,
                reconnect_delay=0, trace_packet=packet, trace_connect=connection,
            )  # fmt: skip
        return AsyncModbusSerialClient(
            place.port, baudrate=place.baud, parity=place.parity, stopbits=place.stopbits,
            handle_local_echo=place.has_echo, timeout=LIBRARY_WAIT_S, retries=0, reconnect_delay=0,
            trace_packet=packet, trace_connect=connection,
        )  # fmt: skip

    def _fail(self, why: str) -> NoReturn:
        self._close()
        if isinstance(self._place, TcpPlace):
            raise DeviceUnreachable(f"cannot connect to {self._where}: {why}")
        self._turns.failed(self.bus, f"cannot open {self._where}: {why}")
        raise PortUnavailable(f"cannot open {self._where}: {why}")

    def _why_not(self) -> str:
        """The library only says that it could not."""
        if isinstance(self._place, TcpPlace):
            return "no answer"
        if not os.path.exists(self._place.port):
            return "there is no such port"
        return "another program has it, or it is not ours to open"

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def _where(self) -> str:
        place = self._place
        return place.port if isinstance(place, SerialPlace) else f"{place.host}:{place.port}"

    @property
    def _gap_s(self) -> float:
        return 0.0 if isinstance(self._place, TcpPlace) else max(self._line_s(4), LEAST_GAP_S)

    def _line_s(self, size: int) -> float:
        if isinstance(self._place, TcpPlace):
            return 0.0
        return size * BITS_PER_CHARACTER / self._place.baud


def forgiving(take: Callable[..., int]) -> Callable[..., int]:
    """Of a client's `callback_data`: the library raises into the event loop over some frames.

    They are none, but garbage.
    """

    def taken(data: bytes, addr: tuple[object, ...] | None = None) -> int:
        try:
            return take(data, addr)
        except (LibraryError, ValueError, LookupError, struct.error):
            return len(data)

    return taken


def _now_s() -> float:
    return asyncio.get_running_loop().time()
