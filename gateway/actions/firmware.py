"""firmware.upload, test, verify, confirm and rollback.

Each decides from a fresh look at the device, so doing one again is harmless, and a gateway that
stopped anywhere goes on by looking. Upload leaves in memory what the later verbs compare with.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from contract.device.mcuboot import ImageInvalid, parse_image, parse_version
from contract.steps import AfterRestart
from gateway.actions.base import (
    Action,
    Call,
    FetchedArtifact,
    Reach,
    StepDone,
    StepOutcome,
    StepRefused,
)
from gateway.drivers.base import (
    Answered,
    ConfirmFirmware,
    DeviceRequest,
    FirmwareImage,
    FirmwareState,
    Probe,
    ReadFirmware,
    Refused,
    Reset,
    RollbackFirmware,
    TestFirmware,
    UploadFirmware,
)
from gateway.errors import DeviceUnreachable, ReplyGarbled, StepInvalid

# The first look after a restart may come while the swap still waits: devices answer a reset first.
SETTLE_S: Final = 30.0
LOOK_EVERY_S: Final = 0.5
PROBE_WITHIN_S: Final = 3.0
FETCH_SHARE: Final = 0.2


class _Stop(Exception):
    """The step ends here, refused."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.outcome = StepRefused(code, text)


class FirmwareUpload:
    """Bring an image onto the device, unless it is there already."""

    after_restart = AfterRestart.RESUME

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            return await self._upload(call, reach)
        except _Stop as stop:
            return stop.outcome

    async def _upload(self, call: Call, reach: Reach) -> StepDone:
        name, slot = call.parameters.get("artifact"), call.parameters.get("slot")
        if not isinstance(name, str) or not isinstance(slot, int | None):
            raise StepInvalid("firmware.upload takes an `artifact`, and a `slot` as a number")
        state = await _look(call, reach)
        fetched = await reach.fetch(name, lambda p, note: reach.progress(FETCH_SHARE * p, note))
        image_hash, version = await asyncio.to_thread(_identify, fetched, state)
        if state.takes == "any":
            version = str(call.parameters.get("version") or "")
        memory = _memory(fetched, image_hash, version, state, call.memory)
        there = _already_there(state, image_hash, version)
        if there:
            return StepDone({"uploaded": False, **_facts(image_hash, version)}, memory, there)
        if state.slot_size is not None and fetched.size > state.slot_size:
            text = f"{fetched.size} bytes do not fit a slot of {state.slot_size}"
            raise _Stop("image_too_large", text)
        request = UploadFirmware(
            Path(fetched.path), fetched.sha256, fetched.size, image_hash, version, fetched.url, slot
        )

        def tell(percent: float, note: str) -> None:
            reach.progress(100 * FETCH_SHARE + (1 - FETCH_SHARE) * percent, note)

        await _ask(reach, request, call.timeout_s, tell)
        after = await _look(call, reach)
        if image_hash and _lists_hashes(after) and after.holding(image_hash) is None:
            raise _Stop("image_refused", "the device does not list the image it received")
        return StepDone({"uploaded": True, **_facts(image_hash, version)}, memory)


class FirmwareTest:
    """Have the next boot try the image that was uploaded."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        image_hash = _remembered(call, "image_hash")
        if not image_hash:
            return StepDone(note="nothing was uploaded")
        try:
            state = await _look(call, reach)
            found = state.holding(image_hash)
            if found is not None and found.active:
                return StepDone(note="the image already runs")
            if found is not None and found.pending:
                return StepDone(note="the next boot already tries the image")
            if found is None and _lists_hashes(state):
                raise _Stop("image_refused", "the device does not hold the image")
            answer = await reach.ask_device(
                TestFirmware(image_hash), call.timeout_s, reach.progress
            )
        except _Stop as stop:
            return stop.outcome
        if isinstance(answer, Refused):
            if answer.code == "verb_unsupported":
                return StepDone(note="the device boots the newest image by itself")
            return StepRefused(answer.code, answer.text)
        return StepDone()


class FirmwareVerify:
    """Read back what runs: the image that was uploaded, of the version the job names."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        wanted = call.parameters.get("version")
        try:
            state = await _settled(call, reach)
            active = _active(state)
            _check_image(call, active)
            if wanted is None and state.takes == "any" and not _remembered(call, "version"):
                text = "this device's files do not say their version: give the step a `version`"
                raise StepInvalid(text)
            if wanted is not None and not _same_version(active.version, str(wanted)):
                text = f"{active.version} runs on the device, not {wanted}"
                raise _Stop("version_mismatch", text)
        except _Stop as stop:
            return stop.outcome
        return StepDone(_about(active))


class FirmwareConfirm:
    """Keep the running image for good; never another than the one that was uploaded."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            active = _active(await _look(call, reach))
            _check_image(call, active)
            if active.confirmed:
                return StepDone(_about(active), note="the image was already confirmed")
            answer = await reach.ask_device(ConfirmFirmware(), call.timeout_s, reach.progress)
            if isinstance(answer, Refused):
                if answer.code == "verb_unsupported":
                    return StepDone(_about(active), note="the device keeps images by itself")
                raise _Stop(answer.code, answer.text)
            active = _active(await _look(call, reach))
            _check_image(call, active)
            if not active.confirmed:
                raise _Stop("device_refused", "the device took the confirmation and kept nothing")
        except _Stop as stop:
            return stop.outcome
        return StepDone(_about(active))


class FirmwareRollback:
    """Return to the image before: choose it, restart if need be, and read back that it runs."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            return await self._roll_back(call, reach)
        except _Stop as stop:
            return stop.outcome

    async def _roll_back(self, call: Call, reach: Reach) -> StepDone:
        before = _active(await _look(call, reach))
        previous = _remembered(call, "previous_hash")
        if previous and before.image_hash == previous and before.confirmed:
            return StepDone(_about(before), note="the image before runs already")
        uploaded = _remembered(call, "image_hash")
        if uploaded and before.image_hash and before.image_hash != uploaded and before.confirmed:
            return StepDone(_about(before), note="the new image never ran")
        answer = await _ask(reach, RollbackFirmware(), call.timeout_s)
        result = answer.result if isinstance(answer.result, Mapping) else {}
        if result.get("reset_needed"):
            await _ask(reach, Reset(), call.timeout_s)
        await self._until_online(call, reach)
        after = _active(await _settled(call, reach, going_away=before))
        if after.image_hash == before.image_hash and after.version == before.version:
            raise _Stop("device_refused", f"{after.version} still runs after the rollback")
        return StepDone(_about(after))

    async def _until_online(self, call: Call, reach: Reach) -> None:
        until_ms = reach.now_ms() + int(call.timeout_s * 1000)
        while True:
            try:
                await reach.ask_device(Probe(), PROBE_WITHIN_S, reach.progress)
            except (DeviceUnreachable, ReplyGarbled):
                if reach.now_ms() >= until_ms:
                    raise
                await reach.sleep(LOOK_EVERY_S)
            else:
                return


async def _ask(
    reach: Reach, request: DeviceRequest, timeout_s: float, on_progress: object = None
) -> Answered:
    tell = on_progress if callable(on_progress) else reach.progress
    answer = await reach.ask_device(request, timeout_s, tell)
    if isinstance(answer, Refused):
        raise _Stop(answer.code, answer.text)
    return answer


async def _look(call: Call, reach: Reach) -> FirmwareState:
    answer = await _ask(reach, ReadFirmware(), call.timeout_s)
    if answer.firmware is None:
        raise StepInvalid("the device's driver cannot read firmware", "verb_unsupported")
    return answer.firmware


async def _settled(
    call: Call, reach: Reach, going_away: FirmwareImage | None = None
) -> FirmwareState:
    """Look until no swap waits any more: before that, the device has not restarted yet."""
    until_ms = reach.now_ms() + int(min(SETTLE_S, call.timeout_s) * 1000)
    while True:
        state = await _look(call, reach)
        is_same = (
            going_away is not None
            and state.active is not None
            and state.active.image_hash == going_away.image_hash
        )
        waits = any(image.pending and not image.active for image in state.images) or is_same
        if not waits or reach.now_ms() >= until_ms:
            return state
        await reach.sleep(LOOK_EVERY_S)


def _active(state: FirmwareState) -> FirmwareImage:
    if state.active is None:
        raise _Stop("version_mismatch", "the device lists no running image")
    return state.active


def _check_image(call: Call, active: FirmwareImage) -> None:
    """Is what runs the image that was uploaded? Without an upload there is nothing to compare."""
    wanted = _remembered(call, "image_hash")
    version, before = _remembered(call, "version"), _remembered(call, "previous_version")
    if wanted and active.image_hash:
        if active.image_hash == wanted:
            return
        is_old = active.image_hash == _remembered(call, "previous_hash")
    elif version:
        if _same_version(active.version, version):
            return
        is_old = _same_version(active.version, before)
    else:
        return
    if is_old:
        raise _Stop("rolled_back", f"the device runs {active.version} again, not {version}")
    raise _Stop("version_mismatch", f"another image runs: {active.version}, not {version}")


def _identify(fetched: FetchedArtifact, state: FirmwareState) -> tuple[str, str]:
    """Hash and version of an image that was checked before its first byte is sent."""
    if state.takes == "any":
        return "", ""
    try:
        image = parse_image(Path(fetched.path).read_bytes())
    except ImageInvalid as error:
        raise _Stop("image_invalid", str(error)) from error
    return image.hash.hex(), image.version


def _already_there(state: FirmwareState, image_hash: str, version: str) -> str:
    """Why nothing needs to be uploaded; empty when it does."""
    active = state.active
    if state.takes == "any" and version and active and _same_version(active.version, version):
        return "the version already runs"
    found = state.holding(image_hash) if image_hash else None
    if found is None:
        return ""
    if found.active:
        return "the image already runs" + ("" if found.confirmed else ", on test")
    return "the device already holds the image"


def _memory(
    fetched: FetchedArtifact,
    image_hash: str,
    version: str,
    state: FirmwareState,
    earlier: Mapping[str, JsonValue],
) -> dict[str, JsonValue]:
    """What later verbs compare with. A second look must not take the new image for the old one."""
    memory: dict[str, JsonValue] = {
        "image_hash": image_hash,
        "version": version,
        "sha256": fetched.sha256,
    }
    active = state.active
    if active is not None and (not image_hash or active.image_hash != image_hash):
        memory |= {"previous_hash": active.image_hash, "previous_version": active.version}
    elif "previous_hash" in earlier:
        memory |= {key: earlier[key] for key in ("previous_hash", "previous_version")}
    return memory


def _remembered(call: Call, key: str) -> str:
    value = call.memory.get(key)
    return value if isinstance(value, str) else ""


def _lists_hashes(state: FirmwareState) -> bool:
    return all(image.image_hash for image in state.images)


def _same_version(one: str, other: str) -> bool:
    """As images count: 1.2.3 is 1.2.3.0 and 1.2.3+0; other words must be the same."""
    try:
        return parse_version(one) == parse_version(other)
    except ImageInvalid:
        return one.strip() == other.strip()


def _facts(image_hash: str, version: str) -> dict[str, JsonValue]:
    return {"version": version, "hash": image_hash}


def _about(image: FirmwareImage) -> dict[str, JsonValue]:
    return {**_facts(image.image_hash, image.version), "confirmed": image.confirmed}


ACTIONS: Final[dict[str, Action]] = {
    "firmware.upload": FirmwareUpload(),
    "firmware.test": FirmwareTest(),
    "firmware.verify": FirmwareVerify(),
    "firmware.confirm": FirmwareConfirm(),
    "firmware.rollback": FirmwareRollback(),
}
