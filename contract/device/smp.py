"""SMP (MCUmgr) messages: header, requests, replies and their errors, on cbor2.

Requests are built here and replies read tolerantly: devices of many firmware ages leave flags
out, add keys, and name errors in three ways. Serial lines are the matter of `smp_frames`.
Source: Zephyr, "SMP Protocol Specification" and the group pages beside it.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import cbor2

from contract.device.mcuboot import BOOT_MODES, BootMode
from contract.device.smp_errors import SmpError, error_in
from contract.device.smp_frames import (
    LINE_LENGTH,
    FrameCounters,
    FrameReader,
    SmpFrame,
    TextLine,
    encode_frame,
)

__all__ = [
    "HEADER_SIZE",
    "LINE_LENGTH",
    "TWO_LINES_BUF_SIZE",
    "BufferParameters",
    "Command",
    "FrameCounters",
    "FrameReader",
    "Group",
    "Header",
    "ImageSlot",
    "Op",
    "Request",
    "Response",
    "SlotSize",
    "SmpError",
    "SmpFrame",
    "SmpInvalid",
    "TextLine",
    "UploadProgress",
    "boot_mode",
    "bootloader_info",
    "buffer_parameters",
    "decode_request",
    "decode_response",
    "echo",
    "encode_frame",
    "encode_message",
    "erase",
    "error_in",
    "image_slots",
    "max_chunk",
    "os_params",
    "reset",
    "slot_info",
    "slot_sizes",
    "state_read",
    "state_write",
    "upload_first",
    "upload_next",
    "upload_progress",
]

HEADER_SIZE: Final = 8
# What a device needs beside the message in one buffer: length and CRC (measured: 384 takes 380).
FRAME_OVERHEAD: Final = 4
# A buffer that two console lines fill: 2 * 93 bytes. Safe for every device (default RX pool).
TWO_LINES_BUF_SIZE: Final = 186

MAX_DEPTH: Final = 32

_HEADER: Final = struct.Struct(">BBHHBB")


class SmpInvalid(Exception):
    """Bytes or a payload that are not what SMP says; the reply is as good as lost."""


class Op(IntEnum):
    READ = 0
    READ_REPLY = 1
    WRITE = 2
    WRITE_REPLY = 3


class Group(IntEnum):
    OS = 0
    IMAGE = 1
    STAT = 2
    SETTINGS = 3
    FS = 8
    SHELL = 9
    ENUM = 10
    ZEPHYR = 63


class Command:
    """Command numbers, by group."""

    OS_ECHO: Final = 0
    OS_RESET: Final = 5
    OS_PARAMS: Final = 6
    OS_INFO: Final = 7
    OS_BOOTLOADER_INFO: Final = 8
    IMAGE_STATE: Final = 0
    IMAGE_UPLOAD: Final = 1
    IMAGE_ERASE: Final = 5
    IMAGE_SLOT_INFO: Final = 6


@dataclass(frozen=True, slots=True)
class Header:
    """The eight bytes before the CBOR. `version`: 0 is SMP v1, 1 is SMP v2; `length` in bytes."""

    op: int
    group: int
    command: int
    sequence: int
    length: int = 0
    version: int = 1
    flags: int = 0

    def encode(self) -> bytes:
        first = (self.version & 3) << 3 | (self.op & 7)
        return _HEADER.pack(first, self.flags, self.length, self.group, self.sequence, self.command)

    @classmethod
    def decode(cls, message: bytes) -> "Header":
        """Read the header at the start of `message`. Raises SmpInvalid when it is shorter."""
        if len(message) < HEADER_SIZE:
            raise SmpInvalid(f"{len(message)} bytes are too short for an SMP header")
        first, flags, length, group, sequence, command = _HEADER.unpack_from(message)
        return cls(first & 7, group, command, sequence, length, first >> 3 & 3, flags)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a device; it becomes bytes when it gets its sequence number (0-255)."""

    op: Op
    group: int
    command: int
    payload: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1

    def encode(self, sequence: int) -> bytes:
        header = Header(self.op, self.group, self.command, sequence & 0xFF, version=self.version)
        return encode_message(header, self.payload)

    def is_answered_by(self, header: Header, sequence: int) -> bool:
        asked = (self.op + 1, self.group, self.command, sequence & 0xFF)
        return asked == (header.op, header.group, header.command, header.sequence)


@dataclass(frozen=True, slots=True)
class Response:
    """A decoded reply; `error` says what the payload says, in whichever of the three formats."""

    header: Header
    payload: Mapping[str, Any]

    @property
    def error(self) -> SmpError | None:
        return error_in(self.payload)


def encode_message(header: Header, payload: Mapping[str, Any]) -> bytes:
    """Return header and CBOR map; the header's length is filled in."""
    body = cbor2.dumps(dict(payload))
    complete = Header(
        header.op,
        header.group,
        header.command,
        header.sequence,
        len(body),
        header.version,
    )
    return complete.encode() + body


def decode_response(message: bytes) -> Response:
    """Read a reply. Raises SmpInvalid for short, truncated or non-CBOR bytes and for requests."""
    header, payload = _decode(message)
    if header.op not in (Op.READ_REPLY, Op.WRITE_REPLY):
        raise SmpInvalid(f"op {header.op} is not a reply")
    return Response(header, payload)


def decode_request(message: bytes) -> tuple[Header, Mapping[str, Any]]:
    """Read a request, as a device does. Raises SmpInvalid like `decode_response`."""
    header, payload = _decode(message)
    if header.op not in (Op.READ, Op.WRITE):
        raise SmpInvalid(f"op {header.op} is not a request")
    return header, payload


def read_cbor(body: bytes) -> Any:
    """A value of CBOR's plain kinds. Raises SmpInvalid, also for tags: no device needs them.

    They stand for regular expressions, dates, and values that hold themselves.
    """
    _check_cbor(body)
    try:
        return cbor2.loads(body)
    except (
        cbor2.CBORError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise SmpInvalid(f"payload is not CBOR: {error}") from error


def _check_cbor(body: bytes) -> None:
    """Look through the heads of all items (RFC 8949, 3): no tag, no depth, nothing cut off."""
    at, left = 0, [1]  # items that are to come, in each open one; below 0 until a break
    while left:
        if not left[-1]:
            left.pop()
            continue
        if at >= len(body):
            raise SmpInvalid("payload is not CBOR: it ends too soon")
        major, info = body[at] >> 5, body[at] & 31
        at += 1
        if (major, info) == (7, 31) and left[-1] < 0:
            left.pop()
            continue
        left[-1] -= left[-1] > 0
        count = info
        if 24 <= info < 28:
            size = 1 << (info - 24)
            count, at = int.from_bytes(body[at : at + size], "big"), at + size
        elif info == 31 and 2 <= major <= 5:
            count = -1
        elif info >= 24:
            raise SmpInvalid(f"payload is not CBOR: a head of {major}, {info}")
        if major == 6:
            raise SmpInvalid(f"payload has the tag {count}")
        if count < 0 or major in (4, 5):
            if len(left) > MAX_DEPTH:
                raise SmpInvalid("payload is nested too deep")
            left.append(2 * count if major == 5 else count)
        elif major in (2, 3):
            at += count
    if at > len(body):
        raise SmpInvalid("payload is not CBOR: it ends too soon")


def _decode(message: bytes) -> tuple[Header, Mapping[str, Any]]:
    header = Header.decode(message)
    body = message[HEADER_SIZE : HEADER_SIZE + header.length]
    if len(message) != HEADER_SIZE + header.length:
        came = len(message) - HEADER_SIZE
        raise SmpInvalid(f"header says {header.length} bytes of payload, {came} came")
    if not body:
        return header, {}
    payload = read_cbor(body)
    if not isinstance(payload, Mapping):
        raise SmpInvalid(f"payload is a {type(payload).__name__}, not a map")
    return header, {key: value for key, value in payload.items() if isinstance(key, str)}


def echo(text: str) -> Request:
    return Request(Op.WRITE, Group.OS, Command.OS_ECHO, {"d": text})


def reset(*, force: bool = False, boot_mode: int | None = None) -> Request:
    """Reset; the device answers first. `boot_mode=1` asks for serial recovery (Zephyr >= 4.2)."""
    payload: dict[str, Any] = {"force": 1} if force else {}
    if boot_mode is not None:
        payload["boot_mode"] = boot_mode
    return Request(Op.WRITE, Group.OS, Command.OS_RESET, payload)


def os_params() -> Request:
    return Request(Op.READ, Group.OS, Command.OS_PARAMS)


def bootloader_info(query: str | None = None) -> Request:
    """Ask which bootloader it is; `query="mode"` asks MCUboot how it updates."""
    payload = {} if query is None else {"query": query}
    return Request(Op.READ, Group.OS, Command.OS_BOOTLOADER_INFO, payload)


def state_read() -> Request:
    return Request(Op.READ, Group.IMAGE, Command.IMAGE_STATE)


def state_write(image_hash: bytes | None, *, confirm: bool) -> Request:
    """Mark the image with this TLV hash for a test boot, or confirm it (None: the running one)."""
    payload: dict[str, Any] = {"confirm": confirm}
    if image_hash is not None:
        payload = {"hash": image_hash, **payload}
    return Request(Op.WRITE, Group.IMAGE, Command.IMAGE_STATE, payload)


def upload_first(
    total: int, sha256: bytes, data: bytes, *, image: int = 0, upgrade: bool = False
) -> Request:
    """Open (or resume) an upload of `total` bytes; `sha256` is that of the whole file.

    Send at least 32 bytes of data: an empty first chunk resets the device's session.
    """
    payload: dict[str, Any] = {"image": image, "len": total, "off": 0, "sha": sha256}
    if upgrade:
        payload["upgrade"] = True
    return Request(Op.WRITE, Group.IMAGE, Command.IMAGE_UPLOAD, {**payload, "data": data})


def upload_next(offset: int, data: bytes) -> Request:
    return Request(Op.WRITE, Group.IMAGE, Command.IMAGE_UPLOAD, {"off": offset, "data": data})


def erase(slot: int | None = None) -> Request:
    return Request(
        Op.WRITE,
        Group.IMAGE,
        Command.IMAGE_ERASE,
        {} if slot is None else {"slot": slot},
    )


def slot_info() -> Request:
    return Request(Op.READ, Group.IMAGE, Command.IMAGE_SLOT_INFO)


def max_chunk(buf_size: int, empty: Request) -> int:
    """Return how many bytes of data fit, exactly, into `empty`, an upload request with `data=b""`.

    `buf_size` is the device's own (os params), in bytes: message + 4 must not be larger. The
    result may be 0 or less when not even the fixed fields fit.
    """
    # A serial frame ends at 65,533 bytes of message. The empty data has its head of one byte.
    room = min(buf_size, 0xFFFF + 2) - FRAME_OVERHEAD - len(empty.encode(0))
    # A longer head at 24, 256 and 65,536 bytes may leave one to two bytes of room unused.
    by_head = [min(room, 23), min(room - 1, 0xFF), min(room - 2, 0xFFFF), room - 4]
    return max(by_head)


@dataclass(frozen=True, slots=True)
class ImageSlot:
    """One entry of the image state. `hash` is the image's TLV hash, not the file's digest."""

    slot: int
    version: str
    hash: bytes | None
    image: int = 0
    bootable: bool = False
    pending: bool = False
    confirmed: bool = False
    active: bool = False
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class BufferParameters:
    """A device's receive buffers: bytes of each, and how many."""

    buf_size: int
    buf_count: int


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """Reply to a chunk: the offset the device wants next, and its own check at the end, if any."""

    offset: int
    match: bool | None


@dataclass(frozen=True, slots=True)
class SlotSize:
    """Room for an image in one slot, in bytes; None where the device does not say."""

    image: int
    slot: int
    size: int | None


def image_slots(payload: Mapping[str, Any]) -> list[ImageSlot]:
    """Read an image state reply; flags left out are false, entries without a slot are skipped.

    Raises SmpInvalid when there is no list of images.
    """
    images = payload.get("images")
    if not isinstance(images, list):
        raise SmpInvalid("image state holds no list of images")
    return [_image_slot(entry) for entry in images if _has_slot(entry)]


def _image_slot(entry: Mapping[str, Any]) -> ImageSlot:
    image_hash = entry.get("hash")
    flags = {
        name: entry.get(name) is True
        for name in ("bootable", "pending", "confirmed", "active", "permanent")
    }
    return ImageSlot(
        slot=entry["slot"],
        version=str(entry.get("version", "")),
        hash=bytes(image_hash) if isinstance(image_hash, bytes) else None,
        image=_integer(entry.get("image")) or 0,
        **flags,
    )


def buffer_parameters(payload: Mapping[str, Any]) -> BufferParameters:
    """Read an os params reply. Raises SmpInvalid when a figure is missing or not positive."""
    size, count = _integer(payload.get("buf_size")), _integer(payload.get("buf_count"))
    if not size or size < 0:
        raise SmpInvalid("os params name no buf_size")
    return BufferParameters(size, count if count and count > 0 else 1)


def upload_progress(payload: Mapping[str, Any]) -> UploadProgress:
    """Read an upload reply. Raises SmpInvalid when it names no offset."""
    offset = _integer(payload.get("off"))
    if offset is None or offset < 0:
        raise SmpInvalid("upload reply names no offset")
    match = payload.get("match")
    return UploadProgress(offset, match if isinstance(match, bool) else None)


def boot_mode(payload: Mapping[str, Any]) -> BootMode:
    """Read the reply to a bootloader's `mode` query; empty for what is not known here."""
    return BOOT_MODES.get(_integer(payload.get("mode")) or 0, "")


def slot_sizes(payload: Mapping[str, Any]) -> list[SlotSize]:
    """Read a slot info reply; what is not understood is left out, never raised."""
    sizes = []
    images = payload.get("images")
    for entry in images if isinstance(images, list) else []:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("slots"), list):
            continue
        image = _integer(entry.get("image")) or 0
        slots = [slot for slot in entry["slots"] if _has_slot(slot)]
        sizes += [SlotSize(image, slot["slot"], _integer(slot.get("size"))) for slot in slots]
    return sizes


def _has_slot(entry: object) -> bool:
    return isinstance(entry, Mapping) and _integer(entry.get("slot")) is not None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
