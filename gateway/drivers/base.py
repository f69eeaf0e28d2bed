"""What every driver offers: one device protocol, opened once for each device link.

A refusal is returned, because it is an answer. A dead line is raised (`DeviceUnreachable`), because
it is not; so is an answer that cannot be read (`ReplyGarbled`).
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, JsonValue

from contract.device.mcuboot import BootMode
from gateway.domain.facts import Instant
from gateway.journal.database import Database
from gateway.transports.base import MessageLink, Turns


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
class ReadPoints:
    """Read named points; the result is `{"values": {name: value}}`."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class WritePoints:
    """Write named points; `resumed` as in a Command. The result is as that of ReadPoints."""

    values: Mapping[str, JsonValue]
    resumed: bool = False


@dataclass(frozen=True)
class ReadFirmware:
    """Read which images the device holds, and which one runs. Answered with a FirmwareState."""


@dataclass(frozen=True)
class UploadFirmware:
    """Bring an image onto the device, going on where the device says it is.

    `path` is the verified file in the artifact cache, `url` where the device itself may fetch it.
    `image` is 0 for the application, and counts on where a device has several.
    """

    path: Path
    sha256: str
    size: int
    image_hash: str
    version: str
    url: str
    slot: int | None = None
    image: int = 0


@dataclass(frozen=True)
class TestFirmware:
    """Have the next boot try the image with this hash.

    `restart` is the `request` of the Reset that brings that boot: once made, it is no trial again.
    """

    __test__ = False  # a name that pytest would collect

    image_hash: str
    restart: str = ""


@dataclass(frozen=True)
class ConfirmFirmware:
    """Keep the image that runs; `image_hash` names it where it is not the application's."""

    image_hash: str = ""


@dataclass(frozen=True)
class RollbackFirmware:
    """Have the next boot run the other, confirmed image.

    Answered with `{"reset_needed": true}` where a restart brings it. `restart` is the `request` of
    that Reset: once it was made the answer is `{"done": true}`, and nothing is chosen again.
    """

    image: int = 0
    restart: str = ""


@dataclass(frozen=True)
class Reset:
    """Restart the device. Answered before it goes down, where the protocol can.

    `into_recovery`: its bootloader shall wait for an image. `request` names it, for a device whose
    restart ends the asking process too: asked again with the same name, it has been done.
    """

    force: bool = False
    into_recovery: bool = False
    request: str = ""


@dataclass(frozen=True)
class Probe:
    """Is the device there? Answered with its facts; cheap, and safe at any time."""


@dataclass(frozen=True)
class ReadCertificate:
    """Read which certificates a slot holds. Answered with a CertificateState."""

    slot: int = 0


@dataclass(frozen=True)
class MakeCsr:
    """Have the device make a key and give `{csr, key_id}`: PEM, hex.

    `request` names the key: asked again with the same name, a device gives the same.
    """

    request: str
    subject: str
    slot: int = 0


@dataclass(frozen=True)
class InstallCertificate:
    """Put a certificate of the key made last beside the one in use. Texts are PEM."""

    certificate: str
    chain: str
    fingerprint: str
    slot: int = 0


@dataclass(frozen=True)
class TestCertificate:
    """Have the device connect with the new certificate; a restart ends the trial."""

    __test__ = False  # a name that pytest would collect

    fingerprint: str
    slot: int = 0


@dataclass(frozen=True)
class CommitCertificate:
    """Keep the certificate on trial for good, and destroy the one before."""

    fingerprint: str
    slot: int = 0


class StopWord:
    """How a step under way learns of a cancel: asked, it may end by itself; forced, it is ended."""

    def __init__(self) -> None:
        self.is_asked = False
        self.is_forced = False
        self._told: list[Callable[[], None]] = []

    def on_asked(self, tell: Callable[[], None]) -> None:
        self._told.append(tell)
        if self.is_asked:
            tell()

    def ask(self) -> None:
        self.is_asked = True
        for tell in self._told:
            tell()

    def force(self) -> None:
        self.is_forced = True


@dataclass(frozen=True)
class Delegate:
    """Hand the device a whole job document, and follow it to its end.

    `work_s` is how long the device may take once it has begun. The step's own time is over at
    `until_s` of the loop's clock. `resumed` as in a Command: what was begun is found again.
    """

    task: str
    attempt: int
    step: str
    document: Mapping[str, JsonValue]
    until_s: float
    stop: StopWord
    work_s: float | None = None
    resumed: bool = False


CertificateRequest = (
    ReadCertificate | MakeCsr | InstallCertificate | TestCertificate | CommitCertificate
)
DeviceRequest = (
    Command
    | ReadPoints
    | WritePoints
    | ReadFirmware
    | UploadFirmware
    | TestFirmware
    | ConfirmFirmware
    | RollbackFirmware
    | Reset
    | Probe
    | Delegate
    | CertificateRequest
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
    image: int = 0


@dataclass(frozen=True)
class FirmwareState:
    """What a device holds. `takes` says which files it can start.

    MCUboot images; `bundle`: files that it knows by their sha256 and starts when it is told to;
    or any, which it starts as soon as it has them. `unmarks`: what the next boot would try can be
    taken back without that boot.

    `slot_size` is image 0's, `slot_sizes` those of images by number, in bytes. `in_recovery`: no
    application runs, the bootloader waits for an image. `slot_addresses`: where in flash the
    slots lie, as the settings say.
    """

    images: tuple[FirmwareImage, ...]
    slot_size: int | None = None
    takes: Literal["mcuboot", "bundle", "any"] = "mcuboot"
    mode: BootMode = ""
    in_recovery: bool = False
    slot_sizes: Mapping[int, int] = field(default_factory=dict)
    slot_addresses: tuple[int, ...] = ()
    unmarks: bool = False

    @property
    def active(self) -> FirmwareImage | None:
        return next((image for image in self.images if image.active), None)

    def holding(self, image_hash: str) -> FirmwareImage | None:
        return next((i for i in self.images if i.image_hash == image_hash), None)

    def of(self, image: int) -> "FirmwareState":
        """What it holds of one image."""
        return replace(
            self,
            images=tuple(i for i in self.images if i.image == image),
            slot_size=self.slot_sizes.get(image, None if image else self.slot_size),
        )

    @property
    def boots_newest(self) -> bool:
        """Images run where they lie, or from RAM; of the two, the newer one does."""
        return self.mode in ("direct_xip", "direct_xip_revert", "ram_load")

    @property
    def has_test(self) -> bool:
        return self.mode not in ("direct_xip", "ram_load")

    @property
    def has_way_back(self) -> bool:
        """Whether the bootloader goes back from an image that nobody confirms."""
        return self.mode in ("", "swap", "direct_xip_revert")


@dataclass(frozen=True)
class CertificateState:
    """What a certificate slot holds: fingerprints, sha256 of the DER in hex, empty for none.

    `active` is kept, `pending` waits beside it, `in_use` is what the device connects with; `why`
    says why that is not the pending one.
    """

    active: str = ""
    in_use: str = ""
    pending: str = ""
    why: str = ""


@dataclass(frozen=True)
class DeviceFacts:
    """What a driver learnt when it opened the link; shown as the device's attributes."""

    values: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """The device did it. `firmware` is set for ReadFirmware, `certificate` for ReadCertificate."""

    result: JsonValue = None
    firmware: FirmwareState | None = None
    certificate: CertificateState | None = None


@dataclass(frozen=True)
class Refused:
    """The device said no. `code` is one of `contract.failures`, `text` has the device's words."""

    code: str
    text: str
    result: JsonValue = None


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


# What a device says of its state by itself; called from the loop, must be quick.
OnValues = Callable[[Mapping[str, JsonValue]], None]


class Listening(Protocol):
    """Hears what one device says of its state, beside whoever works with the device."""

    async def keep(self) -> None:
        """Hear, again if need be; called every few seconds. Raises DeviceUnreachable."""
        ...

    async def close(self) -> None: ...


T = TypeVar("T")


@dataclass(frozen=True)
class Surroundings:
    """What drivers share: the local broker, the profiles by name, chance, and each other's lines.

    `messages` is None where no broker is configured. `new_number` gives 0 to 255, `new_id` a
    fresh word. Drivers of one bus find the line they share under its name in `shared`, and take
    its turns from `turns`. What a driver puts into `loops` while it is built runs, under that name,
    for as long as the gateway does; `journal` is where it keeps what must not be lost.
    """

    messages: MessageLink | None
    profiles: Mapping[str, BaseModel]
    new_number: Callable[[], int]
    new_id: Callable[[], str]
    turns: Turns
    shared: dict[str, Any] = field(default_factory=dict)
    journal: Database | None = None
    clock: Callable[[], Instant] = lambda: Instant(0, 0)
    loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)

    def share(self, name: str, make: Callable[[], T]) -> T:
        """What is shared under a name, made by whoever asks first."""
        if name not in self.shared:
            self.shared[name] = make()
        found: T = self.shared[name]
        return found


@dataclass(frozen=True)
class Bus:
    """What a device shares with others: one exchange at a time goes over it.

    `name` is such as `serial:/dev/ttyUSB0`. `seat` tells the devices on it apart (`unit 3`); a
    device without one has the bus for itself. `manners` are what all on it must have alike, such
    as the baud rate.
    """

    name: str
    seat: str | None = None
    manners: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class DriverKind:
    """One driver, as the registry and the settings know it.

    `options` validates what a device's settings say beside what all devices have. `make` takes
    device id, options, surroundings and where the device's own log goes; it only builds, and
    raises SettingsInvalid. `address` shows people where the device is. `bus` gives what it
    shares, None for nothing. `profile` is the model of its profiles' YAML, for options with a
    key `profile`. `keeps_open`: its link shares a connection, so there is none to let go of.
    `takes_turns`: it takes the bus's turn for each exchange by itself, so that a long request lets
    the neighbours in; else the bus is held for it while it performs. `listen` hears what devices
    say by themselves, for those whose settings collect it; None: they only speak when asked.
    """

    options: type[BaseModel]
    make: Callable[[str, Any, Surroundings, OnDeviceLog], Driver]
    summary: str
    address: Callable[[Any], str]
    bus: Callable[[Any], Bus | None] = lambda options: None
    profile: type[BaseModel] | None = None
    needs_broker: bool = False
    keeps_open: bool = False
    takes_turns: bool = False
    listen: Callable[[str, Any, Surroundings, OnValues], Listening] | None = None
