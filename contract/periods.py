"""Moments and periods as people write them in filters: `today`, `yesterday`, `2h 30m`, a time.

Pure: the caller brings the present moment and the zone.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from contract.durations import parse_duration

EXAMPLES: Final = "today, yesterday, or so long until now: 2h 30m, 7 days"
# What a 64-bit column and every calendar we use can hold.
_LAST_MS: Final = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` inclusive to `end` exclusive, in milliseconds since 1970; None is open."""

    start: int | None = None
    end: int | None = None

    def overridden(self, start: int | None, end: int | None) -> "Period":
        """The period with either end replaced by one that is given."""
        return Period(self.start if start is None else start, self.end if end is None else end)


def parse_period(text: str, now: datetime, zone: tzinfo) -> Period:
    """Read `today`, `yesterday` (whole days in `zone`) or a duration that ends now.

    A day is from midnight to midnight of the zone's clocks, be that 23 or 25 hours. Raises
    ValueError with examples.
    """
    word = " ".join(text.split()).lower()
    if word in ("today", "yesterday"):
        day = _day(now, zone) - timedelta(days=word == "yesterday")
        return Period(_midnight(day, zone), _midnight(day + timedelta(days=1), zone))
    try:
        lasts = parse_duration(word)
    except ValueError:
        raise ValueError(f"`{text[:64]}` is no period: write {EXAMPLES}") from None
    return Period(millis(now - lasts), millis(now) + 1)


def parse_moment(text: str) -> int:
    """Read a time: milliseconds since 1970, or RFC 3339 with a zone; as milliseconds.

    Raises ValueError.
    """
    word = text.strip()
    if word.isdecimal() and word.isascii():
        found = int(word[:20])
    else:
        try:
            # A plus sign that nobody escaped in an address arrives as a space.
            moment = datetime.fromisoformat(word.replace(" ", "+") if "T" in word.upper() else word)
        except ValueError:
            raise ValueError(_no_moment(text)) from None
        if moment.tzinfo is None:
            raise ValueError(f"`{text[:64]}` has no zone: end it with Z or +01:00")
        found = millis(moment)
    if not 0 <= found <= _LAST_MS:
        raise ValueError(_no_moment(text))
    return found


def millis(moment: datetime) -> int:
    """Milliseconds since 1970, cut."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _day(now: datetime, zone: tzinfo) -> date:
    """The day that began last: clocks that go back over midnight do not begin it again."""
    # By way of UTC, since a time of the zone itself may be one that its clocks leave out.
    shown = now.astimezone(UTC).astimezone(zone).date()
    tomorrow = shown + timedelta(days=1)
    return tomorrow if millis(now) >= _midnight(tomorrow, zone) else shown


def _midnight(day: date, zone: tzinfo) -> int:
    return millis(datetime.combine(day, time(), zone))


def _no_moment(text: str) -> str:
    return f"`{text[:64]}` is no time: write milliseconds since 1970, or 2026-03-01T12:00:00Z"
