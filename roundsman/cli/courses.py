"""How numbers went over time, as a line of bars in a terminal."""

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from contract.http.state import Sample

BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 60
MOST: Final = 12


def courses(samples: Sequence[Sample]) -> list[str]:
    """A line for each value that is a number and was seen at least twice, the oldest first."""
    seen: dict[str, list[float]] = {}
    for sample in samples:
        for key, value in sample.values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                seen.setdefault(key, []).append(float(value))
    several = {key: values for key, values in seen.items() if len(values) > 1}
    names = sorted(several)[:MOST]
    width = max((len(_printable(name)) for name in names), default=0)
    return [
        f"{_printable(name).ljust(width)}  {bars(several[name])}  "
        f"{min(several[name]):g} to {max(several[name]):g}"
        for name in names
    ]


def bars(values: Sequence[float]) -> str:
    """At most WIDTH bars, each the mean of its share of the values."""
    count = min(len(values), WIDTH)
    edges = [len(values) * place // count for place in range(count + 1)]
    means = [sum(values[first:last]) / (last - first) for first, last in pairwise(edges)]
    low, high = min(means), max(means)
    steps = len(BARS) - 1
    if high == low:
        return BARS[0] * count
    return "".join(BARS[round((mean - low) / (high - low) * steps)] for mean in means)


def local_zone() -> str | None:
    """The zone's name where the environment names one: whose midnight `today` begins at."""
    return os.environ.get("TZ") or None


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else " " for c in name)[:32]
