"""How counts of a run move with its tasks, and what they say about the run."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cloud.domain.tasks import WHOLE
from contract.lifecycle import TASK_ENDS, TASK_OPEN, RunStatus, TaskStatus

T = TaskStatus


@dataclass(frozen=True, slots=True)
class Totals:
    """A run's tasks by status; `progress` as in the counts table.

    `stranded` ones are in flight at a gateway that has been silent for long.
    """

    by_status: Mapping[TaskStatus, int] = field(default_factory=dict)
    progress: int = 0
    stranded: int = 0

    def of(self, *statuses: TaskStatus) -> int:
        return sum(self.by_status.get(status, 0) for status in statuses)

    @property
    def ended(self) -> int:
        return self.of(*TASK_ENDS)

    @property
    def total(self) -> int:
        return sum(self.by_status.values())

    @property
    def slots_taken(self) -> int:
        """Tasks that hold a slot: one that awaits its acknowledgment, or is stranded, does not."""
        return self.of(T.OFFERED, T.ACCEPTED, T.RUNNING) - self.stranded

    @property
    def in_flight(self) -> int:
        return self.of(*TASK_OPEN)

    @property
    def percent(self) -> float:
        return round(self.progress / (self.total * WHOLE) * 100, 2) if self.total else 0.0


# No write transaction lasts over 200 ms: chunks are made for a quarter of it.
CHUNK_TAKES_MS: Final = 50
MIN_CHUNK: Final = 200
MAX_CHUNK: Final = 5_000


def next_chunk(size: int, took_ms: float) -> int:
    """How many rows the next chunk of a sweep has, after one of `size` that took so long."""
    aimed = size * CHUNK_TAKES_MS / max(took_ms, 1.0)
    # It grows slowly and shrinks at once: one slow chunk is one too many.
    return round(min(max(min(aimed, size * 1.5), MIN_CHUNK), MAX_CHUNK))


def weight(status: TaskStatus, progress: int) -> int:
    """What a task adds to its run's progress: an ended one counts whole."""
    return WHOLE if status in TASK_ENDS else progress


class Deltas:
    """Counts that moved, by run and column, gathered over a batch."""

    def __init__(self) -> None:
        self.by_run: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))

    def moved(self, run: str, was: TaskStatus, had: int, now_is: TaskStatus, progress: int) -> None:
        """A task went from one status and progress to another."""
        counts = self.by_run[run]
        if was is not now_is:
            counts[was.value] -= 1
            counts[now_is.value] += 1
        counts["progress"] += weight(now_is, progress) - weight(was, had)

    def stranded(self, run: str, number: int) -> None:
        self.by_run[run]["stranded"] += number

    def added(self, run: str, status: TaskStatus, number: int) -> None:
        self.by_run[run][status.value] += number


def ended_status(totals: Totals, cancelled: RunStatus | None) -> RunStatus:
    """How a run ends whose tasks have all ended; `cancelled` is how one that was cancelled does."""
    if cancelled is not None:
        return cancelled
    succeeded = totals.of(T.SUCCEEDED)
    if succeeded == totals.ended:
        return RunStatus.SUCCEEDED
    return RunStatus.PARTIALLY_SUCCEEDED if succeeded else RunStatus.FAILED
