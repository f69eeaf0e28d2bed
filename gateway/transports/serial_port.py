"""A serial port as a byte link: never blocks the loop, and lets go of a stuck line at once."""

import asyncio
import contextlib
import errno
from typing import Any, Final

import serial
from serial_asyncio_fast import SerialTransport

from gateway.crash_points import reach
from gateway.errors import DeviceUnreachable, PortUnavailable

# Small: what waits here is lost when the line is closed, and a hung device must show soon.
WRITE_HIGH_WATER: Final = 8192
READ_HIGH_WATER: Final = 256 * 1024
CLOSE_WITHIN_S: Final = 2.0


class SerialPort:
    """One port, by its path. `dtr` and `rts` are left alone where they are None (ptys have none).

    `parity` is "N", "E" or "O". The port is locked: a second process cannot open it.
    """

    def __init__(
        self,
        path: str,
        baud: int = 115200,
        *,
        dtr: bool | None = None,
        rts: bool | None = None,
        parity: str = "N",
        rtscts: bool = False,
    ) -> None:
        self.path = path
        self.baud = baud
        self._lines = {"dtr": dtr, "rts": rts}
        self._parity = parity
        self._rtscts = rtscts
        self._transport: _Transport | None = None
        self._protocol = _Received()
        self._protocol.closed.set()
        self._left: asyncio.Future[serial.Serial] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._protocol.is_lost

    async def open(self) -> None:
        await self.close()
        if self._left is not None:  # given up halfway, and it still has the lock
            await asyncio.wait({self._left})
            _close_opened(self._left)
            self._left = None
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self._open_port)
        try:
            port = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            self._left = opening
            raise
        except (serial.SerialException, OSError, ValueError) as error:
            raise PortUnavailable(f"cannot open {self.path}: {_reason(error)}") from error
        self._protocol = _Received()
        self._transport = _Transport(loop, self._protocol, port)
        self._transport.set_write_buffer_limits(WRITE_HIGH_WATER, WRITE_HIGH_WATER // 4)

    def _open_port(self) -> serial.Serial:
        port = serial.Serial(
            baudrate=self.baud,
            parity=self._parity,
            rtscts=self._rtscts,
            exclusive=True,
            timeout=0,
            write_timeout=0,
        )
        for line, level in self._lines.items():
            if level is not None:
                setattr(port, line, level)
        port.port = self.path
        port.open()
        return port

    async def read(self) -> bytes:
        received = self._protocol
        while not received.buffer:
            if self._transport is None or received.is_lost:
                raise self._gone()
            received.changed.clear()
            await received.changed.wait()
        data = bytes(received.buffer)
        received.buffer.clear()
        received.go_on()
        return data

    def write(self, data: bytes) -> None:
        if self._transport is None or not self.is_open:
            raise self._gone()
        reach("serial.before_write", self.path)
        self._transport.write(data)
        reach("serial.after_write", self.path)

    async def drain(self, timeout_s: float) -> None:
        received = self._protocol
        try:
            async with asyncio.timeout(timeout_s):
                await received.may_write.wait()
        except TimeoutError:
            raise DeviceUnreachable(f"{self.path} takes no more bytes: the device hangs") from None
        if not self.is_open:
            raise self._gone()

    async def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None and not transport.is_closing():
            port = transport.serial
            with contextlib.suppress(serial.SerialException, OSError):
                # A UART with flow control would keep close(2) waiting for its output (30 s).
                if port is not None:
                    port.reset_output_buffer()
            transport.abort()
        # Also where an earlier close was given up: the lock goes with the descriptor.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._protocol.closed.wait()

    def _gone(self) -> PortUnavailable:
        reason = self._protocol.error
        return PortUnavailable(f"{self.path} is gone: {reason}" if reason else "port is closed")


class _Received(asyncio.Protocol):
    """What the transport has told us; `changed` is set by every news."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.changed = asyncio.Event()
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.closed = asyncio.Event()
        self.error: BaseException | None = None
        self.is_lost = False
        self._transport: _Transport | None = None
        self._is_paused = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > READ_HIGH_WATER and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self.changed.set()

    def go_on(self) -> None:
        if self._is_paused and self._transport is not None and not self.is_lost:
            self._is_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def lose(self, error: BaseException | None) -> None:
        """Called at once when the line fails; `connection_lost` comes when it is closed."""
        self.is_lost = True
        self.error = self.error or error
        self.changed.set()
        self.may_write.set()

    def connection_lost(self, error: BaseException | None) -> None:
        self.lose(error)
        self.closed.set()


class _Transport(SerialTransport):
    """Fails quietly and for good.

    The library writes a traceback when a port is unplugged, and one that is read to its end with
    bytes still unsent never says that it was lost.
    """

    def _close(self, exc: BaseException | None = None) -> None:
        self._abort(exc)

    def _fatal_error(self, exc: BaseException, message: str = "") -> None:
        self._abort(exc)

    def _abort(self, exc: BaseException | None) -> None:
        if self._closing:
            return
        if isinstance(self._protocol, _Received):
            self._protocol.lose(exc)
        super()._abort(exc)


def _reason(error: Exception) -> str:
    """A lock that somebody else holds shows as EAGAIN."""
    if getattr(error, "errno", None) in (errno.EAGAIN, errno.EBUSY, errno.EACCES) and (
        "lock" in str(error)
    ):
        return "another program has it (the port is locked)"
    return str(error)


def _close_opened(opening: "asyncio.Future[serial.Serial]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
