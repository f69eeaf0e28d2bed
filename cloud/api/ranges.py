"""The Range header: one range of bytes, as downloads resume with. Source: RFC 9110, section 14."""

import re
from dataclasses import dataclass
from typing import Final

_ONE_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True)
class Part:
    """What to send: `length` bytes from `start`."""

    start: int
    length: int


class RangeInvalid(ValueError):
    """The range lies outside the file."""


def parse_range(header: str | None, size: int) -> Part | None:
    """The part asked for; None for the whole file, also when the header is not understood.

    Several ranges in one request are answered with the whole file, which the RFC allows.
    Raises RangeInvalid when there is no such part.
    """
    match = _ONE_RANGE.fullmatch(header.strip().replace(" ", "")) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        if not length:
            raise RangeInvalid(f"the file has {size} bytes")
        return Part(size - length, length)
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeInvalid(f"the file has {size} bytes, byte {start} is behind its end")
    return Part(start, end - start + 1)
