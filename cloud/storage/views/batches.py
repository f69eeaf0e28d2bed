"""The targets of a batch run, each with what became of it and of the task it was in."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from cloud.domain.batches import GONE, Outcome, outcomes
from cloud.storage import batches
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, fetch, listed
from cloud.storage.schema import RunRow
from contract.lifecycle import TASK_ENDS, TaskStatus
from contract.messages import Failure


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target, its task's row, and the snapshot of the task's newest attempt."""

    position: int
    target: str
    task: Row[Any]
    outcome: Outcome
    snapshot: Mapping[str, Any]


def targets(
    session: Session, run: RunRow, after: tuple[int, int], limit: int
) -> Sequence[TargetRow]:
    """The next targets of a batch run after `(ordinal, position)`."""
    rows = batches.page(session, run.id, after, limit)
    tasks = {row.ordinal: row for row in _tasks(session, run.id, {row.ordinal for row in rows})}
    loops = _loops(run)
    snapshots, found = {}, {}
    for ordinal, task in tasks.items():
        # Once for a task, however many of its targets are asked for.
        snapshots[ordinal] = json.loads(task.snapshot) if task.snapshot else {}
        why = task.failure_code and Failure(code=task.failure_code, text=task.failure_text or "")
        found[ordinal] = outcomes(
            task.targets, TaskStatus(task.status), why or None, snapshots[ordinal], loops
        )
    return [
        TargetRow(
            row.position,
            row.target,
            tasks[row.ordinal],
            _of_gone(found[row.ordinal][row.position], tasks[row.ordinal], row.gone),
            snapshots[row.ordinal],
        )
        for row in rows
    ]


def _of_gone(outcome: Outcome, task: Row[Any], gone: bool) -> Outcome:
    if not gone or TaskStatus(task.status) not in TASK_ENDS:
        return outcome
    return Outcome(TaskStatus.FAILED, False, outcome.response, GONE)


def _tasks(session: Session, run: str, ordinals: Iterable[int]) -> Sequence[Row[Any]]:
    return fetch(
        session,
        "SELECT t.run, t.ordinal, t.gateway, t.status, t.attempt, t.tries, t.progress, t.targets, "
        "t.started_at, t.ended_at, t.failure_code, t.failure_text, a.snapshot FROM tasks t "
        "LEFT JOIN attempts a ON a.run = t.run AND a.ordinal = t.ordinal AND a.attempt = t.attempt "
        f"WHERE t.run = :run AND {any_of(session, 't.ordinal', 'ordinals')}",
        run=run,
        ordinals=listed(session, sorted(ordinals)),
    )


def _loops(run: RunRow) -> list[str]:
    """The steps that loop over the targets: their results are results for each of them."""
    found = []
    for step in json.loads(run.body).get("steps", []):
        items = step.get("with", {}).get("items")
        is_loop = step.get("uses") == "flow.for_each" and isinstance(items, str)
        if is_loop and items.strip("{} ") == "targets":
            found.append(step["id"])
    return found
