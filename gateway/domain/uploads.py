"""What an attempt remembers of the images that it brought to its device."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue


@dataclass(frozen=True)
class Uploaded:
    """What the attempt brought to the device for one image; empty texts where nothing is known."""

    image: int = 0
    image_hash: str = ""
    version: str = ""
    previous_hash: str = ""
    previous_version: str = ""

    @property
    def label(self) -> str:
        return f"image {self.image}: " if self.image else ""


def uploads_of(memory: Mapping[str, JsonValue]) -> tuple[Uploaded, ...]:
    """Every image that was uploaded in the attempt; of none, an empty one for the application.

    The application's stands in the memory itself, as it did before there were several.
    """
    further = memory.get("further_images")
    numbered = further if isinstance(further, Mapping) else {}
    found = [
        _uploaded(int(number), about)
        for number, about in sorted(numbered.items())
        if isinstance(about, Mapping)
    ]
    if "image_hash" in memory or not found:
        found.insert(0, _uploaded(0, memory))
    return tuple(found)


def _uploaded(image: int, about: Mapping[str, JsonValue]) -> Uploaded:
    def text(key: str) -> str:
        value = about.get(key)
        return value if isinstance(value, str) else ""

    return Uploaded(
        image,
        text("image_hash"),
        text("version"),
        text("previous_hash"),
        text("previous_version"),
    )
