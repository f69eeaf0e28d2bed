"""The one reason why a run or a task waits, computed by the rules that schedule."""

import json
from typing import Any, Final

from cloud.domain.counts import Totals
from cloud.domain.dispatch import SILENCE_MS, DueTask, Rules, reason
from cloud.storage import dispatching
from cloud.storage.database import Session
from cloud.storage.dialect import fetch_one
from cloud.storage.schema import DUE, OPEN, RunRow, TaskRow
from contract.ids import task_id
from contract.lifecycle import TASK_ENDS, RunStatus, TaskStatus

T = TaskStatus
_STATUS: Final = {
    RunStatus.SCHEDULED: "start",
    RunStatus.PAUSING: "paused",
    RunStatus.PAUSED: "paused",
    RunStatus.CANCELLING: "cancelling",
}


def run_waits_for(session: Session, run: RunRow, totals: Totals, now: int) -> str | None:
    """The code of a run's wait; None while tasks of it are at work, and when it has ended.

    A run whose tasks all wait for something else says what its oldest open or due task waits for.
    """
    if run.ended_at is not None:
        return None
    if run.status in _STATUS:
        return _STATUS[RunStatus(run.status)]
    if totals.of(T.RUNNING):
        return None
    if run.creating and not totals.total:
        return "creating"
    task = _first_left(session, run)
    return None if task is None else task_waits_for(session, task, run, totals, now)


_COLUMNS: Final = "run, ordinal, org, device, gateway, status, due_at, waiting_for, cancel"


def _first_left(session: Session, run: RunRow) -> Any:
    """A task that is open, else one that is due, else one that is parked; each by its index."""
    for where, order in (
        (f"{OPEN} AND org = :org", ""),
        (f"{DUE} AND parked IS NULL", "ORDER BY due_at, ordinal"),
        (f"{DUE} AND parked IS NOT NULL AND org = :org", ""),
    ):
        sql = f"SELECT {_COLUMNS} FROM tasks WHERE run = :run AND {where} {order} LIMIT 1"
        parameters = {"run": run.id} | ({"org": run.org} if ":org" in where else {})
        found = fetch_one(session, sql, **parameters)
        if found is not None:
            return found
    return None


def task_waits_for(
    session: Session, task: TaskRow | Any, run: RunRow, totals: Totals, now: int
) -> str | None:
    """The code of a task's wait; None while it runs and when it has ended."""
    status = TaskStatus(task.status)
    if status in TASK_ENDS or status is T.RUNNING:
        return None
    if run.cancel is not None:
        return "cancelling"
    if status is T.AWAITING:
        return "acknowledgment"
    if status in (T.OFFERED, T.ACCEPTED):
        return _of_open(session, task, now)
    if run.status in _STATUS:
        return _STATUS[RunStatus(run.status)]
    if task.due_at > now:
        return "retry"
    return _of_due(session, task, run, totals, now)


def _of_open(session: Session, task: Any, now: int) -> str | None:
    gateway = dispatching.gateways(session, task.org, [task.gateway]).get(task.gateway)
    if gateway is None or not gateway.is_online(now, SILENCE_MS):
        return "gateway_offline"
    if task.status == T.OFFERED:
        return "in_conflict" if gateway.in_conflict(now) else "acceptance"
    return task.waiting_for or "opening"


def _of_due(session: Session, task: Any, run: RunRow, totals: Totals, now: int) -> str:
    held = _device(session, task)
    gateway_id = held.gateway if held else None
    gateway = None
    in_flight = 0
    if gateway_id is not None:
        gateway = dispatching.gateways(session, task.org, [gateway_id]).get(gateway_id)
        found = dispatching.in_flight(session, task.org, run.id, [gateway_id])
        in_flight = found.get(gateway_id, 0)
    due = DueTask(
        run=run.id,
        ordinal=task.ordinal,
        id=task_id(run.id, task.ordinal),
        device=task.device,
        held_by=held.held_by if held else None,
        gateway=gateway,
    )
    rules = Rules(frozenset(json.loads(run.verbs)), run.per_gateway)
    why = reason(due, rules, in_flight, now, SILENCE_MS)
    if why is not None:
        return why[0]
    return "concurrency" if totals.slots_taken >= run.concurrency else "dispatch"


def _device(session: Session, task: Any) -> Any:
    return fetch_one(
        session,
        "SELECT gateway, held_by FROM devices WHERE org = :org AND id = :id",
        org=task.org,
        id=task.device,
    )
