"""What a step may touch while it is performed, and what it left: progress, log lines, a request."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pydantic import JsonValue

from contract.ids import THIS_GATEWAY
from contract.messages import ArtifactRef
from contract.messages import Call as CloudCall
from gateway.actions.base import Call, FetchedArtifact, Mailer, QueryAsker, StepOutcome, Texter
from gateway.domain.call_keys import call_key
from gateway.drivers.base import Answered, DeviceRequest, OnProgress, Refused, StopWord
from gateway.errors import StepInvalid
from gateway.runner.claims import Claims
from gateway.runner.devices import DeviceHandle
from gateway.transports.base import MessageLink
from gateway.transports.databases import Databases
from gateway.transports.web import Web, WebClient


class Artifacts(Protocol):
    """Where files come from: the cache."""

    async def fetch(
        self, ref: ArtifactRef, on_progress: OnProgress, holder: str
    ) -> FetchedArtifact:
        """The verified file, kept until `release(holder)`. Raises ArtifactUnavailable."""
        ...

    def release(self, holder: str) -> None: ...


async def _no_cloud(call: CloudCall) -> JsonValue:
    raise StepInvalid("this gateway has no way to ask the cloud", "cloud_unreachable")


@dataclass(frozen=True)
class Outside:
    """What a gateway's steps may reach beyond its devices."""

    ask_cloud: Callable[[CloudCall], Awaitable[JsonValue]] = _no_cloud
    messages: MessageLink | None = None
    web: WebClient = field(default_factory=Web)
    mail: Mailer | None = None
    sms: Texter | None = None
    databases: QueryAsker = field(default_factory=Databases)


@dataclass(frozen=True)
class Place:
    """Which attempt a step belongs to."""

    run: str
    task: str
    attempt: int


@dataclass
class StepReach:
    """One step's reach. `sent` turns true when a request may have reached the device.

    `kept` is what there is of a result while it is being made.
    """

    outside: Outside
    place: Place
    perform_inner: "Callable[[Call, StepReach], Awaitable[StepOutcome]]"
    device: DeviceHandle | None
    artifacts: Artifacts
    refs: Mapping[str, ArtifactRef]
    on_progress: Callable[[float, str], None]
    on_log: Callable[[str, str], None]
    clock_ms: Callable[[], int]
    holder: str
    claims: Claims = field(default_factory=Claims)
    devices: Mapping[str, DeviceHandle] = field(default_factory=dict)
    sent: bool = field(default=False)
    kept: JsonValue = None
    stop: StopWord = field(default_factory=StopWord)

    async def ask_device(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        if self.device is None:
            raise StepInvalid("the task's target is no device", "step_invalid")
        if self.device.device.id == THIS_GATEWAY:
            # Tasks about the gateway have no lane of it: it is theirs from the first exchange on.
            await self._claim([THIS_GATEWAY])
        return await self.device.ask(request, timeout_s, on_progress, self._mark_sent)

    async def claim(self, devices: Sequence[str]) -> None:
        unknown = sorted(set(devices) - set(self.devices))
        if unknown:
            text = f"this gateway has no device `{unknown[0]}`"
            if unknown[0] == THIS_GATEWAY:
                text = "this gateway cannot update itself: configure `this_gateway`"
            raise StepInvalid(text, "unknown_device")
        await self._claim(devices)

    async def _claim(self, devices: Sequence[str]) -> None:
        taken = [d for d in devices if not self.claims.is_free_for(d, self.holder)]
        if taken:
            self.on_progress(0, f"waits for {', '.join(taken[:5])}: another task has it")
        await self.claims.take(devices, self.holder)

    def member(self, device: str) -> "StepReach":
        # Percents are those of the whole step, which its action tells.
        return replace(self, device=self.devices[device], on_progress=lambda *_: None)

    async def fetch(self, artifact: str, on_progress: OnProgress) -> FetchedArtifact:
        ref = self.artifact_ref(artifact)
        if ref is None:
            known = ", ".join(sorted(self.refs)) or "none"
            raise StepInvalid(f"the job names no artifact `{artifact}` (it names: {known})")
        return await self.artifacts.fetch(ref, on_progress, self.holder)

    def artifact_ref(self, artifact: str) -> ArtifactRef | None:
        return self.refs.get(artifact)

    @property
    def web(self) -> WebClient:
        return self.outside.web

    @property
    def messages(self) -> MessageLink:
        if self.outside.messages is None:
            raise StepInvalid("this gateway has no local broker", "broker_unavailable")
        return self.outside.messages

    @property
    def mail(self) -> Mailer:
        if self.outside.mail is None:
            raise StepInvalid("this gateway has no mail server: configure `smtp`", "mail_failed")
        return self.outside.mail

    @property
    def sms(self) -> Texter:
        if self.outside.sms is None:
            raise StepInvalid("this gateway sends no text messages: configure `sms`", "sms_failed")
        return self.outside.sms

    @property
    def databases(self) -> QueryAsker:
        return self.outside.databases

    async def ask_cloud(self, call: Call) -> JsonValue:
        place, body = self.place, dict(call.parameters)
        return await self.outside.ask_cloud(
            CloudCall(
                key=call_key(place.run, place.task, call.step, call.item, body, call.key),
                task=place.task,
                attempt=place.attempt,
                step=call.step,
                verb=call.uses,
                body=body,
            )
        )

    async def perform(self, call: Call) -> StepOutcome:
        return await self.perform_inner(call, self)

    def keep(self, result: JsonValue) -> None:
        self.kept = result

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
