"""What a device's state is when samples come late, twice over two streams, or by a wrong clock.

Each key has a mark: when its value was seen, by whom, and in which order. Of one source the higher
order is newer, whatever its clock says; between sources the later time is, by the cloud's clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

# A clock that is wrong by less is taken as it is: so much may a message be on its way.
CLOCK_BORNE_MS: Final = 5_000
# What a device may say in ever new words must not grow for ever.
MAX_KEYS: Final = 500
MAX_KEY: Final = 128
# Of the link; no key of a device is empty.
LINK: Final = ""

# When it was seen (ms), its order in its source, its source.
Mark = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """One sample: what was seen at a time, by a source. `order` grows within the source."""

    at: int
    order: int
    source: str
    values: Mapping[str, JsonValue]
    link: str = "unknown"


@dataclass(frozen=True, slots=True)
class State:
    """A device's values, its link, and the mark of each; the marks as they are kept."""

    values: Mapping[str, JsonValue]
    link: str
    marks: Mapping[str, Any]


def taken_at(at: int, sent_at: int, now: int) -> int:
    """When a sample was taken, by the cloud's clock.

    `at` and `sent_at` are the gateway's clock when it took and when it sent it; 0 says that it did
    not tell. A clock that is far off is put right by the difference; nothing is of the future.
    """
    wrong = now - sent_at if sent_at else 0
    found = at + wrong if abs(wrong) > CLOCK_BORNE_MS else at
    return max(min(found, now), 0)


def is_newer(mark: Any, seen: Seen) -> bool:
    """Whether a sample tells more of a key than what its mark stands for."""
    try:
        at, order, source = mark
    except (TypeError, ValueError):
        return True  # never marked
    if source == seen.source and order and seen.order:
        return bool(seen.order > order)
    return bool(seen.at >= at)


def merge(state: State, samples: Iterable[Seen]) -> State:
    """The state with whatever is newer in the samples, which may come in any order."""
    values, marks, link = dict(state.values), dict(state.marks), state.link
    for seen in samples:
        mark = [seen.at, seen.order, seen.source]
        if seen.link != "unknown" and is_newer(marks.get(LINK), seen):
            link, marks[LINK] = seen.link, mark
        for key, value in seen.values.items():
            if not 0 < len(key) <= MAX_KEY or (key not in values and len(values) >= MAX_KEYS):
                continue
            if is_newer(marks.get(key), seen):
                values[key], marks[key] = value, mark
    return State(values, link, marks)
