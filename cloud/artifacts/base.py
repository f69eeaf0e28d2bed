"""What an artifact store does, and what can be told from an artifact's bytes."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from cloud.errors import Invalid
from contract.device.mcuboot import HEADER_MAGIC, ImageInvalid, parse_image

T = TypeVar("T")

MAX_IMAGE_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True)
class Stored:
    """A file that is safely on its medium. Size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class ImageFacts:
    """What an MCUboot image says of itself; `hash` is what a device lists, in hex."""

    version: str
    hash: str


class ArtifactStore(Protocol):
    """Bytes by sha256. A digest that is not 64 hex digits is never looked for."""

    async def save(
        self, chunks: AsyncIterator[bytes], limit: int, inspect: Callable[[Path], T]
    ) -> tuple[Stored, T]:
        """Keep what the chunks hold, at most `limit` bytes.

        `inspect` sees the whole file first, in a thread; when it raises, nothing is kept.
        Raises Invalid (`too_large`) and StorageFull.
        """
        ...

    async def size(self, sha256: str) -> int | None:
        """The size in bytes; None when it is not here."""
        ...

    def read(self, sha256: str, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes from `start`, in chunks. Only for what `size` has found."""
        ...


def inspect_image(path: Path, must_be_image: bool) -> ImageFacts | None:
    """Read a file as MCUboot image when it begins like one, or has to be one.

    Raises Invalid (`image_invalid`), which says what is wrong.
    """
    with path.open("rb") as file:
        begins_like_one = file.read(4) == HEADER_MAGIC.to_bytes(4, "little")
    if not (begins_like_one or must_be_image):
        return None
    if path.stat().st_size > MAX_IMAGE_BYTES:
        raise Invalid("image_invalid", f"larger than {MAX_IMAGE_BYTES} bytes: no slot holds that")
    try:
        image = parse_image(path.read_bytes())
    except ImageInvalid as error:
        raise Invalid("image_invalid", str(error)) from None
    return ImageFacts(image.version, image.hash.hex())
