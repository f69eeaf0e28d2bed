"""The MQTT driver with a shipped profile opposite a simulated device of its family, in one loop."""

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
from pydantic import JsonValue

from contract.documents import load
from firmware_sim.device import Device, Identity
from firmware_sim.endpoints.connections import Connections
from firmware_sim.endpoints.mqtt import MqttEndpoint
from firmware_sim.families import FAMILIES
from firmware_sim.faults import Faults
from firmware_sim.gadget import GadgetSettings
from firmware_sim.recording import NO_TAP, Tap
from gateway.artifacts.serve import ArtifactServer
from gateway.domain.profiles import Profile
from gateway.drivers.base import ReadFirmware, UploadFirmware
from gateway.drivers.mqtt import MqttDriver
from gateway.transports.mqtt import MqttTransport
from tests.kit.brokers import Broker
from tests.kit.device_rigs import Rig, image, make_device, running, upload_of
from tests.kit.processes import REPOSITORY
from tests.kit.waiting import wait_until_async

SILENT = ("losant", "thingsboard")  # they have no presence


def shipped_profile(name: str, **shorter: str) -> Profile:
    """A profile of the repository; `shorter` replaces durations, such as `timeout="400ms"`."""
    path = REPOSITORY / "configs" / "profiles" / f"{name}.yaml"
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        key = line.strip().partition(":")[0]
        if key in shorter:
            lines[number] = line.partition(":")[0] + f": {shorter[key]}"
    return load("\n".join(lines), Profile, path.name)


def family_upload(family: str, upload: UploadFirmware) -> UploadFirmware:
    """As a step asks for it: the file says nothing, the version is given with it."""
    version = "33554432" if family == "zigbee2mqtt" else upload.version
    return UploadFirmware(upload.path, upload.sha256, upload.size, "", version, upload.url)


@contextlib.asynccontextmanager
async def broker_link(broker: Broker, name: str) -> AsyncIterator[MqttTransport]:
    """A connection to the broker, as the gateway has it."""
    link = MqttTransport("127.0.0.1", broker.port, name, chance=random.random)
    async with running(link.run):
        await wait_until_async(lambda: link.is_connected, message="the broker")
        yield link


def family_driver(
    profile: Profile, link: MqttTransport, logs: list[str], variables: dict[str, JsonValue]
) -> MqttDriver:
    numbers = iter(range(1, 1_000_000))
    return MqttDriver("pump-1", profile, variables, link, logs.append, lambda: f"r{next(numbers)}")


@contextlib.asynccontextmanager
async def family_rig(
    family: str,
    folder: Path,
    broker: Broker,
    faults: Faults | None = None,
    profile: Profile | None = None,
    tap: Tap = NO_TAP,
    **variables: Any,
) -> AsyncIterator[Rig]:
    device: Device = make_device(faults or Faults())
    device.identity = Identity("pump-1", family)
    new = image("2.0.0")
    personality = FAMILIES[family](device, GadgetSettings(flash_s=0.1, offered=new))
    upload = upload_of(new, folder)
    logs: list[str] = []
    serve: Callable[[str], Path | None] = lambda sha256: upload.path  # noqa: E731
    async with (
        ArtifactServer(serve) as server,
        httpx.AsyncClient(trust_env=False) as http,
        broker_link(broker, "gateway-1") as link,
    ):
        chosen = profile or shipped_profile(family)
        driver = family_driver(chosen, link, logs, variables)
        try:
            await driver.talk.open()
            endpoint = MqttEndpoint(personality, broker.url, http, Connections(), tap)
            async with running(endpoint.run):
                upload = upload_of(new, folder, server.url_for(upload.sha256))
                rig = Rig(driver, device, new, family_upload(family, upload), logs)
                if family in SILENT:
                    await rig.ask(ReadFirmware())  # said when it connects
                else:
                    await wait_until_async(lambda: driver.talk.online, message="the device")
                yield rig
        finally:
            await driver.close()
