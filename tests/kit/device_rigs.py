"""A gateway driver opposite a simulated device, on a real pty or a real broker, in one loop."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from contract.device.mcuboot import parse_image
from contract.documents import load
from firmware_sim import flash
from firmware_sim.device import Device, Identity
from firmware_sim.endpoints.connections import Connections
from firmware_sim.endpoints.mqtt import MqttEndpoint
from firmware_sim.endpoints.pty import PtyEndpoint
from firmware_sim.faults import Faults
from firmware_sim.images import build_image
from firmware_sim.personalities.mqtt import MqttPersonality, MqttSettings
from firmware_sim.personalities.smp import SmpPersonality, SmpSettings
from gateway.artifacts.serve import ArtifactServer
from gateway.domain.profiles import Profile
from gateway.drivers.base import DeviceRequest, UploadFirmware
from gateway.drivers.mqtt import MqttDriver
from gateway.drivers.smp import SmpDriver, SmpOptions
from gateway.runner.buses import Buses
from gateway.transports.mqtt import MqttTransport
from gateway.transports.serial_port import SerialPort
from tests.kit.brokers import Broker
from tests.kit.processes import REPOSITORY
from tests.kit.waiting import wait_until_async

QUICK: dict[str, Any] = {"reply_wait_s": 0.25, "erase_wait_s": 5.0, "no_progress_s": 8.0}


@lru_cache
def image(version: str, size: int = 20_000) -> bytes:
    return build_image(version, size)


@dataclass
class Rig:
    """A driver and the device it talks with; `upload` is the request for the image `new`."""

    driver: Any  # the test knows which one
    device: Device
    new: bytes
    upload: UploadFirmware
    logs: list[str] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    buses: Buses = field(default_factory=Buses)

    async def ask(self, request: DeviceRequest, timeout_s: float = 30.0) -> Any:
        """Answered or Refused, as the driver says."""
        return await self.driver.perform(
            request, timeout_s, lambda percent, note: self.progress.append(percent)
        )

    @property
    def holds_new(self) -> bool:
        held = self.device.flash
        return any(s is not None and s.data == self.new for s in (held.running, held.other))


@contextlib.asynccontextmanager
async def running(work: Callable[[], Any]) -> AsyncIterator[None]:
    """Keep a loop going while the block lasts; its own failure fails the test."""
    task = asyncio.get_running_loop().create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def make_device(faults: Faults, old: str = "1.0.0", slot_size: int = 100_000) -> Device:
    fresh = flash.fresh(image(old), slot_size)
    return Device(Identity("pump-1", "pump"), fresh, faults, boot_time_s=0.15)


def upload_of(data: bytes, folder: Path, url: str = "") -> UploadFirmware:
    path = folder / "new.bin"
    path.write_bytes(data)
    parsed = parse_image(data)
    digest = hashlib.sha256(data).hexdigest()
    return UploadFirmware(path, digest, len(data), parsed.hash.hex(), parsed.version, url)


@contextlib.asynccontextmanager
async def smp_rig(
    folder: Path,
    faults: Faults | None = None,
    baud: int | None = None,
    settings: SmpSettings | None = None,
    device: Device | None = None,
    **options: Any,
) -> AsyncIterator[Rig]:
    device, line = device or make_device(faults or Faults()), folder / "pump-1"
    personality = SmpPersonality(device, settings or SmpSettings())
    endpoint = PtyEndpoint(personality, line, baud)
    chosen = SmpOptions(port=str(line), baud=baud or 115200, **{**QUICK, **options})
    logs: list[str] = []
    port = SerialPort(str(line), baud or 115200)
    buses = Buses()
    driver = SmpDriver(port, chosen, logs.append, first_sequence=250, turns=buses)
    async with running(endpoint.run):
        await wait_until_async(line.exists, message="the line")
        # What a device is told while it boots is lost; here only the planned faults count.
        await asyncio.sleep(device.boot_time_s)
        try:
            new = image("2.0.0")
            yield Rig(driver, device, new, upload_of(new, folder), logs, buses=buses)
        finally:
            await driver.close()


def demo_profile() -> Profile:
    """The shipped profile, with shorter waits."""
    text = (REPOSITORY / "configs/profiles/roundsman_demo.yaml").read_text()
    for wait in ("5s", "3s", "2s"):
        text = text.replace(f"timeout: {wait}", "timeout: 400ms")
    return load(text, Profile, "roundsman_demo.yaml")


@contextlib.asynccontextmanager
async def mqtt_rig(
    folder: Path, broker: Broker, faults: Faults | None = None, profile: Profile | None = None
) -> AsyncIterator[Rig]:
    device = make_device(faults or Faults())
    personality = MqttPersonality(device, MqttSettings(flash_s=0.1))
    new = image("2.0.0")
    upload = upload_of(new, folder)
    link = MqttTransport("127.0.0.1", broker.port, "gateway-1", chance=random.random)
    numbers = iter(range(1, 1_000_000))
    logs: list[str] = []
    driver = MqttDriver(
        "pump-1", profile or demo_profile(), {}, link, logs.append, lambda: f"r{next(numbers)}"
    )
    async with (
        ArtifactServer(lambda sha256: upload.path) as server,
        httpx.AsyncClient(trust_env=False) as http,
        running(MqttEndpoint(personality, broker.url, http, Connections()).run),
        running(link.run),
    ):
        try:
            upload = upload_of(new, folder, server.url_for(upload.sha256))
            await wait_until_async(lambda: link.is_connected, message="the broker")
            await driver.talk.open()
            await wait_until_async(lambda: driver.talk.online, message="the device")
            yield Rig(driver, device, new, upload, logs)
        finally:
            await driver.close()
