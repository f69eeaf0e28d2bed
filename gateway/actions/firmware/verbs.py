"""firmware.upload, test, verify, confirm and rollback.

Each decides from a fresh look at the device, so doing one again is harmless, and a gateway that
stopped anywhere goes on by looking. Upload leaves in memory what the later verbs compare with:
they act on every image that was uploaded, so several are tried in one restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from contract.device.mcuboot import ImageInvalid, parse_version
from contract.steps import AfterRestart
from gateway.actions.base import (
    Call,
    FetchedArtifact,
    Reach,
    StepDone,
    StepOutcome,
    restart_request,
)
from gateway.actions.firmware.looks import (
    Stop,
    about_all,
    active_of,
    ask,
    check_image,
    check_place,
    facts,
    lists_hashes,
    look,
    memory_of,
    read_image,
    same_version,
    settled,
    until_online,
)
from gateway.domain.uploads import uploads_of
from gateway.drivers.base import (
    ConfirmFirmware,
    FirmwareImage,
    FirmwareState,
    Refused,
    Reset,
    RollbackFirmware,
    TestFirmware,
    UploadFirmware,
)
from gateway.errors import StepInvalid

FETCH_SHARE: Final = 0.2
MAX_IMAGE: Final = 15


@dataclass(frozen=True)
class _Chosen:
    """An image that fits where it is to go; `there` says why nothing needs to be sent."""

    fetched: FetchedArtifact
    image_hash: str
    version: str
    there: str = ""


class FirmwareUpload:
    """Bring an image onto the device, unless it is there already."""

    after_restart = AfterRestart.RESUME

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            return await self._upload(call, reach)
        except Stop as stop:
            return stop.outcome

    async def _upload(self, call: Call, reach: Reach) -> StepDone:
        given, slot = call.parameters.get("artifact"), call.parameters.get("slot")
        image = call.parameters.get("image", 0) or 0
        if not isinstance(given, str | dict) or not isinstance(slot, int | None):
            text = "an `artifact` (or one for each slot), and a `slot` as a number"
            raise StepInvalid(f"firmware.upload takes {text}")
        if not isinstance(image, int) or not 0 <= image <= MAX_IMAGE:
            raise StepInvalid(f"firmware.upload takes an `image` from 0 to {MAX_IMAGE}")
        whole = await look(call, reach)
        if whole.in_recovery:
            text = "no application runs: the bootloader waits for an image; use firmware.recover"
            raise Stop("device_refused", text)
        state = whole.of(image)
        if image and not state.images:
            raise Stop("image_refused", f"the device has no image {image}")
        chosen = await _choose(given, slot, state, call, reach)
        fetched, image_hash, version = chosen.fetched, chosen.image_hash, chosen.version
        memory = memory_of(image, fetched, image_hash, version, state, call.memory)
        told = {**facts(image_hash, version), **({"image": image} if image else {})}
        if chosen.there:
            _check_version(chosen.version, call, state)
            return StepDone({"uploaded": False, **told}, memory, chosen.there)
        if state.slot_size is not None and fetched.size > state.slot_size:
            text = f"{fetched.size} bytes do not fit a slot of {state.slot_size}"
            raise Stop("image_too_large", text)
        request = UploadFirmware(
            Path(fetched.path),
            fetched.sha256,
            fetched.size,
            image_hash,
            version,
            fetched.url,
            slot,
            image,
        )

        def tell(percent: float, note: str) -> None:
            reach.progress(100 * FETCH_SHARE + (1 - FETCH_SHARE) * percent, note)

        await ask(reach, request, call.timeout_s, tell)
        after = (await look(call, reach)).of(image)
        found = after.holding(image_hash)
        if image_hash and lists_hashes(after) and found is None:
            raise Stop("image_refused", "the device does not list the image it received")
        if state.takes == "bundle" and found is not None:
            _check_version(found.version, call, state)
            memory |= {"version": found.version}
            told |= {"version": found.version}
        return StepDone({"uploaded": True, **told}, memory)


async def _choose(
    given: str | dict[str, JsonValue],
    slot: int | None,
    state: FirmwareState,
    call: Call,
    reach: Reach,
) -> _Chosen:
    """The image for the slot it will run in, checked. Raises Stop."""
    active = state.active
    runs_in = _runs_in(state, is_per_slot=isinstance(given, dict))
    if state.boots_newest and active is not None and slot is not None and slot % 2 == active.slot:
        raise Stop("image_refused", f"slot {slot} is the one that runs: {active.version}")
    chosen = await _of_slot(given, runs_in, state, call, reach)
    if chosen.there or state.takes != "mcuboot":
        return chosen
    is_running = (
        active is not None
        and isinstance(given, dict)
        and active.slot != runs_in
        and str(active.slot) in given
        and same_version(active.version, chosen.version)
    )
    if active is not None and is_running:
        # The same version linked for the other slot is another image: it may run already.
        running = await _of_slot(given, active.slot, state, call, reach)
        if running.there:
            return running
    image = await read_image(chosen.fetched)
    check_place(image, runs_in, state)
    if state.boots_newest and active is not None and _is_older(chosen.version, active.version):
        text = f"its bootloader starts the newer image: {active.version}, never {chosen.version}"
        raise Stop("image_invalid", text)
    return chosen


def _runs_in(state: FirmwareState, *, is_per_slot: bool) -> int:
    """The slot the new image will run in: slot 0, or the free one where images run in place.

    A bootloader that does not say what it does is believed to be what the job was written for.
    """
    active = state.active
    in_place = state.boots_newest or (is_per_slot and not state.mode)
    if active is None or not (in_place or active.slot):
        return 0
    return 1 - active.slot % 2


async def _of_slot(
    given: str | dict[str, JsonValue], slot: int, state: FirmwareState, call: Call, reach: Reach
) -> _Chosen:
    name = given.get(str(slot)) if isinstance(given, dict) else given
    if not isinstance(name, str):
        raise StepInvalid(f"firmware.upload has no artifact for slot {slot}, which is free")
    fetched = await reach.fetch(name, lambda p, note: reach.progress(FETCH_SHARE * p, note))
    if state.takes == "any":
        version = str(call.parameters.get("version") or "")
        is_there = version and state.active and same_version(state.active.version, version)
        return _Chosen(fetched, "", version, "the version already runs" if is_there else "")
    if state.takes == "bundle":
        image_hash, version = fetched.sha256, ""
    else:
        image = await read_image(fetched)
        image_hash, version = image.hash.hex(), image.version
    found = state.holding(image_hash)
    there = "" if found is None else "the device already holds the image"
    if found is not None and found.active:
        there = "the image already runs" + ("" if found.confirmed else ", on test")
    return _Chosen(fetched, image_hash, version or (found.version if found else ""), there)


def _check_version(version: str, call: Call, state: FirmwareState) -> None:
    """What a bundle holds is known once it is unpacked. Raises Stop for another than is wanted."""
    wanted = call.parameters.get("version")
    if state.takes == "bundle" and wanted is not None and not same_version(version, str(wanted)):
        raise Stop("image_invalid", f"the file holds {version}, not {wanted}")


def _is_older(version: str, than: str) -> bool:
    try:
        return parse_version(version) < parse_version(than)
    except ImageInvalid:
        return False


class FirmwareTest:
    """Have the next boot try every image that was uploaded."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        hashes = [each.image_hash for each in uploads_of(call.memory) if each.image_hash]
        if not hashes:
            return StepDone(note="nothing was uploaded")
        try:
            notes = [await self._test(image_hash, call, reach) for image_hash in hashes]
        except Stop as stop:
            return stop.outcome
        return StepDone(note="; ".join(dict.fromkeys(note for note in notes if note)))

    async def _test(self, image_hash: str, call: Call, reach: Reach) -> str:
        """Mark one image; returns why that was not needed."""
        state = await look(call, reach)
        found = state.holding(image_hash)
        if found is not None and found.active:
            return "the image already runs"
        if found is not None and found.pending:
            return "the next boot already tries the image"
        if found is None and lists_hashes(state):
            raise Stop("image_refused", "the device does not hold the image")
        if not state.has_test:
            return "the device boots the newest image by itself"
        request = TestFirmware(image_hash, restart_request(call, "device.reset"))
        answer = await reach.ask_device(request, call.timeout_s, reach.progress)
        if isinstance(answer, Refused):
            if answer.code == "verb_unsupported":
                return "the device boots the newest image by itself"
            raise Stop(answer.code, answer.text)
        return ""


class FirmwareVerify:
    """Read back what runs: the images that were uploaded, of the version the job names."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        wanted, asked = call.parameters.get("version"), call.parameters.get("image")
        uploads = uploads_of(call.memory)
        image = asked if isinstance(asked, int) else uploads[0].image
        try:
            state = await settled(call, reach)
            running = [active_of(state, each.image) for each in uploads]
            for uploaded, active in zip(uploads, running, strict=True):
                check_image(uploaded, active)
            if wanted is None and state.takes == "any" and not uploads[0].version:
                text = "this device's files do not say their version: give the step a `version`"
                raise StepInvalid(text)
            active = active_of(state, image)
            if wanted is not None and not same_version(active.version, str(wanted)):
                text = f"{active.version} runs on the device, not {wanted}"
                raise Stop("version_mismatch", text)
        except Stop as stop:
            return stop.outcome
        return StepDone(about_all(running if asked is None else [active]))


class FirmwareConfirm:
    """Keep the running images for good; never others than those that were uploaded."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        uploads = uploads_of(call.memory)
        try:
            running = _running(call.memory, await look(call, reach))
            if all(active.confirmed for active in running):
                return StepDone(about_all(running), note="the image was already confirmed")
            for active in running:
                # The application's image is the one that confirms itself: all firmware knows that.
                request = ConfirmFirmware(active.image_hash if active.image else "")
                if active.confirmed:
                    continue
                answer = await reach.ask_device(request, call.timeout_s, reach.progress)
                if isinstance(answer, Refused):
                    if answer.code == "verb_unsupported":
                        return StepDone(
                            about_all(running), note="the device keeps images by itself"
                        )
                    raise Stop(answer.code, answer.text)
            running = _running(call.memory, await look(call, reach))
            for uploaded, active in zip(uploads, running, strict=True):
                if not active.confirmed:
                    text = f"{uploaded.label}the device took the confirmation and kept nothing"
                    raise Stop("device_refused", text)
        except Stop as stop:
            return stop.outcome
        return StepDone(about_all(running))


def _running(memory: Mapping[str, JsonValue], state: FirmwareState) -> list[FirmwareImage]:
    """What runs of each uploaded image, being that image. Raises Stop."""
    running = []
    for uploaded in uploads_of(memory):
        active = active_of(state, uploaded.image)
        check_image(uploaded, active)
        running.append(active)
    return running


class FirmwareRollback:
    """Return to the images before: choose them, restart if need be, read back that they run."""

    after_restart = AfterRestart.REPEAT

    async def perform(self, call: Call, reach: Reach) -> StepOutcome:
        try:
            return await self._roll_back(call, reach)
        except Stop as stop:
            return stop.outcome

    async def _roll_back(self, call: Call, reach: Reach) -> StepDone:
        state = await look(call, reach)
        if state.unmarks and any(image.pending for image in state.images):
            await ask(reach, RollbackFirmware(), call.timeout_s)
            state = await look(call, reach)
        leaving, staying, note = [], [], ""
        for uploaded in uploads_of(call.memory):
            before = active_of(state, uploaded.image)
            previous, brought = uploaded.previous_hash, uploaded.image_hash
            is_other = brought and before.image_hash and before.image_hash != brought
            if previous and before.image_hash == previous and before.confirmed:
                note = "the image before runs already"
            elif is_other and before.confirmed:
                note = "the new image never ran"
            else:
                leaving.append(before)
                continue
            staying.append(before)
        if not leaving:
            return StepDone(about_all(staying), note=note)
        is_reset_needed, is_done = False, False
        ours = {uploaded.image_hash for uploaded in uploads_of(call.memory)} - {""}
        request = restart_request(call)
        for before in leaving:
            rollback = RollbackFirmware(before.image, request)
            answer = await ask(reach, rollback, call.timeout_s)
            result = answer.result if isinstance(answer.result, Mapping) else {}
            is_reset_needed |= bool(result.get("reset_needed"))
            is_done |= bool(result.get("done"))
        if is_done and not ours & {before.image_hash for before in leaving}:
            return StepDone(about_all(leaving), note="it has gone back already")
        if is_reset_needed:
            await ask(reach, Reset(request=request), call.timeout_s)
        await until_online(call, reach)
        state = await settled(call, reach, going_away=tuple(leaving))
        after = [active_of(state, uploaded.image) for uploaded in uploads_of(call.memory)]
        for before in leaving:
            now = active_of(state, before.image)
            if now.image_hash == before.image_hash and now.version == before.version:
                raise Stop("device_refused", f"{now.version} still runs after the rollback")
        return StepDone(about_all(after))
