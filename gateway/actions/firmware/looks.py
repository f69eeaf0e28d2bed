"""What the firmware verbs share: looking at a device, and what an attempt remembers of uploads."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from contract.device.mcuboot import Image, ImageInvalid, parse_image, parse_version
from gateway.actions.base import Call, FetchedArtifact, Reach, StepRefused
from gateway.domain.uploads import Uploaded
from gateway.drivers.base import (
    Answered,
    DeviceRequest,
    FirmwareImage,
    FirmwareState,
    OnProgress,
    Probe,
    ReadFirmware,
    Refused,
)
from gateway.errors import DeviceUnreachable, ReplyGarbled, StepInvalid

# The first look after a restart may come while the swap still waits: devices answer a reset first.
SETTLE_S: Final = 30.0
LOOK_EVERY_S: Final = 0.5
PROBE_WITHIN_S: Final = 3.0


class Stop(Exception):
    """The step ends here, refused."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.outcome = StepRefused(code, text)


def memory_of(
    image: int,
    fetched: FetchedArtifact,
    image_hash: str,
    version: str,
    state: FirmwareState,
    earlier: Mapping[str, JsonValue],
) -> dict[str, JsonValue]:
    """What later verbs compare with. A second look must not take the new image for the old one."""
    further = earlier.get("further_images")
    others = dict(further) if isinstance(further, Mapping) else {}
    kept = others.get(str(image)) if image else earlier
    before = kept if isinstance(kept, Mapping) else {}
    memory: dict[str, JsonValue] = {
        "image_hash": image_hash,
        "version": version,
        "sha256": fetched.sha256,
    }
    active = state.active
    if active is not None and (not image_hash or active.image_hash != image_hash):
        memory |= {"previous_hash": active.image_hash, "previous_version": active.version}
    elif "previous_hash" in before:
        memory |= {key: before[key] for key in ("previous_hash", "previous_version")}
    return {"further_images": {**others, str(image): memory}} if image else memory


async def ask(
    reach: Reach, request: DeviceRequest, timeout_s: float, on_progress: OnProgress | None = None
) -> Answered:
    """Ask its driver. Raises Stop when it refuses."""
    answer = await reach.ask_device(request, timeout_s, on_progress or reach.progress)
    if isinstance(answer, Refused):
        raise Stop(answer.code, answer.text)
    return answer


async def look(call: Call, reach: Reach) -> FirmwareState:
    answer = await ask(reach, ReadFirmware(), call.timeout_s)
    if answer.firmware is None:
        raise StepInvalid("the device's driver cannot read firmware", "verb_unsupported")
    return answer.firmware


async def settled(
    call: Call, reach: Reach, going_away: tuple[FirmwareImage, ...] = ()
) -> FirmwareState:
    """Look until no swap waits any more: before that, the device has not restarted yet."""
    leaving = {image.image_hash for image in going_away}

    def is_settled(state: FirmwareState) -> bool:
        running = [image for image in state.images if image.active]
        waits = any(image.pending and not image.active for image in state.images)
        return not waits and not any(image.image_hash in leaving for image in running)

    return await look_until(is_settled, min(SETTLE_S, call.timeout_s), call, reach)


async def look_until(
    is_so: Callable[[FirmwareState], bool], within_s: float, call: Call, reach: Reach
) -> FirmwareState:
    """Look again and again; what is seen last is returned, also when time is up."""
    until_ms = reach.now_ms() + int(within_s * 1000)
    while True:
        state = await look(call, reach)
        if is_so(state) or reach.now_ms() >= until_ms:
            return state
        await reach.sleep(LOOK_EVERY_S)


async def until_online(call: Call, reach: Reach) -> None:
    """Wait until the device answers. Raises what it raised last when time is up."""
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


def active_of(state: FirmwareState, image: int = 0) -> FirmwareImage:
    """The image that runs. Raises Stop."""
    if state.in_recovery:
        text = "no application runs: the bootloader waits for an image (firmware.recover)"
        raise Stop("version_mismatch", text)
    active = state.of(image).active
    if active is None:
        which = f"image {image}" if image else "image"
        raise Stop("version_mismatch", f"the device lists no running {which}")
    return active


def check_image(uploaded: Uploaded, active: FirmwareImage) -> None:
    """Is what runs the image that was uploaded? Without an upload there is nothing to compare."""
    if uploaded.image_hash and active.image_hash:
        if active.image_hash == uploaded.image_hash:
            return
        is_old = active.image_hash == uploaded.previous_hash
    elif uploaded.version:
        if same_version(active.version, uploaded.version):
            return
        is_old = same_version(active.version, uploaded.previous_version)
    else:
        return
    label, wanted = uploaded.label, uploaded.version
    if is_old:
        text = f"{label}the device runs {active.version} again, not {wanted}"
        raise Stop("rolled_back", text)
    text = f"{label}another image runs: {active.version}, not {wanted}"
    raise Stop("version_mismatch", text)


async def read_image(fetched: FetchedArtifact) -> Image:
    """An image that was checked before its first byte is sent. Raises Stop."""
    try:
        return await asyncio.to_thread(lambda: parse_image(Path(fetched.path).read_bytes()))
    except ImageInvalid as error:
        raise Stop("image_invalid", str(error)) from error


def check_place(image: Image, slot: int, state: FirmwareState) -> None:
    """Raise Stop for an image that is linked for another slot than the one it is to run in."""
    address = image.header.fixed_address
    if address is None or slot >= len(state.slot_addresses):
        return
    there = state.slot_addresses[slot]
    if address != there:
        text = f"the image is linked for {address:#x}, but slot {slot} lies at {there:#x}"
        raise Stop("image_invalid", text)


def lists_hashes(state: FirmwareState) -> bool:
    return all(image.image_hash for image in state.images)


def same_version(one: str, other: str) -> bool:
    """As images count: 1.2.3 is 1.2.3.0 and 1.2.3+0; other words must be the same."""
    try:
        return parse_version(one) == parse_version(other)
    except ImageInvalid:
        return one.strip() == other.strip()


def facts(image_hash: str, version: str) -> dict[str, JsonValue]:
    return {"version": version, "hash": image_hash}


def about(image: FirmwareImage) -> dict[str, JsonValue]:
    return {**facts(image.image_hash, image.version), "confirmed": image.confirmed}


def about_all(images: list[FirmwareImage]) -> dict[str, JsonValue]:
    """The first image's facts, and a list of all where there are several."""
    first = about(images[0])
    if len(images) == 1:
        return {**first, "image": images[0].image} if images[0].image else first
    return {**first, "images": [{"image": each.image, **about(each)} for each in images]}
