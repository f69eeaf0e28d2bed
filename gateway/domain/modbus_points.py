"""Values of points to registers and back, and which points one request can ask for together.

Pure: registers are numbers from 0 to 65535, in the order of their addresses.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pydantic import JsonValue

from gateway.domain.modbus_profile import (
    MAX_WRITE_BITS,
    MAX_WRITE_REGISTERS,
    Kind,
    ModbusProfile,
    Order,
    Point,
)

# struct's letters; every format is big endian
_FORMATS: Final = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d",
}  # fmt: skip


class PointInvalid(ValueError):
    """The value cannot be written to this point; says why."""


@dataclass(frozen=True)
class Block:
    """Neighbours that one request reads: so many registers or bits from an address on."""

    kind: Kind
    address: int
    count: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        last = f" to {self.address + self.count - 1}" if self.count > 1 else ""
        return f"{self.kind} {self.address}{last}"


@dataclass(frozen=True)
class Write:
    """What one request writes: registers, or bits as 0 and 1."""

    kind: Kind
    address: int
    values: tuple[int, ...]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return str(Block(self.kind, self.address, len(self.values), self.names))


def decode(profile: ModbusProfile, point: Point, words: Sequence[int]) -> JsonValue:
    """The value of a point in its registers (or its one bit); null for a float that is none."""
    if point.is_bit or point.type == "bool":
        return words[0] != 0
    raw = _bytes_of(words, *profile.orders(point), is_text=point.type == "string")
    if point.type == "string":
        return raw.partition(b"\0")[0].decode("ascii", "replace").rstrip()
    if point.type == "bits":
        return {name: bool(words_bit(raw, bit)) for name, bit in point.bits.items()}
    (number,) = struct.unpack(f">{_FORMATS[point.type]}", raw)
    return _scaled(number, point)


def encode(
    profile: ModbusProfile, point: Point, value: JsonValue, before: Sequence[int] = ()
) -> tuple[int, ...]:
    """The registers (or the bit) of a value; of `bits`, those not given stay as `before`.

    Raises PointInvalid.
    """
    if point.is_bit or point.type == "bool":
        return (int(_as_bool(value)),)
    orders = profile.orders(point)
    if point.type == "string":
        return _words_of(_text(point, value), *orders, is_text=True)
    if point.type == "bits":
        raw = _bytes_of(before, *orders) if before else b"\0\0"
        return _words_of(_with_bits(point, value, raw), *orders)
    return _words_of(_number(point, value), *orders)


def words_bit(raw: bytes, bit: int) -> int:
    """One bit of a register's two bytes, high byte first."""
    return int.from_bytes(raw, "big") >> bit & 1


def blocks(profile: ModbusProfile, names: Sequence[str]) -> list[Block]:
    """The fewest requests that read these points; a point is never split over two."""
    wanted = sorted(
        dict.fromkeys(names), key=lambda n: (profile.points[n].kind, profile.points[n].address)
    )
    found: list[Block] = []
    for name in wanted:
        point = profile.points[name]
        most = profile.max_bits if point.is_bit else profile.max_registers
        last = found[-1] if found else None
        if last is not None and last.kind == point.kind:
            end = max(last.address + last.count, point.address + point.size)
            gap = point.address - (last.address + last.count)
            if gap <= profile.max_gap and end - last.address <= most:
                joined = (*last.names, name)
                found[-1] = Block(last.kind, last.address, end - last.address, joined)
                continue
        found.append(Block(point.kind, point.address, point.size, (name,)))
    return found


def values_in(profile: ModbusProfile, block: Block, words: Sequence[int]) -> dict[str, JsonValue]:
    """The values of a block's points, out of what was read."""
    found: dict[str, JsonValue] = {}
    for name in block.names:
        point = profile.points[name]
        start = point.address - block.address
        found[name] = decode(profile, point, words[start : start + point.size])
    return found


def writes(
    profile: ModbusProfile,
    values: Mapping[str, JsonValue],
    before: Mapping[str, Sequence[int]] | None = None,
) -> list[Write]:
    """The requests that write these values, neighbours together, in the order of addresses.

    `before` holds the registers of `bits` points as they are. Raises PointInvalid with the name.
    """
    found: list[Write] = []
    order = sorted(values, key=lambda n: (profile.points[n].kind, profile.points[n].address))
    for name in order:
        point = profile.points[name]
        try:
            words = encode(profile, point, values[name], (before or {}).get(name, ()))
        except PointInvalid as error:
            raise PointInvalid(f"`{name}`: {error}") from None
        last = found[-1] if found else None
        most = MAX_WRITE_BITS if point.is_bit else MAX_WRITE_REGISTERS
        if (
            last is not None
            and last.kind == point.kind
            and last.address + len(last.values) == point.address
            and profile.points[last.names[-1]].read_back == point.read_back
            and len(last.values) + len(words) <= min(most, _most(profile, point))
        ):
            joined = (*last.values, *words)
            found[-1] = Write(last.kind, last.address, joined, (*last.names, name))
        else:
            found.append(Write(point.kind, point.address, words, (name,)))
    return found


def _most(profile: ModbusProfile, point: Point) -> int:
    return profile.max_bits if point.is_bit else profile.max_registers


def _bytes_of(
    words: Sequence[int], byte_order: Order, word_order: Order, *, is_text: bool = False
) -> bytes:
    """High byte first, high word first. A text has no high word."""
    ordered = reversed(words) if word_order == "little" and not is_text else words
    return b"".join(word.to_bytes(2, byte_order) for word in ordered)


def _words_of(
    raw: bytes, byte_order: Order, word_order: Order, *, is_text: bool = False
) -> tuple[int, ...]:
    words = [int.from_bytes(raw[i : i + 2], byte_order) for i in range(0, len(raw), 2)]
    return tuple(reversed(words) if word_order == "little" and not is_text else words)


def _scaled(number: int | float, point: Point) -> JsonValue:
    if not math.isfinite(number):
        return None
    if (point.scale, point.offset) == (1, 0):
        return number
    # In decimals, so that 3 * 0.1 is 0.3.
    value = _decimal(number) * _decimal(point.scale) + _decimal(point.offset)
    return (
        int(value)
        if all(isinstance(n, int) for n in (number, point.scale, point.offset))
        else float(value)
    )


def _decimal(number: int | float) -> Decimal:
    return Decimal(number) if isinstance(number, int) else Decimal(repr(number))


def _number(point: Point, value: JsonValue) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PointInvalid(f"{_shown(value)} is no number")
    if point.min is not None and value < point.min:
        raise PointInvalid(f"{value} is below {point.min:g}{_unit(point)}, the least it may be")
    if point.max is not None and value > point.max:
        raise PointInvalid(f"{value} is above {point.max:g}{_unit(point)}, the most it may be")
    raw = (_decimal(value) - _decimal(point.offset)) / _decimal(point.scale)
    is_float = point.type.startswith("float")
    try:
        return struct.pack(f">{_FORMATS[point.type]}", float(raw) if is_float else round(raw))
    except (struct.error, OverflowError):
        raise PointInvalid(f"{value} does not fit {point.type}") from None


def _as_bool(value: JsonValue) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise PointInvalid(f"{_shown(value)} is neither true nor false")


def _text(point: Point, value: JsonValue) -> bytes:
    if not isinstance(value, str) or not value.isascii() or "\0" in value:
        raise PointInvalid(f"{_shown(value)} is no ASCII text")
    if len(value) > 2 * point.length:
        raise PointInvalid(f"the text has {len(value)} characters; {2 * point.length} fit")
    return value.encode("ascii").ljust(2 * point.length, b"\0")


def _with_bits(point: Point, value: JsonValue, raw: bytes) -> bytes:
    if not isinstance(value, dict) or not value:
        raise PointInvalid(f"{_shown(value)} is no object of bits")
    number = int.from_bytes(raw, "big")
    for name, on in value.items():
        if name not in point.bits:
            raise PointInvalid(f"there is no bit `{name}` (known: {', '.join(point.bits)})")
        mask = 1 << point.bits[name]
        number = number | mask if _as_bool(on) else number & ~mask
    return number.to_bytes(2, "big")


def _unit(point: Point) -> str:
    return f" {point.unit}" if point.unit else ""


def _shown(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
