"""Two slots of flash holding real MCUboot images: upload, test, boot, revert, confirm, erase.

Values in, values out. The rules are those measured on Zephyr 3.4.0 and 4.4.0 with MCUboot in
swap mode; where the two differ, `Rules` says which one a device follows. For the other modes of
the bootloader see `Mode`; their source is MCUboot's design, "Image slots".
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from contract.device.mcuboot import (
    HEADER_MAGIC,
    HEADER_SIZE,
    Image,
    ImageInvalid,
    parse_image,
    parse_version,
    read_image,
)
from contract.device.mcuboot import parse_header as parse_image_header

HASH_NOT_FOUND: Final = 8
NO_FREE_SLOT: Final = 9
INVALID_SLOT: Final = 14
INVALID_LENGTH: Final = 21
INVALID_HEADER: Final = 22
INVALID_MAGIC: Final = 23
INVALID_HASH: Final = 24
NOT_NEWER: Final = 27
TOO_LARGE: Final = 30
OVERRUN: Final = 31
TEST_OF_ACTIVE: Final = 33


class Mode(StrEnum):
    """How the bootloader starts images: what is in slot 0 (the first two), or the newest of both.

    In direct XIP an image runs where it lies, so it is linked for its slot; with revert it must
    be marked for a test, and is erased unless it is confirmed. RAM_LOAD copies the newest to RAM.
    """

    SWAP = "swap"
    OVERWRITE = "overwrite"
    DIRECT_XIP = "direct_xip"
    DIRECT_XIP_REVERT = "direct_xip_revert"
    RAM_LOAD = "ram_load"

    @property
    def is_in_place(self) -> bool:
        """The active slot may be 1, and the newer version boots."""
        return self not in (Mode.SWAP, Mode.OVERWRITE)

    @property
    def has_test(self) -> bool:
        """Images are marked and confirmed."""
        return self not in (Mode.DIRECT_XIP, Mode.RAM_LOAD)


class Swap(StrEnum):
    """What the bootloader has been asked to do at the next boot."""

    NONE = "none"
    TEST = "test"
    PERMANENT = "permanent"


class Booted(StrEnum):
    """What a boot did with the slots."""

    AS_BEFORE = "as before"
    SWAPPED = "swapped"
    REVERTED = "reverted"
    REFUSED = "refused the image"
    NOTHING = "found nothing to boot"


@dataclass(frozen=True, slots=True)
class Rules:
    """Where firmware ages differ.

    `checks_length`: an upload larger than the slot is refused at once. `guards_pending`: no
    upload or erase while an image is pending. `checks_image`: the device hashes what it got, says
    `match`, and answers the same upload again with its full length.
    """

    checks_length: bool = True
    guards_pending: bool = False
    checks_image: bool = False


ZEPHYR_4_4: Final = Rules()
ZEPHYR_3_4: Final = Rules(checks_length=False, guards_pending=True, checks_image=True)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The bytes of a slot with what MCUboot reads in them; `is_whole` if its hash holds.

    `address` is where it must lie, None where it may lie anywhere.
    """

    data: bytes
    version: str
    hash: bytes
    is_whole: bool
    address: int | None = None


UNBOOTABLE: Final = StoredImage(b"", "0.0.0", b"", is_whole=False)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way (or, once finished, what it was): lives in RAM, lost by a reboot."""

    total: int
    sha256: bytes
    pieces: tuple[bytes, ...] = ()
    received: int = 0

    @property
    def is_complete(self) -> bool:
        return self.received == self.total


@dataclass(frozen=True, slots=True)
class Flash:
    """The image that runs, from `active_slot`; the other slot takes uploads.

    None is an empty slot or one without a valid image. `is_other_kept`: it was confirmed once
    and lies there still (direct XIP). `addresses` are those of the two slots, where it matters.
    """

    slot_size: int
    running: StoredImage
    other: StoredImage | None = None
    swap: Swap = Swap.NONE
    is_confirmed: bool = True
    upload: Upload | None = None
    mode: Mode = Mode.SWAP
    active_slot: int = 0
    is_other_kept: bool = False
    addresses: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One upload request; `total` and `sha256` are there in the first one only."""

    offset: int
    data: bytes
    total: int | None = None
    sha256: bytes = b""
    upgrade: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Answer to a chunk: the next offset; `written` bytes were new; `resumed` from a session."""

    offset: int
    match: bool | None = None
    written: int = 0
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """An image group error code."""

    rc: int


def store(data: bytes) -> StoredImage | None:
    """What MCUboot sees in these bytes; None when there is no image header or no TLVs."""
    try:
        image = read_image(data)
    except ImageInvalid:
        return None
    try:
        parse_image(data)
    except ImageInvalid:
        return _stored(data, image, is_whole=False)
    return _stored(data, image, is_whole=True)


def _stored(data: bytes, image: Image, *, is_whole: bool) -> StoredImage:
    return StoredImage(data, image.version, image.hash, is_whole, image.header.fixed_address)


def fresh(
    image: bytes,
    slot_size: int,
    mode: Mode = Mode.SWAP,
    addresses: tuple[int, int] | None = None,
) -> Flash:
    """A device as the factory ships it. Raises ImageInvalid when it could not boot `image`."""
    parse_image(image)
    running = store(image)
    if running is None or len(image) > slot_size:
        raise ImageInvalid(f"image of {len(image)} bytes does not fit a slot of {slot_size}")
    if addresses is not None and running.address not in (None, addresses[0]):
        raise ImageInvalid(f"image is linked for {running.address:#x}, slot 0 is elsewhere")
    return Flash(slot_size, running, mode=mode, addresses=addresses)


def receive(flash: Flash, chunk: Chunk, rules: Rules) -> tuple[Flash, Wanted | Refusal]:
    """Take one chunk of an upload; the answer's offset is what the sender must obey."""
    if chunk.offset:
        return _go_on(flash, chunk, rules)
    return _begin(flash, chunk, rules)


def _begin(flash: Flash, chunk: Chunk, rules: Rules) -> tuple[Flash, Wanted | Refusal]:
    rc = _why_not(flash, chunk, rules)
    if rc is not None or chunk.total is None:
        return replace(flash, upload=None), Refusal(rc or INVALID_LENGTH)
    session = flash.upload
    if session is not None and chunk.sha256 and chunk.sha256 == session.sha256:
        if not session.is_complete:
            return flash, Wanted(session.received, resumed=session.received > 0)
        if rules.checks_image:
            return flash, Wanted(session.total, match=True)
    upload = Upload(chunk.total, chunk.sha256)
    opened = replace(flash, other=None, is_other_kept=False, swap=Swap.NONE, upload=upload)
    return _write(opened, chunk, rules)


def _why_not(flash: Flash, chunk: Chunk, rules: Rules) -> int | None:
    if len(chunk.data) < HEADER_SIZE:
        return INVALID_HEADER
    if chunk.total is None:
        return INVALID_LENGTH
    if int.from_bytes(chunk.data[:4], "little") != HEADER_MAGIC:
        return INVALID_MAGIC
    if _is_other_slot_in_use(flash, rules):
        return NO_FREE_SLOT
    if rules.checks_length and chunk.total > flash.slot_size:
        return TOO_LARGE
    newer = parse_image_header(chunk.data).version
    if chunk.upgrade and newer <= parse_version(flash.running.version):
        return NOT_NEWER
    return None


def _is_other_slot_in_use(flash: Flash, rules: Rules) -> bool:
    """While a test image runs, the other slot holds the way back."""
    return not flash.is_confirmed or (rules.guards_pending and flash.swap is not Swap.NONE)


def _go_on(flash: Flash, chunk: Chunk, rules: Rules) -> tuple[Flash, Wanted | Refusal]:
    session = flash.upload
    if session is None:
        return flash, Wanted(0)
    if chunk.offset != session.received or session.is_complete:
        return flash, Wanted(session.received)
    return _write(flash, chunk, rules)


def _write(flash: Flash, chunk: Chunk, rules: Rules) -> tuple[Flash, Wanted | Refusal]:
    session = flash.upload
    assert session is not None
    received = session.received + len(chunk.data)
    if received > session.total or received > flash.slot_size:
        return replace(flash, upload=None), Refusal(OVERRUN)
    written = Upload(session.total, session.sha256, (*session.pieces, chunk.data), received)
    answer = Wanted(received, written=len(chunk.data))
    if not written.is_complete:
        return replace(flash, upload=written), answer
    stored = store(b"".join(written.pieces))
    if not rules.checks_image:
        return replace(flash, other=stored, upload=None), answer
    # The pieces are in the slot now; the session keeps only what answers a repeated upload.
    done = Upload(session.total, session.sha256, (), received)
    match = stored is not None and stored.is_whole
    return replace(flash, other=stored, upload=done), replace(answer, match=match)


def install(flash: Flash, data: bytes) -> Flash | Refusal:
    """Put a whole image into slot 1 for a test boot, as a device does that downloads by itself."""
    if len(data) > flash.slot_size:
        return Refusal(TOO_LARGE)
    if not flash.is_confirmed:
        return Refusal(NO_FREE_SLOT)
    stored = store(data)
    if stored is None or not stored.is_whole:
        return Refusal(INVALID_HEADER)
    return replace(flash, other=stored, is_other_kept=False, swap=Swap.TEST, upload=None)


def set_state(flash: Flash, image_hash: bytes | None, *, confirm: bool) -> Flash | Refusal:
    """Mark an image for a test boot (or for good, with `confirm`), or confirm the running one."""
    if image_hash is None:
        return _confirm(flash) if confirm else Refusal(INVALID_HASH)
    if image_hash == flash.running.hash:
        return _confirm(flash) if confirm else Refusal(TEST_OF_ACTIVE)
    if flash.other is None or image_hash != flash.other.hash:
        return Refusal(HASH_NOT_FOUND)
    return replace(flash, swap=Swap.PERMANENT if confirm else Swap.TEST)


def _confirm(flash: Flash) -> Flash:
    """Confirming ends the way back: the old image is no longer listed (measured, swap)."""
    if flash.is_confirmed or flash.mode.is_in_place:
        return replace(flash, is_confirmed=True)
    return replace(flash, is_confirmed=True, other=None, swap=Swap.NONE)


def erase(flash: Flash, slot: int | None, rules: Rules) -> Flash | Refusal:
    """Empty the slot that does not run, which is also what no number means."""
    free = 1 - flash.active_slot
    if slot not in (0, 1, None):
        return Refusal(INVALID_SLOT)
    if slot not in (free, None) or _is_other_slot_in_use(flash, rules):
        return Refusal(NO_FREE_SLOT)
    return replace(flash, other=None, is_other_kept=False, swap=Swap.NONE, upload=None)


def boot(flash: Flash) -> tuple[Flash, Booted]:
    """What MCUboot does after any reset, power cuts included."""
    rested = replace(flash, upload=None)
    after, booted = _boot_newest(rested) if flash.mode.is_in_place else _boot_first(rested)
    return after, booted if after.running.is_whole else Booted.NOTHING


def _boot_first(flash: Flash) -> tuple[Flash, Booted]:
    resting = replace(flash, swap=Swap.NONE)
    if flash.swap is not Swap.NONE and flash.other is not None:
        if not flash.other.is_whole:
            return replace(resting, other=None), Booted.REFUSED
        if flash.mode is Mode.OVERWRITE:
            return replace(resting, running=flash.other, other=None), Booted.SWAPPED
        confirmed = flash.swap is Swap.PERMANENT
        swapped = replace(resting, running=flash.other, other=flash.running)
        return replace(swapped, is_confirmed=confirmed), Booted.SWAPPED
    if not flash.is_confirmed and flash.other is not None:
        reverted = replace(resting, running=flash.other, other=flash.running, is_confirmed=True)
        return reverted, Booted.REVERTED
    return resting, Booted.AS_BEFORE


def _boot_newest(flash: Flash) -> tuple[Flash, Booted]:
    """The newer of the two; what may not boot is erased, and the other one has its turn."""
    emptied = replace(flash, other=None, is_other_kept=False, swap=Swap.NONE)
    if flash.other is not None and _is_other_newer(flash, flash.other):
        is_marked = not flash.mode.has_test or flash.swap is not Swap.NONE or flash.is_other_kept
        if not flash.other.is_whole or not _is_in_place(flash, flash.other) or not is_marked:
            return emptied, Booted.REFUSED
        is_tested = flash.swap is not Swap.PERMANENT and not flash.is_other_kept
        return _turned(flash, is_confirmed=not (flash.mode.has_test and is_tested)), Booted.SWAPPED
    if not flash.is_confirmed and flash.other is not None:
        back = _turned(flash, is_confirmed=True)
        return replace(back, other=None, is_other_kept=False), Booted.REVERTED
    return flash, Booted.AS_BEFORE


def _is_other_newer(flash: Flash, other: StoredImage) -> bool:
    if not flash.running.is_whole:
        return True
    # MCUboot leaves the build number out, and of equals takes slot 0.
    ours, theirs = (parse_version(i.version) for i in (flash.running, other))
    order = [(v.major, v.minor, v.revision) for v in (ours, theirs)]
    return order[1] > order[0] or (order[1] == order[0] and flash.active_slot == 1)


def _is_in_place(flash: Flash, other: StoredImage) -> bool:
    if flash.addresses is None or other.address is None:
        return True
    return other.address == flash.addresses[1 - flash.active_slot]


def _turned(flash: Flash, *, is_confirmed: bool) -> Flash:
    assert flash.other is not None
    return replace(
        flash,
        running=flash.other,
        other=flash.running if flash.running.is_whole else None,
        active_slot=1 - flash.active_slot,
        is_confirmed=is_confirmed,
        is_other_kept=flash.is_confirmed,
        swap=Swap.NONE,
    )
