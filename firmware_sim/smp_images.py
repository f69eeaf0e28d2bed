"""What an SMP device says of its images: the state list, slot sizes, the bootloader's mode."""

from collections.abc import Sequence
from typing import Any, Final

from firmware_sim.flash import Flash, Mode, StoredImage, Swap

# Source: MCUboot, `enum mcuboot_mode`.
_MODES: Final = {
    Mode.OVERWRITE: 2,
    Mode.SWAP: 3,  # using move
    Mode.DIRECT_XIP: 4,
    Mode.DIRECT_XIP_REVERT: 5,
    Mode.RAM_LOAD: 6,
}


def bootloader_mode(query: object, mode: Mode) -> dict[str, Any] | None:
    """The answer to a query about the bootloader; None for one that it does not know."""
    match query:
        case "":
            return {"bootloader": "MCUboot"}
        case "mode":
            return {"mode": _MODES[mode]}
        case _:
            return None


def room(image: int, flash: Flash) -> dict[str, Any]:
    """What one image's slots have room for, in bytes."""
    slots = [{"slot": slot, "size": flash.slot_size} for slot in (0, 1)]
    slots[1 - flash.active_slot]["upload_image_id"] = image
    return {"image": image, "slots": slots, "max_image_size": flash.slot_size}


def held(flash: Flash) -> list[dict[str, Any]]:
    """Slots with a valid image, as MCUboot itself lists them."""
    stored = {flash.active_slot: flash.running, 1 - flash.active_slot: flash.other}
    return [
        {"slot": slot, "version": image.version, "hash": image.hash}
        for slot, image in sorted(stored.items())
        if image is not None and image.is_whole
    ]


def state(images: Sequence[Flash]) -> dict[str, Any]:
    """The state list; slots without a valid image are left out."""
    entries = [entry for n, flash in enumerate(images) for entry in _entries(n, flash)]
    return {"images": entries, "splitStatus": 0}


def _entries(image: int, flash: Flash) -> list[dict[str, Any]]:
    pending = flash.swap is not Swap.NONE
    has_test = flash.mode.has_test
    running = _listed(image, flash.active_slot, flash.running) | {
        "pending": False,
        "confirmed": flash.is_confirmed and has_test,
        "active": True,
        "permanent": False,
    }
    if flash.other is None:
        return [running]
    other = _listed(image, 1 - flash.active_slot, flash.other) | {
        "pending": pending,
        # the way back of a test boot; in direct XIP it stays confirmed where it lies
        "confirmed": has_test and flash.is_other_kept
        if flash.mode.is_in_place
        else not flash.is_confirmed,
        "active": False,
        "permanent": flash.swap is Swap.PERMANENT,
    }
    return sorted([running, other], key=lambda entry: int(entry["slot"]))


def _listed(number: int, slot: int, image: StoredImage) -> dict[str, Any]:
    entry = {"image": number, "slot": slot, "version": image.version}
    return {**entry, "hash": image.hash, "bootable": True}
