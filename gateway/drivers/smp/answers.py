"""SMP replies as a driver's answers: what was done, what was refused, which images there are."""

from collections.abc import Callable
from typing import Any, Final, assert_never

from pydantic import JsonValue

from contract.device import smp
from contract.device.smp import Response, SmpError
from gateway.drivers.base import Answered, FirmwareImage, FirmwareState, Refused
from gateway.transports.smp_upload import Sent

IMAGE_TOO_LARGE: Final = 30


def outcome(reply: Response, result: Callable[[], JsonValue] = lambda: None) -> Answered | Refused:
    error = reply.error
    return Answered(result()) if error is None else refusal(error, "device_refused")


def refusal(error: SmpError, code: str) -> Refused:
    if error.is_not_supported:
        code = "verb_unsupported"
    group = "" if error.group is None else f", group {error.group}"
    return Refused(code, f"{error.name} (code {error.rc}{group})")


def sent(outcome: Sent | SmpError | str) -> Answered | Refused:
    match outcome:
        case Sent():
            return Answered({"bytes": outcome.size})
        case SmpError():
            too_large = outcome.group == smp.Group.IMAGE and outcome.rc == IMAGE_TOO_LARGE
            return refusal(outcome, "image_too_large" if too_large else "image_refused")
        case str():
            return Refused("image_refused", outcome)
    assert_never(outcome)


def is_pending(state: FirmwareState) -> bool:
    return any(image.pending for image in state.images)


def image(slot: smp.ImageSlot, is_kept: bool) -> FirmwareImage:
    return FirmwareImage(
        slot.slot,
        slot.version,
        slot.hash.hex() if slot.hash else "",
        slot.active,
        slot.confirmed or (is_kept and slot.active),
        slot.pending,
        slot.permanent,
        slot.image,
    )


def about(image: FirmwareImage) -> dict[str, JsonValue]:
    return {"version": image.version, "hash": image.image_hash, "confirmed": image.confirmed}


def listed(state: FirmwareState) -> JsonValue:
    return [
        {**about(i), "image": i.image, "slot": i.slot, "active": i.active, "pending": i.pending}
        for i in state.images
    ]


def as_json(value: Any) -> JsonValue:
    """CBOR to JSON: bytes as hex, what JSON has no name for as text."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.hex()
        case list() | tuple():
            return [as_json(item) for item in value]
        case dict():
            return {str(key): as_json(item) for key, item in value.items()}
    return str(value)
