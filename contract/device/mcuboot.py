"""MCUboot images: header, TLVs, version and hash, so that a bad file never reaches a device.

Source: MCUboot design, "Image format".
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Literal

HEADER_SIZE: Final = 32
HEADER_MAGIC: Final = 0x96F3B83D
TLV_MAGIC: Final = 0x6907
PROTECTED_TLV_MAGIC: Final = 0x6908
SLOT_TRAILER_MAGIC: Final = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")

# How the bootloader starts images; empty where it does not say, or says what we do not know.
BootMode = Literal["", "swap", "overwrite", "direct_xip", "direct_xip_revert", "ram_load"]
# Source: MCUboot, `enum mcuboot_mode`.
BOOT_MODES: Final[Mapping[int, BootMode]] = {
    1: "swap",  # using scratch
    2: "overwrite",
    3: "swap",  # using move
    4: "direct_xip",
    5: "direct_xip_revert",
    6: "ram_load",
    9: "swap",  # using offset
}

_HEADER: Final = struct.Struct("<IIHHIIBBHII")
_TLV: Final = struct.Struct("<HH")


class ImageInvalid(Exception):
    """These bytes are no whole, undamaged MCUboot image; the text says why."""


class TlvType(IntEnum):
    KEY_HASH = 0x01
    PUBLIC_KEY = 0x02
    SHA256 = 0x10
    SHA384 = 0x11
    SHA512 = 0x12
    RSA2048 = 0x20
    ECDSA = 0x22
    RSA3072 = 0x23
    ED25519 = 0x24
    SIGNATURE_PURE = 0x25
    DEPENDENCY = 0x40
    SECURITY_COUNTER = 0x50
    BOOT_RECORD = 0x60


class ImageFlag(IntFlag):
    ENCRYPTED_AES128 = 0x4
    ENCRYPTED_AES256 = 0x8
    NON_BOOTABLE = 0x10
    RAM_LOAD = 0x20
    ROM_FIXED = 0x100


_HASHES: Final = {
    TlvType.SHA256: hashlib.sha256,
    TlvType.SHA384: hashlib.sha384,
    TlvType.SHA512: hashlib.sha512,
}
_SIGNATURES: Final = frozenset({0x20, 0x21, 0x22, 0x23, 0x24})


@dataclass(frozen=True, slots=True, order=True)
class ImageVersion:
    """major.minor.revision.build; the build stays unwritten while it is 0, as devices do it."""

    major: int
    minor: int
    revision: int
    build: int = 0

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.revision}"
        return f"{text}.{self.build}" if self.build else text


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The first 32 bytes of an image; all sizes in bytes."""

    load_address: int
    header_size: int
    protected_tlv_size: int
    image_size: int
    flags: int
    version: ImageVersion

    @property
    def is_encrypted(self) -> bool:
        return bool(self.flags & (ImageFlag.ENCRYPTED_AES128 | ImageFlag.ENCRYPTED_AES256))

    @property
    def fixed_address(self) -> int | None:
        """Where in flash the image must lie, if it says so: linked for one slot (direct XIP)."""
        return self.load_address if self.flags & ImageFlag.ROM_FIXED else None


@dataclass(frozen=True, slots=True)
class Tlv:
    """One entry of the trailer; `type` as in TlvType, where it is known."""

    type: int
    value: bytes
    is_protected: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """What an image says of itself.

    `hash` is the TLV hash (what a device lists), `size` the bytes up to the last TLV: the file
    may be longer (padding, a slot trailer).
    """

    header: ImageHeader
    tlvs: tuple[Tlv, ...]
    hash: bytes
    size: int

    @property
    def version(self) -> str:
        return str(self.header.version)

    @property
    def is_signed(self) -> bool:
        return any(tlv.type in _SIGNATURES for tlv in self.tlvs)


def parse_header(image: bytes) -> ImageHeader:
    """Read the header at the start of an MCUboot image.

    `image` holds at least the 32 header bytes, little-endian; all sizes are in bytes.
    Raises ImageInvalid when the magic is wrong or the image is shorter than a header.
    Source: MCUboot design, "Image format".
    """
    if len(image) < HEADER_SIZE:
        raise ImageInvalid(f"{len(image)} bytes are too short for an MCUboot header (32 bytes)")
    magic, load, header_size, protected, size, flags, major, minor, rev, build, _ = (
        _HEADER.unpack_from(image)
    )
    if magic != HEADER_MAGIC:
        raise ImageInvalid(
            f"not an MCUboot image: it starts with {magic:#010x} instead of {HEADER_MAGIC:#010x} "
            "(an unsigned build, or another format?)"
        )
    version = ImageVersion(major, minor, rev, build)
    return ImageHeader(load, header_size, protected, size, flags, version)


def read_image(image: bytes) -> Image:
    """Read header and TLVs without checking the hash, as a device does when it lists its slots.

    Bytes after the TLVs are allowed. Raises ImageInvalid with a sentence for people.
    """
    return _read(image)[0]


def parse_image(image: bytes) -> Image:
    """Read and check a whole image: header, TLVs, and the hash over header, body, protected TLVs.

    An encrypted image was hashed before it was encrypted: its hash is read but cannot be checked.
    Raises ImageInvalid with a sentence for people.
    """
    found, hash_type, hashed_end = _read(image)
    if not found.header.is_encrypted:
        actual = _HASHES[hash_type](image[:hashed_end]).digest()
        if actual != found.hash:
            raise ImageInvalid(
                f"image is damaged: its hash is {actual.hex()[:16]}..., "
                f"its TLV says {found.hash.hex()[:16]}..."
            )
    return found


def parse_version(text: str) -> ImageVersion:
    """Read "1.2.3" or "1.2.3.4" (also "1.2.3+4", as imgtool writes it).

    Raises ImageInvalid when it is neither, or a part is out of its range (255, 255, 65535, u32).
    """
    parts = text.strip().replace("+", ".").split(".")
    if not 3 <= len(parts) <= 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ImageInvalid(f"{text!r} is no image version like 1.2.3 or 1.2.3.4")
    numbers = [int(part) for part in parts]
    limits = (0xFF, 0xFF, 0xFFFF, 0xFFFF_FFFF)
    if any(number > limit for number, limit in zip(numbers, limits, strict=False)):
        raise ImageInvalid(f"image version {text!r} has a part over {limits}")
    return ImageVersion(*numbers)


def _read(image: bytes) -> tuple[Image, TlvType, int]:
    """Return the image, the type of its hash, and where the hashed bytes end."""
    header = parse_header(image)
    if header.header_size < HEADER_SIZE:
        raise ImageInvalid(f"header says it is {header.header_size} bytes long, 32 is the least")
    body_end = header.header_size + header.image_size
    if len(image) < body_end + _TLV.size:
        raise ImageInvalid(
            f"image is cut short: header and body take {body_end} bytes and TLVs follow, "
            f"the file has {len(image)}"
        )
    protected, hashed_end = _protected_area(image, body_end, header.protected_tlv_size)
    plain, end = _area(image, hashed_end, TLV_MAGIC)
    tlvs = (*protected, *plain)
    found = _hash_tlv(tlvs)
    return Image(header, tlvs, found.value, end), TlvType(found.type), hashed_end


def _protected_area(image: bytes, start: int, size: int) -> tuple[list[Tlv], int]:
    if not size:
        return [], start
    tlvs, end = _area(image, start, PROTECTED_TLV_MAGIC)
    if end - start != size:
        raise ImageInvalid(f"header says {size} bytes of protected TLVs, they are {end - start}")
    return tlvs, end


def _area(image: bytes, start: int, expected_magic: int) -> tuple[list[Tlv], int]:
    """Read one TLV area that starts at `start`; return its entries and its end."""
    if len(image) < start + _TLV.size:
        raise ImageInvalid("image is cut short: its TLVs are missing")
    magic, total = _TLV.unpack_from(image, start)
    if magic != expected_magic:
        raise ImageInvalid(
            f"no TLVs at byte {start}: {magic:#06x} stands there instead of {expected_magic:#06x}"
        )
    end = start + total
    if total < _TLV.size or len(image) < end:
        raise ImageInvalid(f"image is cut short: its TLVs end at byte {end} of {len(image)}")
    is_protected = expected_magic == PROTECTED_TLV_MAGIC
    return [*_entries(image, start + _TLV.size, end, is_protected)], end


def _entries(image: bytes, at: int, end: int, is_protected: bool) -> Iterator[Tlv]:
    while at < end:
        if end - at < _TLV.size:
            raise ImageInvalid(f"TLV at byte {at} is cut short")
        kind, length = _TLV.unpack_from(image, at)
        at += _TLV.size
        if at + length > end:
            raise ImageInvalid(f"TLV {kind:#06x} at byte {at - 4} reaches over the end of the TLVs")
        yield Tlv(kind, bytes(image[at : at + length]), is_protected)
        at += length


def _hash_tlv(tlvs: tuple[Tlv, ...]) -> Tlv:
    found = [tlv for tlv in tlvs if tlv.type in _HASHES and not tlv.is_protected]
    if len(found) != 1:
        raise ImageInvalid(f"image has {len(found)} hash TLVs, it needs one (sign it with imgtool)")
    return found[0]
