"""Texts that people write in any language: what they may hold, and what is refused at once."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, StringConstraints


def _printable(text: str, allowed: str = "") -> str:
    for char in text:
        # Control characters and halves of a pair: no language writes them, databases refuse them.
        if unicodedata.category(char) in ("Cc", "Cs") and char not in allowed:
            raise ValueError(f"U+{ord(char):04X} is no character that can be shown")
    return text


def _lines(text: str) -> str:
    return _printable(text, "\n\r\t")


OneLine = AfterValidator(_printable)
Lines = AfterValidator(_lines)
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True), OneLine
]
