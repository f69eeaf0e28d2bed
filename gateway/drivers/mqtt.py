"""MQTT devices of any family that a profile describes: topics and payloads are templates.

The driver knows only five patterns: ask and await the matching reply, hear what the device says by
itself, watch an update that it does by itself, believe its presence, and read its version back.
"""

import asyncio
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Final, assert_never

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contract.template_dialect import TemplateError, evaluate, render
from gateway.domain import profile_messages as messages
from gateway.domain.profile_messages import Declined
from gateway.domain.profiles import Exchange, Firmware, Point, Profile, SetPoints, Upload
from gateway.drivers.base import (
    Answered,
    CertificateRequest,
    CertificateState,
    Command,
    CommitCertificate,
    ConfirmFirmware,
    Delegate,
    DeviceFacts,
    DeviceRequest,
    DriverKind,
    FirmwareImage,
    FirmwareState,
    InstallCertificate,
    MakeCsr,
    OnDeviceLog,
    OnProgress,
    OnValues,
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
from gateway.transports.mqtt_conversation import (
    ANSWER_WITHIN_S,
    REPLY_WITHIN_S,
    Conversation,
    NotSaid,
)
from gateway.transports.mqtt_state import MqttState
from gateway.transports.mqtt_update import Update

LOOK_AGAIN_S: Final = 0.25
WRITE_TRIES: Final = 3

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
        try:
            state = await self.read_firmware(firmware, _now_s() + ANSWER_WITHIN_S)
        except NotSaid:
            if self.talk.online is False:
                raise
            return DeviceFacts()  # it is there, and says its version when it likes
        if isinstance(state, Refused) or state.active is None or not state.active.version:
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
            case Delegate():
                raise self._unsupported("device.delegate")
            case ReadPoints():
                return await self._read_points(request.names, until_s, on_progress)
            case WritePoints():
                return await self._write_points(request, until_s)
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
                if firmware.upload is None:
                    raise self._unsupported("firmware.upload: it is not updated from an artifact")
                return await self._update(firmware, firmware.upload, request, until_s, on_progress)
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
        if isinstance(exchange, SetPoints):
            seen: Scope = {**self.talk.scope, "parameters": dict(command.parameters)}
            values = {name: render(value, seen) for name, value in exchange.set.items()}
            return await self._write_points(WritePoints(values, command.resumed), until_s)
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

    async def _update(
        self,
        firmware: Firmware,
        upload: Upload,
        request: UploadFirmware,
        until_s: float,
        on_progress: OnProgress,
    ) -> Answered | Refused:
        before = await self._version_before(firmware, request, until_s)

        async def is_there(within_s: float) -> bool:
            state = await self.read_firmware(firmware, within_s)
            if isinstance(state, Refused) or state.active is None:
                return False
            if request.image_hash:
                return state.holding(request.image_hash) is not None
            if request.version:
                return state.active.version == request.version
            return before not in ("", state.active.version)

        wanted: Scope = {
            "url": request.url,
            "sha256": request.sha256,
            "size": request.size,
            "version": request.version,
            "hash": request.image_hash,
            "slot": request.slot,
        }
        update = Update(self.talk, upload, request.path, wanted, until_s, on_progress, is_there)
        end = await update.run()
        if isinstance(end, Declined):
            return Refused(end.code, end.text)
        return Answered({"bytes": request.size})

    async def _version_before(
        self, firmware: Firmware, request: UploadFirmware, until_s: float
    ) -> str:
        """What an image that tells nothing of itself is told by: another version than this."""
        if request.image_hash or request.version:
            return ""
        state = await self.read_firmware(firmware, until_s)
        if isinstance(state, Refused) or state.active is None:
            return ""
        return state.active.version

    async def _read_points(
        self, names: Sequence[str], until_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        points = [(name, self._point(name)) for name in names]
        values: dict[str, JsonValue] = {}
        for number, (name, point) in enumerate(points, start=1):
            answer = await self.talk.read(point, name, until_s)
            if isinstance(answer, Declined):
                return Refused("device_refused", f"`{name}`: {_words(answer)}")
            values[name] = self._value(name, point, answer.result)
            if len(points) > 1:
                on_progress(100 * number / len(points), f"{number} of {len(points)} points")
        return Answered({"values": values})

    async def _write_points(self, request: WritePoints, until_s: float) -> Answered | Refused:
        wanted = [(name, self._point(name), value) for name, value in request.values.items()]
        for name, point, _ in wanted:
            if point.write is None:
                raise StepInvalid(f"point `{name}` cannot be written")
            if request.resumed and not self._profile.complete(point.write).repeatable:
                raise ReplyGarbled(f"`{name}` was written before, and must not be written twice")
        values: dict[str, JsonValue] = {}
        for name, point, value in wanted:
            assert point.write is not None
            # A write without a reply may be lost, and only the reading back shows it.
            tries = WRITE_TRIES if self._profile.complete(point.write).repeatable else 1
            for left in reversed(range(tries)):
                done = await self.ask(point.write, name, until_s, {"value": value})
                if isinstance(done, Refused):
                    return Refused(done.code, f"`{name}`: {done.text}")
                refused = await self._read_back(name, point, value, until_s)
                if refused is None:
                    break
                if not left or _now_s() >= until_s:
                    return refused
            values[name] = value
        return Answered({"values": values})

    async def _read_back(
        self, name: str, point: Point, value: JsonValue, until_s: float
    ) -> Refused | None:
        """Read a point until it is what was written, for as long as a reply may take."""
        assert point.write is not None
        patience = self._profile.complete(point.write).timeout
        wait_s = patience.total_seconds() if patience else REPLY_WITHIN_S
        read_by_s = min(until_s, _now_s() + wait_s)
        while True:
            answer = await self.talk.read(point, name, until_s)
            if isinstance(answer, Declined):
                return Refused("device_refused", f"`{name}`: {_words(answer)}")
            found = self._value(name, point, answer.result)
            if found == value and isinstance(found, bool) == isinstance(value, bool):
                return None
            if _now_s() >= read_by_s:
                return Refused("device_refused", f"`{name}` reads back {found!r}, not {value!r}")
            look_again_s = min(read_by_s, _now_s() + LOOK_AGAIN_S)
            await self.talk.wait_for_fact(lambda: False, look_again_s)

    def _point(self, name: str) -> Point:
        point = self._profile.points.get(name)
        if point is None:
            near = get_close_matches(name, self._profile.points, 1)
            hint = f"did you mean `{near[0]}`?" if near else _listed_names(self._profile.points)
            text = f"profile {self._profile.name} has no point `{name}` ({hint})"
            raise StepInvalid(text, "verb_unsupported")
        return point

    def _value(self, name: str, point: Point, result: JsonValue) -> JsonValue:
        try:
            return evaluate(point.value, {**self.talk.scope, "result": result})
        except TemplateError as error:
            raise ReplyGarbled(f"the reply holds no `{name}`: {error}") from error

    async def read_firmware(self, firmware: Firmware, until_s: float) -> FirmwareState | Refused:
        read = firmware.read
        try:
            answer = await self.talk.read(read, "version", until_s)
        except NotSaid:
            if not read.may_be_unknown:
                raise
            return FirmwareState((FirmwareImage(0, "", active=True),), takes=firmware.image)
        if isinstance(answer, Declined):
            return Refused("device_refused", _words(answer))
        seen: Scope = {**self.talk.scope, "result": answer.result}
        try:
            version = str(evaluate(read.version, seen))
        except TemplateError as error:
            raise ReplyGarbled(f"the reply holds no version: {error}") from error
        running = FirmwareImage(
            0,
            version,
            messages.text_in(read.hash, seen).lower(),
            active=True,
            confirmed=messages.holds(read.confirmed, seen),
        )
        images = [running]
        if read.pending is not None and messages.holds(read.pending, seen):
            staged = messages.text_in(read.pending_version, seen)
            image_hash = messages.text_in(read.pending_hash, seen).lower()
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
                active, in_use, pending = (messages.text_in(t, seen).lower() for t in texts)
                if not in_use and evaluate(section.read.in_use, seen) is None:
                    raise ReplyGarbled("the reply names no certificate in use")
                why = messages.text_in(section.read.why, seen)
                return Answered(certificate=CertificateState(active, in_use, pending, why))
            case MakeCsr():
                made = await self.ask(section.request.ask, "csr", until_s, scope)
                if isinstance(made, Refused):
                    return made
                seen = {**self.talk.scope, "result": made.result}
                csr = messages.text_in(section.request.csr, seen)
                key_id = messages.text_in(section.request.key_id, seen)
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


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _listed_names(points: dict[str, Point]) -> str:
    return f"known: {', '.join(sorted(points)) or 'none'}"


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


def _listen(
    device: str, options: MqttOptions, surroundings: Surroundings, on_values: OnValues
) -> MqttState:
    profile, messages = surroundings.profiles.get(options.profile), surroundings.messages
    if not isinstance(profile, Profile) or messages is None:
        raise DeviceUnreachable(f"no profile `{options.profile}`, or no local broker")
    if not profile.state:
        raise SettingsInvalid(f"device {device}: profile {profile.name} has no `state` to hear")
    return MqttState(device, profile, options.vars, messages, on_values)


KIND: Final = DriverKind(
    options=MqttOptions,
    make=_make,
    summary="topics and payloads of a profile",
    address=lambda options: f"profile {options.profile}",
    profile=Profile,
    needs_broker=True,
    keeps_open=True,
    listen=_listen,
)
