"""What every driver offers: one device protocol, opened once for each device link.

A refusal is returned, because it is an answer. A dead line is raised (`DeviceUnreachable`), because
it is not; so is an answer that cannot be read (`ReplyGarbled`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pydantic import JsonValue


@dataclass(frozen=True)
class Command:
    """A command of the device's own: its result is the device's reply.

    `resumed`: an earlier process sent it and did not see the reply, so a driver repeats it only
    if that does no harm, and raises ReplyGarbled otherwise.
    """

    name: str
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    resumed: bool = False


@dataclass(frozen=True)
class ReadFirmware:
    """Read which images the device holds, and which one runs. Answered with a FirmwareState."""


@dataclass(frozen=True)
class UploadFirmware:
    """Bring an image onto the device, going on where the device says it is.

    `path` is the verified file in the artifact cache, `url` where the device itself may fetch it.
    """

    path: Path
    sha256: str
    size: int
    image_hash: str
    version: str
    url: str
    slot: int | None = None


@dataclass(frozen=True)
class TestFirmware:
    """Have the next boot try the image with this hash."""

    __test__ = False  # a name that pytest would collect

    image_hash: str


@dataclass(frozen=True)
class ConfirmFirmware:
    """Keep the image that runs."""


@dataclass(frozen=True)
class RollbackFirmware:
    """Have the next boot run the other, confirmed image."""


@dataclass(frozen=True)
class Reset:
    """Restart the device. Answered before it goes down, where the protocol can."""

    force: bool = False


@dataclass(frozen=True)
class Probe:
    """Is the device there? Answered with its facts; cheap, and safe at any time."""


DeviceRequest = (
    Command
    | ReadFirmware
    | UploadFirmware
    | TestFirmware
    | ConfirmFirmware
    | RollbackFirmware
    | Reset
    | Probe
)


@dataclass(frozen=True)
class FirmwareImage:
    """One image a device holds. `image_hash` is empty where the protocol has none."""

    slot: int
    version: str
    image_hash: str = ""
    active: bool = False
    confirmed: bool = False
    pending: bool = False
    permanent: bool = False


@dataclass(frozen=True)
class FirmwareState:
    """What a device holds. `takes` says which files it can start: MCUboot images, or any."""

    images: tuple[FirmwareImage, ...]
    slot_size: int | None = None
    takes: Literal["mcuboot", "any"] = "mcuboot"

    @property
    def active(self) -> FirmwareImage | None:
        return next((image for image in self.images if image.active), None)

    def holding(self, image_hash: str) -> FirmwareImage | None:
        return next((i for i in self.images if i.image_hash == image_hash), None)


@dataclass(frozen=True)
class DeviceFacts:
    """What a driver learnt when it opened the link; shown as the device's attributes."""

    values: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """The device did it. `firmware` is set for ReadFirmware."""

    result: JsonValue = None
    firmware: FirmwareState | None = None


@dataclass(frozen=True)
class Refused:
    """The device said no. `code` is one of `contract.failures`, `text` has the device's words."""

    code: str
    text: str


# percent, and a note such as "41 of 93 KiB"
OnProgress = Callable[[float, str], None]
OnDeviceLog = Callable[[str], None]


class Driver(Protocol):
    """One device protocol over one device link, used by one worker at a time."""

    @property
    def is_away(self) -> bool:
        """The device itself has said that it is not there."""
        ...

    async def open(self) -> DeviceFacts:
        """Connect. Raises DeviceUnreachable."""
        ...

    async def perform(
        self, request: DeviceRequest, timeout_s: float, on_progress: OnProgress
    ) -> Answered | Refused:
        """Do it. Raises DeviceUnreachable, ReplyGarbled, StepInvalid (`verb_unsupported`)."""
        ...

    async def close(self) -> None: ...
