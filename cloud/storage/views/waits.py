"""The one reason why a run or a task waits, computed by the rules that schedule."""

import json
from typing import Any, Final

from cloud.domain.control import pausers
from cloud.domain.counts import Totals
from cloud.domain.dispatch import SILENCE_MS, DueTask, Rules, reason
from cloud.domain.serial import is_over
from cloud.storage import dispatching, holds, jobs, recovery
from cloud.storage.database import Session
from cloud.storage.dialect import fetch_one
from cloud.storage.dispatching import due_task_of, turn_of
from cloud.storage.schema import DUE, OPEN, RunRow, TaskRow
from contract.lifecycle import TASK_ENDS, RunStatus, TaskStatus

T = TaskStatus
_STATUS: Final = frozenset(
    {RunStatus.SCHEDULED, RunStatus.PAUSING, RunStatus.PAUSED, RunStatus.CANCELLING}
)


def _of_status(session: Session, run: RunRow, now: int) -> str:
    """Why a run as a whole does not go on; by the rules of `runs.to_start`."""
    if run.status == RunStatus.CANCELLING:
        return "cancelling"
    if run.status != RunStatus.SCHEDULED:
        return "job_paused" if "job" in pausers(run.paused_by) else "paused"
    if run.starts_at is not None and run.starts_at > now:
        return "start"
    if recovery.is_recovering(session):
        return "recovering"
    replaced = "SELECT 1 FROM runs WHERE ended_at IS NULL AND replaced_by = :run LIMIT 1"
    if fetch_one(session, replaced, run=run.id) is not None:
        return "replacing"
    if jobs.run_in_flight(session, run.org, run.job) is not None:
        return "previous_run"
    return "dispatch"


def run_waits_for(session: Session, run: RunRow, totals: Totals, now: int) -> str | None:
    """The code of a run's wait; None while tasks of it are at work, and when it has ended.

    A run whose tasks all wait for something else says what its oldest open or due task waits for.
    """
    if run.ended_at is not None:
        return None
    if run.status in _STATUS:
        return _of_status(session, run, now)
    if totals.of(T.RUNNING):
        return None
    if run.creating and not totals.total:
        return "recovering" if recovery.is_recovering(session) else "creating"
    if run.fed and totals.ended == run.total:
        return "timeouts"
    task = _first_left(session, run)
    if task is None:
        open_for_more = run.continuous and not run.creating and totals.ended == run.total
        return "targets" if open_for_more else "dispatch"
    return task_waits_for(session, task, run, totals, now)


_COLUMNS: Final = "run, ordinal, org, device, gateway, status, due_at, waiting_for, cancel"
UNKNOWN_AFTER_MS: Final = 86_400_000


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
        return _of_status(session, run, now)
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
    if recovery.is_recovering(session):
        return "recovering"
    held = holds.active(session, run.org, now)
    if ("org", "all") in held:
        return "emergency_stop"
    device = _device(session, task) if task.device else None
    gateway_id = task.gateway if device is None else device.gateway
    facts = dispatching.gateways(session, task.org, [gateway_id] if gateway_id else [])
    due = due_task_of(run.id, run.org, task, device, facts)
    rules = Rules(
        frozenset(json.loads(run.verbs)),
        run.per_gateway,
        run.per_bus,
        run.per_site,
        held,
        run.retry_online,
    )
    why = reason(due, rules, _in_flight(session, due, rules), now, SILENCE_MS)
    if run.serial and task.ordinal != run.turn and _has_turn(session, run, now):
        return "turn"
    if why is not None:
        return why[0]
    if totals.slots_taken >= run.concurrency:
        return "concurrency"
    if run.delay and totals.slots_taken + _resting(session, run, now) >= run.concurrency:
        return "delay"
    return "dispatch"


def _in_flight(session: Session, due: DueTask, rules: Rules) -> dict[tuple[str, str], int]:
    found = {}
    if rules.per_gateway is not None and due.gateway is not None:
        numbers = dispatching.in_flight(session, due.org, due.run, [due.gateway.id])
        found[due.run, f"slots:{due.gateway.id}"] = numbers.get(due.gateway.id, 0)
    if rules.has_places:
        for place, number in dispatching.in_places(session, due.org, due.run).items():
            found[due.run, place] = number
    return found


def _has_turn(session: Session, run: RunRow, now: int) -> bool:
    """Whether another task of a serial run keeps the next one from starting."""
    row = dispatching.due_task(session, run.id, run.turn) if run.turn >= 0 else None
    return row is not None and not is_over(turn_of(row, run.turn_since), now, run.offline_after)


def _resting(session: Session, run: RunRow, now: int) -> int:
    sql = "SELECT count(*) AS number FROM slot_rests WHERE run = :run AND until > :now"
    row = fetch_one(session, sql, run=run.id, now=now)
    return row.number if row else 0


def _device(session: Session, task: Any) -> Any:
    return fetch_one(
        session,
        "SELECT gateway, held_by, bus, link, tags FROM devices WHERE org = :org AND id = :id",
        org=task.org,
        id=task.device,
    )


def is_unknown(session: Session, run: RunRow, totals: Totals, now: int) -> bool:
    """Whether every task that is left sits with gateways nobody has heard of for a day.

    Costs nothing for a run that was busy within the day; else it looks tasks up by their index
    and reads no further than the first that somebody can tell about.
    """
    since = now - UNKNOWN_AFTER_MS
    quiet = max(run.started_at or now, run.offered_at or 0) < since
    if run.ended_at is not None or not quiet or run.creating or run.paused_by:
        return False
    if not totals.in_flight:
        return False
    heard = "SELECT 1 FROM gateways g WHERE g.org = :org AND g.last_heard_at >= :since"
    if fetch_one(session, f"{heard} LIMIT 1", org=run.org, since=since) is None:
        return True
    open_ = f"SELECT 1 FROM tasks t WHERE {OPEN} AND t.org = g.org AND t.gateway = g.id"
    sql = f"{heard} AND EXISTS ({open_} AND t.run = :run) LIMIT 1"
    if fetch_one(session, sql, org=run.org, since=since, run=run.id) is not None:
        return False
    if not totals.of(T.SCHEDULED, T.RESCHEDULED):
        return True
    ready = f"SELECT 1 FROM tasks t WHERE {DUE} AND parked IS NULL AND t.run = :run LIMIT 1"
    if fetch_one(session, ready, run=run.id) is not None:
        return False
    elsewhere = (
        f"SELECT 1 FROM tasks t WHERE {DUE} AND parked IS NOT NULL AND t.org = :org "
        "AND t.run = :run AND NOT EXISTS (SELECT 1 FROM gateways g WHERE g.org = t.org "
        "AND t.parked = 'gateway:' || g.id "
        "AND (g.last_heard_at IS NULL OR g.last_heard_at < :since)) LIMIT 1"
    )
    return fetch_one(session, elsewhere, org=run.org, run=run.id, since=since) is None
