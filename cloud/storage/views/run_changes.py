"""What of a run's tasks looks different from before: a short mark for each task."""

from typing import Any

from cloud.storage.database import Session
from cloud.storage.dialect import fetch


def marks_of(session: Session, run: str) -> dict[int, tuple[Any, ...]]:
    """For each ordinal, everything that changes when the task as the API shows it does."""
    return {
        row.ordinal: tuple(row)
        for row in fetch(
            session,
            "SELECT ordinal, status, attempt, tries, progress, current_step, waiting_for, cancel, "
            "parked, due_at, started_at, ended_at, gateway FROM tasks WHERE run = :run",
            run=run,
        )
    }
