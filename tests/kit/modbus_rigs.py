"""Modbus drivers opposite simulated units on one real pty, or behind one TCP server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.documents import load
from firmware_sim import flash
from firmware_sim.device import Device, Identity
from firmware_sim.endpoints.modbus_tcp import ModbusTcpEndpoint
from firmware_sim.endpoints.pty import PtyEndpoint
from firmware_sim.faults import Faults
from firmware_sim.line import LineFaults
from firmware_sim.modbus_server import Registers
from firmware_sim.personalities.modbus import ModbusPersonality, ModbusSettings, Unit
from gateway.domain.modbus_profile import ModbusProfile
from gateway.drivers.base import DeviceRequest, Surroundings
from gateway.drivers.modbus import KIND, ModbusDriver, ModbusOptions
from gateway.runner.buses import Buses
from tests.kit.device_rigs import Rig, image, running, upload_of
from tests.kit.processes import REPOSITORY
from tests.kit.waiting import wait_until_async

QUICK: dict[str, Any] = {"reply_wait_s": 0.2, "tries": 8}
PROFILE = "roundsman_demo_drive"


def demo_profile() -> ModbusProfile:
    path = REPOSITORY / "configs" / "profiles" / f"{PROFILE}.yaml"
    return load(path.read_text(encoding="utf-8"), ModbusProfile, str(path))


def registers() -> Registers:
    """What a drive of the demo profile holds."""
    holding = {address: 0 for address in range(16)} | {16 + n: 0 for n in range(8)}
    holding |= {0: 1500, 1: 100, 2: 0, 3: 0, 900: 0}
    text = b"DRV-0042".ljust(16, b"\0")
    holding |= {16 + n: int.from_bytes(text[2 * n : 2 * n + 2], "big") for n in range(8)}
    inputs = {0: 0x0001, 1: 0x86A0, 2: 0x41AC, 3: 0x0000, 4: 215, 5: 0b101}
    return Registers(
        coils={0: 0, 1: 0, 2: 1},
        discrete={0: 1, 1: 0},
        holding=holding,
        input=inputs,
        exceptions={900: 4},
    )


@dataclass
class ModbusRig:
    """A line, its units by number, and a driver for each."""

    place: dict[str, Any]
    surroundings: Surroundings
    endpoint: PtyEndpoint | ModbusTcpEndpoint
    units: Mapping[int, Unit]
    drivers: dict[int, ModbusDriver] = field(default_factory=dict)

    async def ask(self, unit: int, request: DeviceRequest, timeout_s: float = 30.0) -> Any:
        """Answered or Refused."""
        return await self.drivers[unit].perform(request, timeout_s, lambda percent, note: None)

    def made(self, unit: int, **options: Any) -> ModbusDriver:
        """A driver for a unit, as the gateway makes it."""
        chosen = ModbusOptions(
            **{"profile": PROFILE, "unit": unit, **self.place, **QUICK, **options}
        )
        driver = KIND.make(f"drive-{unit}", chosen, self.surroundings, lambda text: None)
        assert isinstance(driver, ModbusDriver)
        self.drivers[unit] = driver
        return driver


@contextlib.asynccontextmanager
async def modbus_rig(
    folder: Path,
    *numbers: int,
    line_faults: LineFaults | None = None,
    faults: Mapping[int, Faults] | None = None,
    baud: int | None = None,
    is_tcp: bool = False,
    profile: ModbusProfile | None = None,
    **options: Any,
) -> AsyncIterator[ModbusRig]:
    units = {n: Unit(make_device(n, (faults or {}).get(n)), registers()) for n in numbers}
    personality = ModbusPersonality(units, line_faults or LineFaults(), ModbusSettings())
    buses = Buses()
    around = Surroundings(
        messages=None,
        profiles={PROFILE: profile or demo_profile()},
        new_number=lambda: 7,
        new_id=lambda: "id",
        turns=buses,
    )
    path = folder / "rs485"
    if is_tcp:
        server = ModbusTcpEndpoint(personality, "127.0.0.1", 0)
        async with running(server.run):
            await asyncio.wait_for(server.is_listening.wait(), 30)
            place = {"host": "127.0.0.1", "tcp_port": server.port}
            async with _drivers(ModbusRig(place, around, server, units), options) as rig:
                yield rig
        return
    line = PtyEndpoint(personality, path, baud)
    async with running(line.run):
        await wait_until_async(path.exists, message="the line")
        # The kernel refuses parity on a pty.
        place = {"port": str(path), "baud": baud or 115200, "parity": "N"}
        async with _drivers(ModbusRig(place, around, line, units), options) as rig:
            yield rig


@contextlib.asynccontextmanager
async def _drivers(rig: ModbusRig, options: Mapping[str, Any]) -> AsyncIterator[ModbusRig]:
    for unit in rig.units:
        rig.made(unit, **options)
    await asyncio.sleep(0.05)  # the devices boot
    try:
        yield rig
    finally:
        for driver in rig.drivers.values():
            await driver.close()


def make_device(unit: int, faults: Faults | None = None) -> Device:
    fresh = flash.fresh(image("1.0.0"), 100_000)
    return Device(Identity(f"drive-{unit}", "drive"), fresh, faults or Faults(), boot_time_s=0.02)


@contextlib.asynccontextmanager
async def one_modbus_rig(folder: Path, faults: Faults | None = None) -> AsyncIterator[Rig]:
    """One Modbus device, in the shape of the other drivers' rigs."""
    new = image("2.0.0")
    async with modbus_rig(folder, 1, faults={1: faults or Faults()}) as rig:
        yield Rig(rig.drivers[1], rig.units[1].device, new, upload_of(new, folder))
