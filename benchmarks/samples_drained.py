"""How long does a backlog of 1,000,000 samples take, and what do task reports feel of it?

One gateway with an MQTT device; the backlog at no bounded rate, tasks of one command beside it.
"""

import os
import statistics
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.answers import Figure
from tests.kit import drain
from tests.kit.processes import programs_in
from tests.kit.rig import Rig

COUNT: Final = int(os.environ.get("BENCH_SAMPLES", "1000000"))


def ask(rounds: int) -> list[Figure]:
    lasted: list[float] = []
    during: list[list[float]] = []
    without: list[list[float]] = []
    for _ in range(rounds):
        with (
            tempfile.TemporaryDirectory() as folder,
            programs_in(Path(folder) / "logs") as programs,
            Rig(Path(folder) / "rig", programs) as rig,
        ):
            seconds, busy, idle = drain.drain(rig, COUNT)
        lasted.append(COUNT / seconds)
        during.append(busy)
        without.append(idle)
    return [
        Figure(f"{COUNT:,} samples, SQLite", "samples/s", lasted),
        *(
            Figure(
                f"a task's end is known, {name}",
                "ms",
                [share(found, part) for found in during],
                "without a backlog",
                [share(found, part) for found in without],
            )
            for name, part in (("p50", 0.5), ("p99", 0.99))
        ),
    ]


def share(values: list[float], part: float) -> float:
    """The value below which a part of them lies, in ms."""
    if part == 0.5:
        return statistics.median(values) * 1000
    return sorted(values)[min(round(len(values) * part), len(values) - 1)] * 1000
