"""Line-JSON drivers opposite simulated devices that share one real pty, in one loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware_sim import flash
from firmware_sim.device import Device, Identity
from firmware_sim.endpoints.pty import PtyEndpoint
from firmware_sim.faults import Faults
from firmware_sim.line import LineFaults
from firmware_sim.personalities.line_json import LineJsonPersonality, LineJsonSettings
from gateway.drivers.base import Answered, DeviceRequest, Refused
from gateway.drivers.line_json import LineJsonDriver, LineJsonOptions
from gateway.runner.buses import Buses
from gateway.transports.line_json_link import LineJsonLine
from gateway.transports.serial_port import SerialPort
from tests.kit.device_rigs import Rig, image, running, upload_of
from tests.kit.waiting import wait_until_async

QUICK: dict[str, Any] = {"reply_wait_s": 0.15, "tries": 40}


@dataclass
class LineRig:
    """A line, its devices by address, and a driver for each."""

    path: Path
    buses: Buses
    line: LineJsonLine
    personality: LineJsonPersonality
    devices: dict[str, Device]
    drivers: dict[str, LineJsonDriver]
    logs: dict[str, list[str]] = field(default_factory=dict)

    async def ask(
        self, address: str, request: DeviceRequest, timeout_s: float = 30.0
    ) -> Answered | Refused:
        return await self.drivers[address].perform(request, timeout_s, lambda percent, note: None)

    def made(self, address: str, **options: Any) -> LineJsonDriver:
        """Another driver for an address of the line, as after a lost link."""
        chosen = LineJsonOptions(port=str(self.path), address=address, **{**QUICK, **options})
        said = self.logs.setdefault(address, [])
        return LineJsonDriver(address, chosen, self.line, said.append)


@contextlib.asynccontextmanager
async def line_rig(
    folder: Path,
    *names: str,
    line_faults: LineFaults | None = None,
    faults: dict[str, Faults] | None = None,
    baud: int | None = None,
    **options: Any,
) -> AsyncIterator[LineRig]:
    path = folder / "line"
    devices = {name: make_device(name, (faults or {}).get(name)) for name in names}
    personality = LineJsonPersonality(
        list(devices.values()), line_faults or LineFaults(), LineJsonSettings()
    )
    endpoint = PtyEndpoint(personality, path, baud)
    buses, bus = Buses(), f"serial:{path}"
    port = SerialPort(str(path), baud or 115200)
    line = LineJsonLine(bus, port, buses, "t1", (baud or 115200) / 10)
    rig = LineRig(path, buses, line, personality, devices, {})
    rig.drivers = {name: rig.made(name, **options) for name in names}
    async with running(endpoint.run):
        await wait_until_async(path.exists, message="the line")
        await asyncio.sleep(0.05)  # the devices boot
        try:
            yield rig
        finally:
            for driver in rig.drivers.values():
                await driver.close()


def make_device(name: str, faults: Faults | None = None) -> Device:
    fresh = flash.fresh(image("1.0.0"), 100_000)
    return Device(Identity(name, "valve"), fresh, faults or Faults(), boot_time_s=0.03)


@contextlib.asynccontextmanager
async def line_json_rig(folder: Path, faults: Faults | None = None) -> AsyncIterator[Rig]:
    """One line-JSON device, in the shape of the other drivers' rigs."""
    new = image("2.0.0")
    async with line_rig(folder, "pump-1", faults={"pump-1": faults or Faults()}, tries=8) as rig:
        driver, device = rig.drivers["pump-1"], rig.devices["pump-1"]
        logs = rig.logs["pump-1"]
        yield Rig(driver, device, new, upload_of(new, folder), logs)
