"""All devices of a scenario running side by side, and the status file that tells of them."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import httpx

from firmware_sim.device import Device, Experienced
from firmware_sim.endpoints.connections import Connections
from firmware_sim.endpoints.modbus_tcp import ModbusTcpEndpoint
from firmware_sim.endpoints.mqtt import Login, MqttEndpoint
from firmware_sim.endpoints.pty import PtyEndpoint
from firmware_sim.families import FAMILIES
from firmware_sim.messages import MessagePersonality
from firmware_sim.personalities.cloud_gateway import CloudGatewayPersonality
from firmware_sim.personalities.line_json import LineJsonPersonality
from firmware_sim.personalities.modbus import ModbusPersonality
from firmware_sim.personalities.mqtt import MqttPersonality
from firmware_sim.personalities.smp import SmpPersonality
from firmware_sim.recording import NO_TAP, Recording, Tap
from firmware_sim.scenario import (
    CloudGatewaySpec,
    GadgetSpec,
    LineSpec,
    ModbusSpec,
    MqttSpec,
    SmpSpec,
    Spec,
)

STATUS_EVERY_S: Final = 0.4
STATUS_RESTS: Final = 50


@dataclass(frozen=True, slots=True)
class Member:
    """One device with its endpoint, which others may share; `path` is where it is reached."""

    device: Device
    personality: str
    path: str
    endpoint: PtyEndpoint | MqttEndpoint | ModbusTcpEndpoint


class Fleet:
    """Runs every member until it is cancelled. Needs `http` open for as long as it runs.

    `connections` are those of the members on a broker.
    """

    def __init__(
        self,
        members: Sequence[Member],
        status_file: Path | None,
        announce: Callable[[Sequence[Member]], None],
        connections: Connections,
    ) -> None:
        self._connections = connections
        self.members = members
        self._status_file = status_file
        self._announce = announce

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as devices:
                endpoints = {id(m.endpoint): m for m in reversed(self.members)}
                for member in reversed(endpoints.values()):
                    name = f"device.{member.device.identity.id}"
                    devices.create_task(member.endpoint.run(), name=name)
                devices.create_task(self._tell_status(), name="fleet.status")
                devices.create_task(self._connections.run(), name="fleet.connections")
                await asyncio.sleep(0)  # each has taken its first step: the lines are plugged in
                self._announce(self.members)
        finally:
            self.write_status()

    async def _tell_status(self) -> None:
        """Seldom, where there is so much to write that it would keep the devices from talking."""
        while True:
            began_s = time.perf_counter()
            self.write_status()
            took_s = time.perf_counter() - began_s
            await asyncio.sleep(max(STATUS_EVERY_S, STATUS_RESTS * took_s))

    def write_status(self) -> None:
        """Write the status file whole or not at all: a reader never sees half of it."""
        if self._status_file is None:
            return
        devices = {
            member.device.identity.id: {
                "personality": member.personality,
                "path": member.path,
                **member.device.status(),
            }
            for member in self.members
        }
        partial = self._status_file.with_name(f"{self._status_file.name}.part")
        partial.write_text(json.dumps({"pid": os.getpid(), "devices": devices}), encoding="utf-8")
        os.replace(partial, self._status_file)


class Experiences:
    """A file with a JSON line for each thing that happened to a device; kill -9 takes none back.

    Each line is one write to a file opened for appending: whole, in order, also of several fleets.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._number = 0

    def of(self, device: str) -> Experienced:
        def experienced(what: str, about: dict[str, object]) -> None:
            self._number += 1
            line = {"number": self._number, "device": device, "what": what, **about}
            os.write(self._file, json.dumps(line).encode() + b"\n")

        return experienced


def assemble(
    specs: Sequence[Spec],
    pty_dir: Path,
    broker: str,
    http: httpx.AsyncClient,
    connections: Connections,
    experiences: Experiences | None = None,
    recording: Recording | None = None,
) -> list[Member]:
    """Give every device its personality and its endpoint; nothing is opened yet."""
    members = []

    def tap(name: str) -> Tap:
        return NO_TAP if recording is None else recording.of(name)

    def on_broker(
        spec: MqttSpec | GadgetSpec | CloudGatewaySpec,
        speaks: MessagePersonality,
        kind: str,
        topic: str,
        login: Login | None = None,
    ) -> Member:
        place = spec.broker or broker
        name = tap(spec.device.identity.id)
        endpoint = MqttEndpoint(speaks, place, http, connections, name, spec.qos, login)
        return Member(spec.device, kind, f"{_without_password(place)}/{topic}", endpoint)

    for spec in specs:
        for device in spec.devices:
            if experiences is not None:
                device.experienced = experiences.of(device.identity.id)
        match spec:
            case SmpSpec():
                link = pty_dir / spec.device.identity.id
                alone = SmpPersonality(spec.device, spec.settings)
                line = PtyEndpoint(alone, link, spec.baud, tap(spec.device.identity.id))
                members.append(Member(spec.device, "smp", str(link), line))
            case MqttSpec():
                mine = MqttPersonality(spec.device, spec.settings)
                members.append(on_broker(spec, mine, "mqtt", mine.topic("cmd")))
            case LineSpec():
                link = pty_dir / spec.line
                together = LineJsonPersonality(spec.devices, spec.faults, spec.settings)
                line = PtyEndpoint(together, link, spec.baud, tap(spec.line))
                members += [Member(d, "line_json", str(link), line) for d in spec.devices]
            case ModbusSpec():
                members += _modbus(spec, pty_dir / spec.line, tap(spec.line))
            case GadgetSpec():
                gadget = FAMILIES[spec.family](spec.device, spec.settings)
                members.append(on_broker(spec, gadget, spec.family, gadget.topics()[0]))
            case CloudGatewaySpec():
                gateway = CloudGatewayPersonality(spec.device, spec.settings, _wall_ms)
                topic = spec.settings.address.down_filter()
                login = Login(spec.settings.address.name, spec.settings.token)
                members.append(on_broker(spec, gateway, "gateways", topic, login))
            case _:
                assert_never(spec)
    return members


def _modbus(spec: ModbusSpec, link: Path, tap: Tap) -> list[Member]:
    units = ModbusPersonality(spec.units, spec.faults, spec.settings)
    if spec.listen is None:
        line = PtyEndpoint(units, link, spec.baud, tap)
        return [Member(device, "modbus", str(link), line) for device in spec.devices]
    host, _, port = spec.listen.rpartition(":")
    server = ModbusTcpEndpoint(units, host, int(port), tap)
    return [Member(device, "modbus", spec.listen, server) for device in spec.devices]


def _wall_ms() -> int:
    return max(time.time_ns() // 1_000_000, 0)


def _without_password(broker: str) -> str:
    scheme, _, rest = broker.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].rstrip('/')}"
