"""How many commands a second go through each driver to one device, one after the other?

The driver runs here, the simulated device in its own process, with no turnaround of its own. The
reference is a raw loop of frames of the same sizes over the same kind of pty or socket between two
processes (through the broker, for MQTT), with nothing encoded, checked or awaited.
"""

import asyncio
import contextlib
import json
import os
import random
import secrets
import socket
import tempfile
import time
import tty
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.answers import Figure
from benchmarks.tasks_end_to_end import round_trips_a_second
from gateway.drivers import line_json, modbus, mqtt, smp
from gateway.drivers.base import Answered, Command, DeviceRequest, Driver, ReadPoints, Surroundings
from gateway.errors import GatewayError
from gateway.runner.buses import Buses
from gateway.transports.mqtt import MqttTransport
from tests.kit.brokers import Nats
from tests.kit.device_rigs import demo_profile
from tests.kit.modbus_rigs import demo_profile as drive_profile
from tests.kit.ports import free_port
from tests.kit.processes import Programs, programs_in
from tests.kit.rig_site import DRIVE
from tests.kit.waiting import wait_until_async

COMMANDS: Final = 2_000
WARM_UP: Final = 50
SIZED: Final = 20
ECHO: Final = Command("echo", {"text": "0123456789abcdef"})


@dataclass(frozen=True)
class Case:
    """One driver: its module, how its device is played and configured, and what is asked."""

    name: str
    kind: Any
    group: dict[str, Any]
    options: Callable[[Path], dict[str, Any]]
    request: DeviceRequest
    is_tcp: bool = False


def ask(rounds: int = 3) -> list[Figure]:
    figures = []
    tcp_port = free_port()
    drive = {"profile": "roundsman_demo_drive", "unit": 1}
    registers = {"registers": DRIVE}
    cases = [
        Case("line_json", line_json, {"line": "line"},
             lambda lines: {"port": str(lines / "line"), "address": "device"}, ECHO),
        Case("modbus", modbus, {"line": "line", **registers},
             lambda lines: {"port": str(lines / "line"), "parity": "N", **drive},
             ReadPoints(("speed",))),
        Case("modbus, TCP", modbus, {"listen": f"127.0.0.1:{tcp_port}", **registers},
             lambda _: {"host": "127.0.0.1", "tcp_port": tcp_port, **drive},
             ReadPoints(("speed",)), is_tcp=True),
        Case("smp", smp, {}, lambda lines: {"port": str(lines / "device")}, ECHO),
        Case("mqtt", mqtt, {}, lambda _: {"profile": "roundsman_demo"}, ECHO),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases):
            place = Path(folder) / str(number)
            ours, raw, what = [], [], "the same bytes, raw"
            for turn in range(rounds):
                here = place / str(turn)
                here.mkdir(parents=True)
                with programs_in(here) as programs:
                    rate, sizes = uvloop.run(_through_driver(here, programs, case))
                ours.append(rate)
                if sizes is None:
                    what = "bare round trips"
                    raw.append(round_trips_a_second(here / "raw", window=1, trips=COMMANDS))
                else:
                    raw.append(raw_exchanges_a_second(*sizes, case.is_tcp))
            figures.append(Figure(f"commands, {case.name}", "commands/s", ours, what, raw))
    return figures


async def _through_driver(
    folder: Path, programs: Programs, case: Case
) -> tuple[float, tuple[int, int] | None]:
    """Commands a second, and what one costs in bytes to and from the device (None: a broker)."""
    async with contextlib.AsyncExitStack() as stack:
        broker, link = None, None
        if case.kind is mqtt:
            broker = stack.enter_context(Nats(folder))
            link = MqttTransport("127.0.0.1", broker.port, "bench", chance=random.random)
            await stack.enter_async_context(_running(link))
        personality = "modbus" if case.kind is modbus else case.name
        group = {"personality": personality, "ids": ["device"], "turnaround": "0s", **case.group}
        scenario = folder / "device.json"
        scenario.write_text(json.dumps({"devices": [{"boot_time": "50ms", **group}]}))
        words: list[str | Path] = [scenario, "--dir", folder / "lines"]
        words += [] if broker is None else ["--broker", broker.url]
        record = folder / "record.jsonl"
        sizing = programs.python("firmware_sim", *words, "--record", record, name="sizing")
        sizing.wait_for_line("device ")
        sizes = None
        if broker is None:
            async with _driver(folder, case, link) as driver:
                await _repeat(driver, case.request, WARM_UP)
                before = _recorded(record)
                await _repeat(driver, case.request, SIZED)
                after = _recorded(record)
            sizes = tuple((b - a) // SIZED for a, b in zip(before, after, strict=True))
        sizing.terminate()
        device = programs.python("firmware_sim", *words, name="device")
        device.wait_for_line("device ")
        async with _driver(folder, case, link) as driver:
            await _repeat(driver, case.request, WARM_UP)
            began = time.perf_counter()
            await _repeat(driver, case.request, COMMANDS)
            seconds = time.perf_counter() - began
        return COMMANDS / seconds, None if sizes is None else (sizes[0], sizes[1])


@contextlib.asynccontextmanager
async def _driver(folder: Path, case: Case, link: MqttTransport | None) -> AsyncIterator[Driver]:
    profiles = {"roundsman_demo": demo_profile(), "roundsman_demo_drive": drive_profile()}
    around = Surroundings(
        link, profiles, lambda: random.randrange(256), lambda: secrets.token_hex(6), Buses()
    )
    kind = case.kind.KIND
    options = kind.options(**case.options(folder / "lines"))
    driver: Driver = kind.make("device", options, around, lambda text: None)
    async with asyncio.timeout(30):
        while not await _is_open(driver):  # noqa: ASYNC110 (only trying tells)
            await asyncio.sleep(0.1)
    try:
        yield driver
    finally:
        await driver.close()


async def _is_open(driver: Driver) -> bool:
    try:
        await driver.open()
    except GatewayError:  # it boots
        await driver.close()
        return False
    return True


async def _repeat(driver: Driver, request: DeviceRequest, times: int) -> None:
    for _ in range(times):
        answer = await driver.perform(request, 10.0, lambda percent, note: None)
        assert isinstance(answer, Answered), answer


def _recorded(record: Path) -> list[int]:
    """Bytes to the device and from it, as far as the transcript goes."""
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    return [
        sum(len(line["bytes"]) // 2 for line in lines if line["direction"] == direction)
        for direction in ("to_device", "from_device")
    ]


def raw_exchanges_a_second(size: int, reply_size: int, is_tcp: bool = False) -> float:
    """So many bytes one way and so many back, again and again, between two processes."""
    if is_tcp:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        for each in (ours, theirs):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asking, answering = ours.detach(), theirs.detach()
    else:
        answering, asking = os.openpty()
        tty.setraw(answering)
        tty.setraw(asking)
    request, reply = b"q" * size, b"r" * reply_size
    child = os.fork()
    if child == 0:
        try:
            for _ in range(COMMANDS):
                _read(answering, size)
                os.write(answering, reply)
            _read(answering, 1)
        finally:
            os._exit(0)
    began = time.perf_counter()
    for _ in range(COMMANDS):
        os.write(asking, request)
        _read(asking, reply_size)
    seconds = time.perf_counter() - began
    os.write(asking, b".")
    os.waitpid(child, 0)
    os.close(asking)
    os.close(answering)
    return COMMANDS / seconds


def _read(source: int, size: int) -> None:
    while size > 0:
        size -= len(os.read(source, size))


@contextlib.asynccontextmanager
async def _running(link: MqttTransport) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(link.run())
    try:
        await wait_until_async(lambda: link.is_connected, 30, "the broker")
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
