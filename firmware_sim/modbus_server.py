"""The server side of Modbus, after the Application Protocol 1.1b3: registers, PDUs, RTU frames.

Written from the specification and for itself, so that it is a second opinion on any client.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Table = Literal["coils", "discrete", "holding", "input"]

ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
TARGET_DID_NOT_RESPOND: Final = 11
BROADCAST: Final = 0

READS: Final[Mapping[int, Table]] = {1: "coils", 2: "discrete", 3: "holding", 4: "input"}
BIT_TABLES: Final = frozenset({"coils", "discrete"})
LONGEST_FRAME: Final = 256


class Refused(Exception):
    """The answer is an exception of this code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Written:
    """What a request has changed."""

    table: Table
    address: int
    values: tuple[int, ...]


@dataclass(slots=True)
class Registers:
    """What a device holds, by address; an address that is in no table is illegal.

    `exceptions` are codes by address: a request that touches one is refused with it.
    """

    coils: dict[int, int] = field(default_factory=dict)
    discrete: dict[int, int] = field(default_factory=dict)
    holding: dict[int, int] = field(default_factory=dict)
    input: dict[int, int] = field(default_factory=dict)
    exceptions: dict[int, int] = field(default_factory=dict)

    def table(self, name: Table) -> dict[int, int]:
        found: dict[int, int] = getattr(self, name)
        return found

    def answer(self, pdu: bytes) -> tuple[bytes, Written | None]:
        """The reply to a request, and what it changed."""
        function = pdu[0] if pdu else 0
        try:
            if function in READS:
                return self._read(READS[function], pdu), None
            written = self._written(function, pdu)
        except Refused as refused:
            return bytes([function | 0x80, refused.code]), None
        table = self.table(written.table)
        for address, value in enumerate(written.values, written.address):
            table[address] = value
        return pdu[:5], written

    def _read(self, name: Table, pdu: bytes) -> bytes:
        if len(pdu) != 5:
            raise Refused(ILLEGAL_VALUE)
        address, count = _number(pdu, 1), _number(pdu, 3)
        is_bits = name in BIT_TABLES
        if not 1 <= count <= (2000 if is_bits else 125):
            raise Refused(ILLEGAL_VALUE)
        values = self._at(name, address, count)
        data = _packed(values) if is_bits else b"".join(v.to_bytes(2, "big") for v in values)
        return bytes([pdu[0], len(data)]) + data

    def _written(self, function: int, pdu: bytes) -> Written:
        match function:
            case 5:
                if len(pdu) != 5 or _number(pdu, 3) not in (0x0000, 0xFF00):
                    raise Refused(ILLEGAL_VALUE)
                return self._change("coils", _number(pdu, 1), [int(pdu[3] == 0xFF)])
            case 6:
                if len(pdu) != 5:
                    raise Refused(ILLEGAL_VALUE)
                return self._change("holding", _number(pdu, 1), [_number(pdu, 3)])
            case 15:
                count = self._count(pdu, 1968)
                if pdu[5] != (count + 7) // 8:
                    raise Refused(ILLEGAL_VALUE)
                bits = [pdu[6 + at // 8] >> at % 8 & 1 for at in range(count)]
                return self._change("coils", _number(pdu, 1), bits)
            case 16:
                count = self._count(pdu, 123)
                if pdu[5] != 2 * count:
                    raise Refused(ILLEGAL_VALUE)
                words = [_number(pdu, 6 + 2 * at) for at in range(count)]
                return self._change("holding", _number(pdu, 1), words)
        raise Refused(ILLEGAL_FUNCTION)

    @staticmethod
    def _count(pdu: bytes, most: int) -> int:
        if len(pdu) < 6 or len(pdu) != 6 + pdu[5] or not 1 <= _number(pdu, 3) <= most:
            raise Refused(ILLEGAL_VALUE)
        return _number(pdu, 3)

    def _change(self, name: Table, address: int, values: list[int]) -> Written:
        self._at(name, address, len(values))
        return Written(name, address, tuple(values))

    def _at(self, name: Table, address: int, count: int) -> list[int]:
        table, addresses = self.table(name), range(address, address + count)
        for each in addresses:
            if each in self.exceptions:
                raise Refused(self.exceptions[each])
        if any(each not in table for each in addresses):
            raise Refused(ILLEGAL_ADDRESS)
        return [table[each] for each in addresses]


@dataclass(slots=True)
class RtuReader:
    """Bytes of a line to requests: unit and PDU. A frame whose CRC is wrong is gone whole.

    `gap_s` of silence ends whatever has begun, as the specification has it.
    """

    gap_s: float
    bad_crc: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _heard_at_s: float = 0.0

    def feed(self, data: bytes, now_s: float) -> list[tuple[int, bytes]]:
        if now_s - self._heard_at_s > self.gap_s:
            self._buffer.clear()
        self._heard_at_s = now_s
        self._buffer += data
        frames = []
        while (size := _request_size(self._buffer)) and len(self._buffer) >= size:
            frame = bytes(self._buffer[:size])
            if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
                self.bad_crc += 1
                self._buffer.clear()  # where the next one begins, only silence tells
                break
            del self._buffer[:size]
            frames.append((frame[0], frame[1:-2]))
        if len(self._buffer) > LONGEST_FRAME:
            self._buffer.clear()
        return frames


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """A reply as it goes over the line."""
    body = bytes([unit]) + pdu
    return body + crc16(body).to_bytes(2, "little")


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS, bit by bit: polynomial A001 (reflected 8005), begins with FFFF."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def _request_size(buffer: bytearray) -> int:
    """How long the frame in the buffer will be; 0 while that cannot be told."""
    if len(buffer) < 2:
        return 0
    if buffer[1] in (15, 16):
        return 9 + buffer[6] if len(buffer) > 6 else 0
    return 8  # also of functions that nobody here knows: the answer is an exception


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _packed(bits: list[int]) -> bytes:
    """Eight bits a byte, the first one lowest."""
    number = sum((bit & 1) << at for at, bit in enumerate(bits))
    return number.to_bytes((len(bits) + 7) // 8, "little")
