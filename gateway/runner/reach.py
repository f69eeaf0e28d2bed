"""What a step may touch while it is performed, and what it left: progress, log lines, a request."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from contract.messages import ArtifactRef
from gateway.actions.base import FetchedArtifact
from gateway.drivers.base import Answered, DeviceRequest, OnProgress, Refused
from gateway.errors import StepInvalid
from gateway.runner.devices import DeviceHandle


class Artifacts(Protocol):
    """Where files come from: the cache."""

    async def fetch(
        self, ref: ArtifactRef, on_progress: OnProgress, holder: str
    ) -> FetchedArtifact:
        """The verified file, kept until `release(holder)`. Raises ArtifactUnavailable."""
        ...

    def release(self, holder: str) -> None: ...


@dataclass
class StepReach:
    """One step's reach. `sent` turns true when a request may have reached the device."""

    device: DeviceHandle | None
    artifacts: Artifacts
    refs: Mapping[str, ArtifactRef]
    on_progress: Callable[[float, str], None]
    on_log: Callable[[str, str], None]
    clock_ms: Callable[[], int]
    holder: str
    sent: bool = field(default=False)

    async def ask_device(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        if self.device is None:
            raise StepInvalid("the task's target is no device", "step_invalid")
        return await self.device.ask(request, timeout_s, on_progress, self._mark_sent)

    async def fetch(self, artifact: str, on_progress: OnProgress) -> FetchedArtifact:
        ref = self.artifact_ref(artifact)
        if ref is None:
            known = ", ".join(sorted(self.refs)) or "none"
            raise StepInvalid(f"the job names no artifact `{artifact}` (it names: {known})")
        return await self.artifacts.fetch(ref, on_progress, self.holder)

    def artifact_ref(self, artifact: str) -> ArtifactRef | None:
        return self.refs.get(artifact)

    def progress(self, percent: float, note: str) -> None:
        self.on_progress(percent, note)

    def log(self, level: str, text: str) -> None:
        self.on_log(level, text)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now_ms(self) -> int:
        return self.clock_ms()

    def _mark_sent(self) -> None:
        self.sent = True
