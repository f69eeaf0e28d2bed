"""What is kept for how long, and what a full outbox drops first.

Job results never, log lines before samples; of each the oldest, and a backlog before what is live.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Stream = Literal["live", "backlog"]
Kind = Literal["logs", "states"]
# Dropped from left to right until the rest fits.
DROP_ORDER: Final[tuple[tuple[Stream, Kind], ...]] = (
    ("backlog", "logs"),
    ("live", "logs"),
    ("backlog", "states"),
    ("live", "states"),
)


@dataclass(frozen=True)
class Keeping:
    """How long ended tasks stay; comes with the welcome."""

    ended_ms: int = 7 * 86_400_000
    tombstones_ms: int = 90 * 86_400_000


def to_drop(
    counts: Mapping[tuple[Stream, Kind], int], bound: int
) -> dict[tuple[Stream, Kind], int]:
    """How many of the oldest of each stream must go so that all together fit `bound`."""
    excess = sum(counts.values()) - bound
    drops: dict[tuple[Stream, Kind], int] = {}
    for place in DROP_ORDER:
        if excess <= 0:
            break
        gone = min(excess, counts.get(place, 0))
        if gone:
            drops[place] = gone
            excess -= gone
    return drops
