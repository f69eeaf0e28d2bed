"""Durations as people write them: ISO 8601, `90s`, `1h30m`, or milliseconds as a number.

One parser and one compact text form for job documents, settings, messages and the command line.
"""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

LONGEST: Final = timedelta(days=3650)
EXAMPLES: Final = "90s, 15m, 1h30m, 2 days, 500ms, PT15M, or milliseconds as a number"
_LONGEST_TEXT: Final = 64

_MICROSECONDS: Final = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
}
_WORDS: Final = {
    "w": ("w", "wk", "wks", "week", "weeks"),
    "d": ("d", "day", "days"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "msecs", "millisecond", "milliseconds"),
}
_UNITS: Final = {word: unit for unit, words in _WORDS.items() for word in words}
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.ASCII)
_NUMBER: Final = r"(\d+(?:[.,]\d+)?)"
_ISO: Final = re.compile(
    rf"p(?:{_NUMBER}w)?(?:{_NUMBER}d)?(?:t(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?)?", re.ASCII
)


def parse_duration(value: object) -> timedelta:
    """Read a duration from text, a number of milliseconds, or a timedelta.

    Text is ISO 8601 without years and months (`PT15M`, `P1DT2H`) or numbers with units
    (`1h30m`, `1.5h`, `2 days`). The result lies between zero and 3650 days, in whole microseconds.
    Raises ValueError with examples for anything else.
    """
    if isinstance(value, timedelta):
        return _bounded(value)
    if isinstance(value, str):
        return _bounded(_from_text(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value <= LONGEST / timedelta(milliseconds=1):
            raise ValueError(_out_of_bounds("the number"))
        return _bounded(timedelta(milliseconds=value))
    raise ValueError(f"a duration is text or a number of milliseconds, such as {EXAMPLES}")


def format_duration(value: timedelta) -> str:
    """Write a duration as compact text (`1h30m`) that parses back to exactly the same value."""
    rest = value // timedelta(microseconds=1)
    if rest < 0:
        raise ValueError("a duration is never negative")
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _MICROSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{Decimal(rest) / 1000:f}ms")
    return "".join(parts) or "0s"


def _from_text(text: str) -> timedelta:
    lowered = text.strip().lower()
    if not lowered or len(text) > _LONGEST_TEXT:
        raise ValueError(_not_understood(text))
    amounts = _iso_amounts(lowered) if lowered[0] == "p" else _unit_amounts(lowered)
    if not amounts:
        raise ValueError(_not_understood(text))
    total = sum(number * _MICROSECONDS[unit] for unit, number in amounts.items())
    if total > LONGEST // timedelta(microseconds=1):
        raise ValueError(_out_of_bounds(text))
    return timedelta(microseconds=int(Decimal(total).to_integral_value()))


def _iso_amounts(text: str) -> dict[str, Decimal]:
    match = _ISO.fullmatch(text)
    if match is None or text.endswith("t"):
        return {}
    return {
        unit: Decimal(number.replace(",", "."))
        for unit, number in zip("wdhms", match.groups(), strict=True)
        if number is not None
    }


def _unit_amounts(text: str) -> dict[str, Decimal]:
    amounts: dict[str, Decimal] = {}
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        unit = _UNITS.get(match[2]) if match else None
        if match is None or unit is None or unit in amounts:
            return {}
        amounts[unit] = Decimal(match[1])
        position = match.end()
    return amounts


def _bounded(value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= LONGEST:
        raise ValueError(_out_of_bounds(value))
    return value


def _out_of_bounds(value: object) -> str:
    shown = str(value)[:_LONGEST_TEXT]
    return f"{shown} is out of bounds: a duration lies between 0s and {LONGEST.days} days"


def _not_understood(text: str) -> str:
    shown = text[:_LONGEST_TEXT]
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", shown):
        return f"`{shown}` is text without a unit: write one of {EXAMPLES}"
    return f"`{shown}` is not a duration: write one of {EXAMPLES}"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}],
            "description": f"A duration: {EXAMPLES}.",
            "examples": ["90s", "15m", "1h30m", "PT15M", 500],
        }
    ),
]
