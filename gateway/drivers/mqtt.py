"""MQTT devices of any family that a profile describes: topics and payloads are templates.

The driver knows only four patterns: ask and await the matching reply, watch an update that the
device does by itself, believe its presence, and read its version back.
"""

import asyncio
from collections.abc import Callable
from typing import Final, assert_never

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contract.template_dialect import TemplateError, evaluate
from gateway.domain import profiles
from gateway.domain.profiles import (
    Accepted,
    Declined,
    Exchange,
    Firmware,
    News,
    Profile,
)
from gateway.drivers.base import (
    Answered,
    CertificateRequest,
    CertificateState,
    Command,
    CommitCertificate,
    ConfirmFirmware,
    DeviceFacts,
    DeviceRequest,
    DriverKind,
    FirmwareImage,
    FirmwareState,
    InstallCertificate,
    MakeCsr,
    OnDeviceLog,
    OnProgress,
    Probe,
    ReadCertificate,
    ReadFirmware,
    ReadPoints,
    Refused,
    Reset,
    RollbackFirmware,
    Surroundings,
    TestCertificate,
    TestFirmware,
    UploadFirmware,
    WritePoints,
)
from gateway.errors import DeviceUnreachable, ReplyGarbled, SettingsInvalid, StepInvalid
from gateway.transports.base import MessageLink
from gateway.transports.mqtt_conversation import ANSWER_WITHIN_S, Conversation, Watching

LOOK_EVERY_S: Final = 5.0

Scope = dict[str, JsonValue]


class MqttOptions(BaseModel):
    """How one MQTT device is spoken to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = Field(description="name of a profile")
    vars: dict[str, JsonValue] = Field(
        default_factory=dict, description="values for the profile's vars, such as a topic"
    )


class MqttDriver:
    """One device on a broker. `new_id` gives a fresh word for each request."""

    def __init__(
        self,
        device: str,
        profile: Profile,
        variables: dict[str, JsonValue],
        link: MessageLink,
        on_log: OnDeviceLog,
        new_id: Callable[[], str],
    ) -> None:
        self.talk = Conversation(device, profile, variables, link, on_log, new_id)
        self._profile = profile

    @property
    def is_away(self) -> bool:
        return self.talk.online is False

    async def open(self) -> DeviceFacts:
        await self.talk.open()
        firmware = self._profile.firmware
        if firmware is None:
            return DeviceFacts()
        state = await self.read_firmware(firmware, _now_s() + ANSWER_WITHIN_S)
        if isinstance(state, Refused) or state.active is None:
            return DeviceFacts()
        return DeviceFacts(_about(state.active))

    async def close(self) -> None:
        self.talk.close()

    async def perform(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        until_s = _now_s() + timeout_s
        try:
            await self.talk.open()
            return await self._perform(request, until_s, on_progress)
        except TemplateError as error:
            name = self._profile.name
            raise StepInvalid(f"profile {name}: {error}", "template_failed") from error

    async def _perform(
        self, request: DeviceRequest, until_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        match request:
            case Command():
                return await self._command(request, until_s)
            case Probe():
                return await self._probe(until_s)
            case Reset():
                return await self._reset(until_s)
            case ReadPoints() | WritePoints():
                raise self._unsupported("points")
            case (
                ReadCertificate()
                | MakeCsr()
                | InstallCertificate()
                | TestCertificate()
                | CommitCertificate()
            ):
                return await self._certificate(request, until_s)
        firmware = self._profile.firmware
        if firmware is None:
            raise self._unsupported("firmware")
        match request:
            case ReadFirmware():
                state = await self.read_firmware(firmware, until_s)
                return state if isinstance(state, Refused) else Answered(_listed(state), state)
            case UploadFirmware():
                return await _Update(self, firmware, request, until_s, on_progress).run()
            case TestFirmware():
                scope: Scope = {"firmware": {"hash": request.image_hash}}
                return await self._ask_if_there(firmware.test, "test", until_s, scope)
            case ConfirmFirmware():
                return await self._ask_if_there(firmware.confirm, "confirm", until_s, {})
            case RollbackFirmware():
                if firmware.rollback is None:
                    raise self._unsupported("firmware.rollback")
                done = await self.ask(firmware.rollback, "rollback", until_s)
                if isinstance(done, Refused):
                    return done
                return Answered({"reset_needed": not firmware.rollback_resets})
        assert_never(request)

    async def _command(self, command: Command, until_s: float) -> Answered | Refused:
        exchange = self._profile.command(command.name)
        if exchange is None:
            known = ", ".join(sorted(self._profile.commands)) or "none"
            text = f"profile {self._profile.name} has no command `{command.name}` (known: {known})"
            raise StepInvalid(text, "verb_unsupported")
        if command.resumed and not exchange.repeatable:
            raise ReplyGarbled(f"`{command.name}` was sent before, and must not be sent twice")
        return await self.ask(
            exchange, command.name, until_s, {"parameters": dict(command.parameters)}
        )

    async def _probe(self, until_s: float) -> Answered | Refused:
        if self.talk.online is False:
            raise DeviceUnreachable("the device is offline by its own word")
        if self._profile.probe is not None:
            return await self.ask(self._profile.probe, "probe", until_s)
        if self.talk.online is None and self._profile.presence is not None:
            raise DeviceUnreachable("the device has not been heard of")
        return Answered()

    async def _reset(self, until_s: float) -> Answered | Refused:
        """Restart, and wait until the device is gone: what answers after that is the new boot."""
        verb = self._profile.reset
        if verb is None:
            raise self._unsupported("device.reset")
        outcome = await self.ask(verb.ask, "reset", until_s)
        if isinstance(outcome, Answered) and self._profile.presence is not None:
            down_s = min(until_s, _now_s() + verb.down_within.total_seconds())
            await self.talk.wait_for_presence(lambda: self.talk.online is False, down_s)
        return outcome

    async def _ask_if_there(
        self, exchange: Exchange | None, name: str, until_s: float, scope: Scope
    ) -> Answered | Refused:
        if exchange is None:
            return Answered()
        return await self.ask(exchange, name, until_s, scope)

    async def read_firmware(self, firmware: Firmware, until_s: float) -> FirmwareState | Refused:
        read = firmware.read
        answer = await self.ask(read.ask, "version", until_s)
        if isinstance(answer, Refused):
            return answer
        seen: Scope = {**self.talk.scope, "result": answer.result}
        try:
            version = str(evaluate(read.version, seen))
        except TemplateError as error:
            raise ReplyGarbled(f"the reply holds no version: {error}") from error
        running = FirmwareImage(
            0,
            version,
            profiles.text_in(read.hash, seen).lower(),
            active=True,
            confirmed=profiles.holds(read.confirmed, seen),
        )
        images = [running]
        if read.pending is not None and profiles.holds(read.pending, seen):
            staged = profiles.text_in(read.pending_version, seen)
            image_hash = profiles.text_in(read.pending_hash, seen).lower()
            images.append(FirmwareImage(1, staged, image_hash, pending=True))
        return FirmwareState(tuple(images), takes=firmware.image)

    async def _certificate(self, request: CertificateRequest, until_s: float) -> Answered | Refused:
        section = self._profile.certificate
        if section is None:
            raise self._unsupported("certificates")
        scope: Scope = {"certificate": dict(vars(request))}
        match request:
            case ReadCertificate():
                answer = await self.ask(section.read.ask, "certificate", until_s, scope)
                if isinstance(answer, Refused):
                    return answer
                seen: Scope = {**self.talk.scope, "result": answer.result}
                texts = (section.read.active, section.read.in_use, section.read.pending)
                active, in_use, pending = (profiles.text_in(t, seen).lower() for t in texts)
                if not in_use and evaluate(section.read.in_use, seen) is None:
                    raise ReplyGarbled("the reply names no certificate in use")
                why = profiles.text_in(section.read.why, seen)
                return Answered(certificate=CertificateState(active, in_use, pending, why))
            case MakeCsr():
                made = await self.ask(section.request.ask, "csr", until_s, scope)
                if isinstance(made, Refused):
                    return made
                seen = {**self.talk.scope, "result": made.result}
                csr = profiles.text_in(section.request.csr, seen)
                key_id = profiles.text_in(section.request.key_id, seen)
                return Answered({"csr": csr, "key_id": key_id})
            case InstallCertificate():
                return await self.ask(section.install, "install_certificate", until_s, scope)
            case TestCertificate():
                return await self._ask_if_there(section.test, "test_certificate", until_s, scope)
            case CommitCertificate():
                name = "commit_certificate"
                return await self._ask_if_there(section.commit, name, until_s, scope)
        assert_never(request)

    async def ask(
        self, exchange: Exchange, name: str, until_s: float, more: Scope | None = None
    ) -> Answered | Refused:
        """One exchange; the device's no becomes a refusal."""
        answer = await self.talk.exchange(exchange, name, until_s, more)
        if isinstance(answer, Declined):
            return Refused("device_refused", _words(answer))
        return Answered(answer.result)

    def _unsupported(self, verb: str) -> StepInvalid:
        return StepInvalid(f"profile {self._profile.name} has no {verb}", "verb_unsupported")


class _Update:
    """An update the device does by itself, watched until its end.

    A device that is offline for a while is not a failed one; a device that restarted has
    forgotten the update and is asked again.
    """

    def __init__(
        self,
        driver: MqttDriver,
        firmware: Firmware,
        request: UploadFirmware,
        until_s: float,
        on_progress: OnProgress,
    ) -> None:
        self._driver = driver
        self._talk = driver.talk
        self._firmware = firmware
        self._upload = firmware.upload
        self._request = request
        self._until_s = until_s
        self._on_progress = on_progress
        self._quiet_s = firmware.upload.no_progress.total_seconds()
        self._news_at_s = _now_s()
        self._is_taken = False
        self._scope: Scope = {
            "firmware": {
                "url": request.url,
                "sha256": request.sha256,
                "size": request.size,
                "version": request.version,
                "hash": request.image_hash,
                "slot": request.slot,
            }
        }

    async def run(self) -> Answered | Refused:
        progress = self._upload.progress
        if progress is None:
            return await self._start() or self._done()
        with self._talk.watching(progress, self._scope) as watching:
            while True:
                if not self._is_taken:
                    refusal = await self._start()
                    if refusal is not None:
                        return refusal
                outcome = await self._wait(watching)
                if outcome is not None:
                    return outcome

    async def _start(self) -> Refused | None:
        """Ask for the update. An unanswered request may have been taken: the news will tell."""
        try:
            answer = await self._talk.exchange(
                self._upload.ask, "update", self._until_s, self._scope
            )
        except ReplyGarbled:
            if self._upload.progress is None:
                raise
            return None
        except DeviceUnreachable:
            if _now_s() >= self._give_up_at_s:
                raise
            return None
        self._is_taken = True
        if isinstance(answer, Accepted):
            return None
        seen: Scope = {"code": answer.code, "text": answer.text}
        is_busy = self._upload.busy is not None and profiles.holds(self._upload.busy, seen)
        return None if is_busy else self._refusal(answer)

    async def _wait(self, watching: Watching) -> Answered | Refused | None:
        """Wait for news, and look at the device when there are none. None: go on."""
        look_at_s = min(self._give_up_at_s, _now_s() + LOOK_EVERY_S)
        if await self._has_news(watching, look_at_s) and watching.news is not None:
            return self._read_news(watching.news)
        if self._talk.online is False:
            self._is_taken = False
        elif await self._is_there():
            return self._done()
        if _now_s() >= self._give_up_at_s:
            raise DeviceUnreachable(f"no news of the update for {self._quiet_s:g} s")
        return None

    def _read_news(self, news: News) -> Answered | Refused | None:
        self._news_at_s, self._is_taken = _now_s(), True
        if news.percent is not None:
            self._on_progress(min(max(news.percent, 0.0), 100.0), news.note)
        match news.end:
            case Accepted():
                return self._done()
            case Declined():
                return self._refusal(news.end)
        return None

    async def _has_news(self, watching: Watching, until_s: float) -> bool:
        try:
            async with asyncio.timeout_at(until_s):
                await watching.changed.wait()
        except TimeoutError:
            return False
        watching.changed.clear()
        return True

    async def _is_there(self) -> bool:
        """Whether the device lists the image: the last news may have been lost."""
        until_s = min(self._until_s, _now_s() + LOOK_EVERY_S)
        try:
            state = await self._driver.read_firmware(self._firmware, until_s)
        except (DeviceUnreachable, ReplyGarbled):
            return False
        if isinstance(state, Refused) or not self._request.image_hash:
            return False
        return state.holding(self._request.image_hash) is not None

    @property
    def _give_up_at_s(self) -> float:
        return min(self._until_s, self._news_at_s + self._quiet_s)

    def _done(self) -> Answered:
        return Answered({"bytes": self._request.size})

    def _refusal(self, answer: Declined) -> Refused:
        return Refused(self._upload.refused.get(answer.code, "image_refused"), _words(answer))


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _words(answer: Declined) -> str:
    return f"{answer.text} ({answer.code})" if answer.code else answer.text


def _about(image: FirmwareImage) -> dict[str, JsonValue]:
    return {"version": image.version, "hash": image.image_hash, "confirmed": image.confirmed}


def _listed(state: FirmwareState) -> JsonValue:
    return [
        {**_about(i), "slot": i.slot, "active": i.active, "pending": i.pending}
        for i in state.images
    ]


def _make(
    device: str, options: MqttOptions, surroundings: Surroundings, on_log: OnDeviceLog
) -> MqttDriver:
    profile = surroundings.profiles.get(options.profile)
    if not isinstance(profile, Profile):
        raise SettingsInvalid(f"device {device}: no MQTT profile `{options.profile}`")
    if surroundings.messages is None:
        raise SettingsInvalid(f"device {device}: MQTT devices need a local broker")
    return MqttDriver(
        device, profile, options.vars, surroundings.messages, on_log, surroundings.new_id
    )


KIND: Final = DriverKind(
    options=MqttOptions,
    make=_make,
    summary="topics and payloads of a profile",
    address=lambda options: f"profile {options.profile}",
    profile=Profile,
    needs_broker=True,
    keeps_open=True,
)
