"""firmware.recover: bring an image straight into the slot that runs, through the bootloader.

MCUboot's serial recovery has no test and no way back: it is for a device whose application does
not start, or is to be replaced whatever it is.
"""

from pathlib import Path

from pydantic import JsonValue

from contract.steps import AfterRestart
from gateway.actions.base import Call, Reach, StepDone, StepOutcome
from gateway.actions.firmware.looks import (
    Stop,
    about,
    active_of,
    ask,
    check_place,
    look,
    look_until,
    memory_of,
    read_image,
    same_version,
    until_online,
)
from gateway.drivers.base import FirmwareImage, FirmwareState, Reset, UploadFirmware
from gateway.errors import StepInvalid

RESTART_S = 60.0


class FirmwareRecover:
    """Enter recovery if the device is not in it, upload, restart, and read back what runs."""

    after_restart = AfterRestart.RESUME

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            return await self._recover(call, reach)
        except Stop as stop:
            return stop.outcome

    async def _recover(self, call: Call, reach: Reach) -> StepDone:
        name, version = call.parameters.get("artifact"), call.parameters.get("version")
        if not isinstance(name, str):
            raise StepInvalid("firmware.recover takes an `artifact`")
        state = await look(call, reach)
        if state.takes != "mcuboot":
            raise StepInvalid("the device's driver knows no recovery", "verb_unsupported")
        fetched = await reach.fetch(name, lambda percent, note: reach.progress(percent / 5, note))
        image = await read_image(fetched)
        if version is not None and not same_version(image.version, str(version)):
            raise Stop("version_mismatch", f"the image is {image.version}, not {version}")
        check_place(image, 0, state)
        image_hash = image.hash.hex()
        memory = memory_of(0, fetched, image_hash, image.version, state, call.memory)
        result: dict[str, JsonValue] = {"uploaded": False}
        if not state.in_recovery:
            active = active_of(state)
            if active.image_hash == image_hash and active.confirmed:
                note = "the image already runs"
                return StepDone({**result, **about(active)}, memory, note)
            state = await self._enter(call, reach)
        if _in_first_slot(state, image_hash) is None:
            request = UploadFirmware(
                Path(fetched.path), fetched.sha256, fetched.size, image_hash, image.version, ""
            )
            await ask(
                reach, request, call.timeout_s, lambda p, note: reach.progress(20 + 0.7 * p, note)
            )
            result["uploaded"] = True
            if _in_first_slot(await look(call, reach), image_hash) is None:
                raise Stop("image_refused", "the bootloader does not list the image it received")
        await ask(reach, Reset(), call.timeout_s)
        await until_online(call, reach)
        within_s = min(RESTART_S, call.timeout_s)
        state = await look_until(lambda s: not s.in_recovery, within_s, call, reach)
        active = active_of(state)
        if active.image_hash != image_hash:
            raise Stop("version_mismatch", f"another image runs: {active.version}")
        return StepDone({**result, **about(active)}, memory)

    async def _enter(self, call: Call, reach: Reach) -> FirmwareState:
        await ask(reach, Reset(into_recovery=True), call.timeout_s)
        await until_online(call, reach)
        within_s = min(RESTART_S / 4, call.timeout_s)
        state = await look_until(lambda s: s.in_recovery, within_s, call, reach)
        if not state.in_recovery:
            text = "the device started its application again: it enters no recovery when asked"
            raise Stop("device_refused", text)
        return state


def _in_first_slot(state: FirmwareState, image_hash: str) -> FirmwareImage | None:
    ours = (i for i in state.images if i.slot == 0 and i.image_hash == image_hash)
    return next(ours, None)
