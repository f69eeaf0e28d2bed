"""How much of a serial line does an SMP upload use, at 115200 and 921600 baud?

A simulated device in a process of its own behind a pty of that baud rate, with 384 bytes of
buffer (Zephyr's default) and with 2048. The reference is a bare blocking loop that sends the same
chunks and reads each reply. The last column is our rate over its: the aim is 0.95.
"""

import asyncio
import hashlib
import json
import os
import tempfile
import time
import tty
from pathlib import Path
from typing import Final

from benchmarks.answers import Figure
from contract.device import smp
from contract.device.mcuboot import parse_image
from firmware_sim.images import build_image
from gateway.drivers.base import Answered, UploadFirmware
from gateway.drivers.smp import SmpDriver, SmpOptions
from gateway.transports.serial_port import SerialPort
from tests.kit.processes import Programs
from tests.kit.waiting import wait_until

# Bytes of image by baud rate: some seconds each.
LINES: Final = {115_200: 24_000, 921_600: 160_000}
BUFFERS: Final = (384, 2048)
ROUNDS: Final = 2


def ask(rounds: int = ROUNDS) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as name:
        programs = Programs(Path(name))
        try:
            for baud, size in LINES.items():
                for buf_size in BUFFERS:
                    figures.append(_measured(programs, Path(name), baud, size, buf_size, rounds))
        finally:
            programs.close()
    return figures


def _measured(
    programs: Programs, folder: Path, baud: int, size: int, buf_size: int, rounds: int
) -> Figure:
    """KiB of image a second: ours, and the bare loop's on a device of the same kind."""
    kind = f"{baud}-{buf_size}"
    ids = [f"{who}-{kind}-{n}" for who in ("ours", "bare") for n in range(rounds)]
    group = {
        "personality": "smp",
        "ids": ids,
        "baud": baud,
        "buf_size": buf_size,
        "image_size": 8192,
        "boot_time": "1ms",
        "turnaround": "0s",
        "erase_time": "0s",
    }
    lines, scenario = folder / kind, folder / f"{kind}.json"
    scenario.write_text(json.dumps({"devices": [group]}))
    programs.python("firmware_sim", scenario, "--dir", lines, name=kind)
    wait_until(lambda: all((lines / each).exists() for each in ids), 30, "the lines")
    image = folder / f"{kind}.bin"
    image.write_bytes(build_image("2.0.0", size))
    request = _request(image)
    ours, bare = [], []
    for n in range(rounds):  # in turn, so that a busy moment meets both
        ours.append(_rate(image, asyncio.run(_upload(lines / f"ours-{kind}-{n}", baud, request))))
        bare.append(_rate(image, _bare_loop(lines / f"bare-{kind}-{n}", buf_size, image)))
    return Figure(f"{baud} baud, {buf_size} bytes of buffer", "KiB/s", ours, "bare loop", bare)


def _rate(image: Path, took_s: float) -> float:
    return image.stat().st_size / 1024 / took_s


def _request(image: Path) -> UploadFirmware:
    data = image.read_bytes()
    found = parse_image(data)
    return UploadFirmware(
        image,
        hashlib.sha256(data).hexdigest(),
        len(data),
        found.hash.hex(),
        found.version,
        "",
    )


async def _upload(line: Path, baud: int, request: UploadFirmware) -> float:
    options = SmpOptions(port=str(line), baud=baud)
    driver = SmpDriver(SerialPort(str(line), baud), options, lambda text: None)
    try:
        await driver.open()
        began = time.perf_counter()
        answer = await driver.perform(request, 600, lambda percent, note: None)
        took_s = time.perf_counter() - began
        assert isinstance(answer, Answered), answer
    finally:
        await driver.close()
    return took_s


def _bare_loop(line: Path, buf_size: int, image: Path) -> float:
    """The same chunks with nothing around them: write a frame, read until its reply is whole."""
    data = image.read_bytes()
    sha256 = hashlib.sha256(data).digest()
    port = os.open(line, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(port)
        reader = smp.FrameReader()
        offset, sequence = 0, 0
        began = time.perf_counter()
        while offset < len(data):
            first = offset == 0
            size = smp.TWO_LINES_BUF_SIZE if first else buf_size
            empty = _chunk(data, sha256, offset, 0)
            request = _chunk(data, sha256, offset, smp.max_chunk(size, empty))
            for piece in smp.encode_frame(request.encode(sequence)):
                _write(port, piece)
            offset = smp.upload_progress(_reply(port, reader).payload).offset
            sequence = (sequence + 1) % 256
        return time.perf_counter() - began
    finally:
        os.close(port)


def _chunk(data: bytes, sha256: bytes, offset: int, room: int) -> smp.Request:
    piece = data[offset : offset + room]
    if offset:
        return smp.upload_next(offset, piece)
    return smp.upload_first(len(data), sha256, piece)


def _write(port: int, data: bytes) -> None:
    while data:
        data = data[os.write(port, data) :]


def _reply(port: int, reader: smp.FrameReader) -> smp.Response:
    while True:
        for found in reader.feed(os.read(port, 4096)):
            if isinstance(found, smp.SmpFrame):
                return smp.decode_response(found.message)
