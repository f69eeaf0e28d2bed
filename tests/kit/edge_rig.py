"""A whole gateway in one loop: real link, runner and journal; fake cloud, devices and steps."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.ids import GatewayId, OrgId
from contract.steps import AfterRestart
from contract.topics import Address
from gateway.actions.base import (
    Action,
    Call,
    FetchedArtifact,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
    StepUnanswered,
)
from gateway.app import Chance, Gateway
from gateway.domain.facts import Instant
from gateway.drivers.base import Answered, Command, DeviceFacts, DeviceRequest, OnDeviceLog
from gateway.errors import ArtifactUnavailable, DeviceUnreachable, PortUnavailable
from gateway.journal import meta
from gateway.journal.database import open_database
from gateway.runner.devices import Device
from tests.kit.fake_cloud import FakeCloud

EPOCH = 1_760_000_000_000


@dataclass
class FakeDevice:
    """What a device lived through. `silent`, `unplugged` and `slow_s` are how it behaves."""

    id: str
    commands: list[str] = field(default_factory=list)
    silent: bool = False
    unplugged: bool = False
    slow_s: float = 0.1
    opened: int = 0

    @property
    def is_away(self) -> bool:
        return False

    async def open(self) -> DeviceFacts:
        await asyncio.sleep(0.01)
        if self.unplugged:
            raise PortUnavailable("no such port")
        if self.silent:
            raise DeviceUnreachable(f"{self.id} is silent")
        self.opened += 1
        return DeviceFacts({"version": "1.0.0"})

    async def perform(self, request: DeviceRequest, timeout_s: float, on_progress: Any) -> Answered:
        if self.silent:
            raise DeviceUnreachable(f"{self.id} is silent")
        assert isinstance(request, Command)
        self.commands.append(str(request.parameters.get("key", request.name)))
        await asyncio.sleep(self.slow_s)
        if self.silent:
            raise DeviceUnreachable(f"{self.id} fell silent")
        on_progress(50, "half")
        return Answered({"name": request.name})

    async def close(self) -> None:
        pass


class CommandOnce:
    """A command that must not happen twice: begun before, it asks what the device has seen."""

    after_restart = AfterRestart.ASK

    def __init__(self, devices: dict[str, FakeDevice]) -> None:
        self._devices = devices

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        task: Any = call.scope["task"]
        device: Any = call.scope["device"]
        steps: Any = call.scope["steps"]
        tries = steps[call.step]["tries"]
        key = f"{task['id']}/{task['attempt']}/{call.step}/{tries}"
        if call.resumed and key in self._devices[device["id"]].commands:
            return StepUnanswered("interrupted", "it had reached the device")
        name = str(call.parameters.get("name", ""))
        if name == "refuse":
            return StepRefused("device_refused", "no")
        if name == "crash":
            raise LookupError("a mistake of ours")
        answer = await reach.ask_device(Command(name, {"key": key}), call.timeout_s, reach.progress)
        assert isinstance(answer, Answered)
        return StepDone(answer.result)


class Delay:
    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        await reach.sleep(float(str(call.parameters["for"])))
        return StepDone()


class NoArtifacts:
    async def fetch(self, ref: Any, on_progress: Any, holder: str) -> FetchedArtifact:
        raise ArtifactUnavailable("there are none here")

    def release(self, holder: str) -> None:
        pass


class EdgeRig:
    """`async with rig.running(): ...` is one life of the process; leaving it is `kill -9`."""

    def __init__(self, folder: Path, cloud: FakeCloud, devices: int, seed: int) -> None:
        self.cloud = cloud
        self.devices = {f"d{n}": FakeDevice(f"d{n}") for n in range(devices)}
        self.actions: dict[str, Action] = {
            "device.command": CommandOnce(self.devices),
            "flow.delay": Delay(),
        }
        self.gateway: Gateway | None = None
        self.sleepy = False
        self._folder = folder
        self._chance = random.Random(seed)
        self._words = 0

    def _word(self) -> str:
        self._words += 1
        return f"word-{self._words}"

    def _clock(self) -> Instant:
        ms = round(asyncio.get_running_loop().time() * 1000)
        return Instant(EPOCH + ms, ms)

    def _device(self, fake: FakeDevice) -> Device:
        make: Callable[[OnDeviceLog], FakeDevice] = lambda _: fake  # noqa: E731
        return Device(fake.id, make, type="pump", patience_ms=None if self.sleepy else 30_000)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        journal = open_database(self._folder, inline=True)
        try:
            identity = journal.run_now(meta.begin, self._word())
            gateway = self.gateway = Gateway(
                Address(OrgId("default"), GatewayId("north")),
                journal,
                identity,
                [self._device(fake) for fake in self.devices.values()],
                self.actions,
                NoArtifacts(),
                lambda state: self.cloud,
                Chance(self._clock, self._chance.random, self._word),
            )
            async with asyncio.TaskGroup() as loops:
                running = [
                    loops.create_task(gateway.link.run()),
                    loops.create_task(gateway.supervisor.run()),
                    loops.create_task(gateway.tidy()),
                    loops.create_task(self.cloud.run()),
                ]
                yield gateway
                for task in running:
                    task.cancel()
        finally:
            journal.close()

    def commands_twice(self) -> list[str]:
        """Commands of one try that reached a device more than once."""
        counts = Counter(c for device in self.devices.values() for c in device.commands)
        return [command for command, count in counts.items() if count > 1]
