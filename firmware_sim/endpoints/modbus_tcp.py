"""A Modbus TCP server for the units of one personality: each frame has a header of seven bytes."""

import asyncio
import contextlib
from typing import Final

from firmware_sim.personalities.modbus import ModbusPersonality
from firmware_sim.recording import NO_TAP, Tap

# Modbus Messaging on TCP/IP 1.0b, 3.1.3: transaction, protocol 0, length, unit.
HEADER: Final = 7
LONGEST_PDU: Final = 253


class ModbusTcpEndpoint:
    """Listens on `host` and `port` (0 takes a free one); `run` serves until it is cancelled."""

    def __init__(
        self, personality: ModbusPersonality, host: str, port: int, tap: Tap = NO_TAP
    ) -> None:
        self.personality = personality
        self._tap = tap
        self.host = host
        self.port = port
        self.is_listening = asyncio.Event()
        self._connections: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self.personality.boot(_now_s())
        self.is_listening.set()
        try:
            await asyncio.get_running_loop().create_future()  # until cancelled
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Drop every connection; new ones are taken."""
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    header = await reader.readexactly(HEADER)
                    protocol, size = int.from_bytes(header[2:4]), int.from_bytes(header[4:6])
                    if protocol != 0 or not 2 <= size <= LONGEST_PDU + 1:
                        return  # no Modbus; nobody could find the next frame
                    pdu = await reader.readexactly(size - 1)
                    self._tap.data("to_device", header + pdu)
                    self._answer(writer, header[:2], header[6], pdu)
        finally:
            self._connections.discard(writer)
            writer.close()

    def _answer(
        self, writer: asyncio.StreamWriter, transaction: bytes, unit: int, pdu: bytes
    ) -> None:
        loop = asyncio.get_running_loop()
        for reply, after_s in self.personality.answer_tcp(unit, pdu, loop.time()):
            length = (len(reply) + 1).to_bytes(2, "big")
            frame = transaction + b"\0\0" + length + bytes([unit]) + reply
            loop.call_later(after_s, self._send, writer, frame)

    def _send(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        if not writer.is_closing():
            self._tap.data("from_device", frame)
            writer.write(frame)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
