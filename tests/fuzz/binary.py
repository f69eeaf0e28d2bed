"""Harnesses of what devices say in bytes: SMP, CBOR, MCUboot images, Modbus, JSON lines."""

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import cbor2
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

from contract.device import line_json, mcuboot, smp, smp_certificates
from contract.device.smp_frames import encode_frame
from firmware_sim.images import build_image
from gateway.domain.modbus_points import decode as decode_point
from gateway.domain.modbus_profile import ModbusProfile, Point
from gateway.domain.plain_json import plain
from gateway.transports.modbus_line import forgiving
from tests.fuzz.harness import Harness

HEADER = smp.Header(smp.Op.READ_REPLY, 0, 0, 1, 7, 0)


def _reply(payload: Mapping[str, Any]) -> bytes:
    return smp.encode_message(HEADER, payload)


REPLIES = [
    _reply({"rc": 0}),
    _reply({"err": {"group": 1, "rc": 6}}),
    _reply({"images": [{"slot": 0, "version": "1.2.3", "hash": b"h" * 32, "active": True}]}),
    _reply({"off": 12_000, "match": True}),
    _reply({"buf_size": 2475, "buf_count": 4}),
    _reply({"images": [{"image": 0, "slots": [{"slot": 0, "size": 4096}]}], "response": 3}),
    _reply({"active": b"a" * 32, "use": b"u", "req": "r", "why": "", "key": b"k"}),
    _reply({"off": 0, "len": 12, "data": b"0123456789ab"}),
]
READERS = (
    smp.image_slots,
    smp.buffer_parameters,
    smp.upload_progress,
    smp.boot_mode,
    smp.slot_sizes,
    smp_certificates.slot_state,
    smp_certificates.csr_piece,
    smp_certificates.offset_in,
)


def smp_message(data: bytes) -> None:
    """A reply, and everything that is ever read out of one."""
    response = smp.decode_response(data)
    assert response.error is None or response.error.rc is not None
    for read in READERS:
        try:
            read(response.payload)
        except smp.SmpInvalid:
            continue
    json.dumps(plain(dict(response.payload)))


def smp_payload(data: bytes) -> None:
    """As `smp_message`, with a header that fits, so that all bytes come to the CBOR decoder."""
    smp_message(bytes([smp.Op.READ_REPLY, 0]) + len(data).to_bytes(2, "big") + bytes(4) + data)


def smp_request(data: bytes) -> None:
    smp.decode_request(data)


def smp_serial(data: bytes) -> None:
    """A line in pieces, of which the first byte tells the size."""
    reader, step = smp.FrameReader(), max(data[0] if data else 1, 1)
    for at in range(1, len(data), step):
        for frame in reader.feed(data[at : at + step]):
            if isinstance(frame, smp.SmpFrame):
                try:
                    smp_message(frame.message)
                except smp.SmpInvalid:
                    continue
    reader.flush()


def line_frames(data: bytes) -> None:
    reader, step = line_json.LineReader(), max(data[0] if data else 1, 1)
    for at in range(1, len(data), step):
        for frame in reader.feed(data[at : at + step]):
            try:
                line_json.encode(frame)
            except line_json.LineInvalid as error:
                assert error.problem == "overlong", error


def image(data: bytes) -> None:
    for read in (mcuboot.read_image, mcuboot.parse_header, mcuboot.parse_image):
        try:
            read(data)
        except mcuboot.ImageInvalid:
            continue


def modbus_rtu(data: bytes) -> None:
    """What comes on a serial line, to the library's framer as our line uses it."""
    asyncio.run(_fed(AsyncModbusSerialClient, ("/dev/null",), data))


def modbus_tcp(data: bytes) -> None:
    asyncio.run(_fed(AsyncModbusTcpClient, ("192.0.2.1",), data))


async def _fed(kind: type[Any], where: tuple[str, ...], data: bytes) -> None:
    context = kind(*where).ctx
    take = forgiving(context.callback_data)
    waiting, step = b"", max(data[0] if data else 1, 1)
    for at in range(1, len(data), step):
        waiting += data[at : at + step]
        used = take(waiting, None)
        assert 0 <= used <= len(waiting)
        waiting = waiting[used:]


PROFILE = ModbusProfile.model_validate(
    {
        "driver": "modbus",
        "name": "meter",
        "points": {
            kind: {"kind": "holding", "address": number * 8, "type": kind, "scale": 0.1}
            for number, kind in enumerate(
                ("int16", "uint32", "int64", "uint64", "float32", "float64")
            )
        },
    }
)
TEXT = Point.model_validate({"kind": "holding", "address": 0, "type": "string", "length": 4})
BITS = Point.model_validate({"kind": "holding", "address": 0, "type": "bits", "bits": {"on": 3}})


def modbus_registers(data: bytes) -> None:
    """Registers as values: whatever stands in them, there is a value that JSON knows."""
    words = [int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, 8, 2)]
    for point in (*PROFILE.points.values(), TEXT, BITS):
        json.dumps(decode_point(PROFILE, point, words[: point.size]), allow_nan=False)


def certificates(data: bytes) -> None:
    smp_certificates.unbundle(data)


# The library logs what it does not like, with the source of where it was.
MODBUS = 4_000_000
CBOR = [cbor2.dumps(value) for value in ({"a": [1, -2, 3.5, None, True, b"x", "t"]}, {}, [b"1"])]
IMAGE = build_image("1.2.3+4", 1_024)
FRAMES = [b"\x40" + b"".join(encode_frame(reply)) for reply in REPLIES]
LINES = [
    b"\x40" + line_json.encode(frame)
    for frame in (
        line_json.Request("1", "d1", "read", {"a": 1}),
        line_json.Reply("1", "d1", result={"v": [1.5, None]}),
        line_json.Event("d1", "state", values={"bar": 2.5}),
    )
]
smp_invalid = partial(Harness, errors=(smp.SmpInvalid,))
HARNESSES = (
    smp_invalid("smp_message", smp_message, seeds=REPLIES),
    smp_invalid("smp_payload", smp_payload, seeds=[*CBOR, *(reply[8:] for reply in REPLIES)]),
    smp_invalid("smp_request", smp_request, seeds=REPLIES),
    smp_invalid("smp_certificates", certificates, seeds=[cbor2.dumps([b"der", b"der"])]),
    Harness("smp_serial", smp_serial, (), FRAMES),
    Harness("line_json", line_frames, (), LINES),
    Harness("mcuboot", image, (), [IMAGE, IMAGE[:100]], floor=2_000_000),
    Harness("modbus_rtu", modbus_rtu, (), [b"\x40\x01\x03\x02\x00\x05\x78\x47"], 600, MODBUS),
    Harness("modbus_tcp", modbus_tcp, (), [b"\x40\0\1\0\0\0\5\1\3\2\0\5"], 600, MODBUS),
    Harness("modbus_registers", modbus_registers, (), [b"\x7f\xc0\0\0\0\0\0\0", b"pump-7\0\0"]),
)
