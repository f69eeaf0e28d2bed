"""Changes to a whole run, a chunk at a time: no transaction of these lasts long."""

from collections.abc import Sequence
from typing import Any

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, fetch, fetch_one, for_update, listed
from cloud.storage.schema import DUE, OPEN, RunRow
from cloud.storage.targets import Compiled
from cloud.storage.tasks import COLUMNS, StoredTask, stored
from contract.lifecycle import TaskStatus
from contract.messages import Failure

Moved = list[tuple[TaskStatus, int, int]]


def create_tasks(
    session: Session, run: RunRow, condition: Compiled, limit: int, now: int
) -> tuple[int, str | None]:
    """A task for each device that fits, of the next `limit` devices after the run's cursor.

    Returns how many were created, and the next cursor; None after the last device.
    """
    last = fetch_one(
        session,
        "SELECT id FROM devices WHERE org = :org AND id > :cursor ORDER BY id "
        "LIMIT 1 OFFSET :skipped",
        org=run.org,
        cursor=run.created_to,
        skipped=limit - 1,
    )
    where, parameters = condition
    created = change(
        session,
        f"""
        INSERT INTO tasks (run, ordinal, org, device, gateway, status, priority, attempt, tries,
            attempts, revision, begun, due_at, progress)
        SELECT :run, :total + ROW_NUMBER() OVER (ORDER BY devices.id) - 1, devices.org, devices.id,
            devices.gateway, 'scheduled', :priority, 0, 0, :attempts, 0, FALSE, :now, 0
        FROM devices WHERE devices.org = :org AND devices.id > :cursor
        {"AND devices.id <= :last" if last else ""} AND {where}""",
        run=run.id,
        total=run.total,
        priority=run.priority,
        attempts=run.attempts,
        now=now,
        org=run.org,
        cursor=run.created_to,
        **({"last": last.id} if last else {}),
        **parameters,
    )
    return created, None if last is None else str(last.id)


def _move_due(session: Session, where: str, assignments: str, parameters: dict[str, Any]) -> Moved:
    """Move due tasks to an end; returns what was moved, by status: number, sum of progress."""
    rows = fetch(
        session,
        f"SELECT run, ordinal, status, progress FROM tasks WHERE {DUE} AND {where} "
        f"ORDER BY ordinal{for_update(session)}",
        **parameters,
    )
    if not rows:
        return []
    change(
        session,
        f"UPDATE tasks SET {assignments}, parked = NULL, ended_at = :now WHERE run = :run "
        f"AND {DUE} AND {any_of(session, 'ordinal', 'ordinals')}",
        **{**parameters, "ordinals": listed(session, [row.ordinal for row in rows])},
    )
    moved: dict[TaskStatus, tuple[int, int]] = {}
    for row in rows:
        number, progress = moved.get(TaskStatus(row.status), (0, 0))
        moved[TaskStatus(row.status)] = number + 1, progress + row.progress
    return [(status, number, progress) for status, (number, progress) in moved.items()]


def cancel_due(session: Session, run: str, after: int, upto: int, now: int) -> Moved:
    """Cancel the tasks of these ordinals that are not in flight."""
    return _move_due(
        session,
        "run = :run AND ordinal > :after AND ordinal <= :upto",
        "status = 'cancelled'",
        {"run": run, "after": after, "upto": upto, "now": now},
    )


def expire_due(session: Session, run: str, limit: int, now: int, failure: Failure) -> Moved:
    """Fail the next tasks that are not in flight."""
    return _move_due(
        session,
        "run = :run AND ordinal IN (SELECT ordinal FROM tasks WHERE run = :run "
        f"AND {DUE} ORDER BY ordinal LIMIT :limit)",
        "status = 'failed', failure_code = :code, failure_text = :text",
        {"run": run, "limit": limit, "now": now, "code": failure.code, "text": failure.text},
    )


def mark_open(session: Session, run: str, after: int, upto: int, mode: str) -> None:
    """Ask for the end of what is in flight: soft recalls what has not begun, force is for all."""
    which = "status IN ('offered', 'accepted')" if mode == "soft" else OPEN
    change(
        session,
        "UPDATE tasks SET cancel = :cancel, cancel_sent_at = NULL "
        f"WHERE run = :run AND ordinal > :after AND ordinal <= :upto AND {which}",
        cancel="recall" if mode == "soft" else "force",
        run=run,
        after=after,
        upto=upto,
    )


def open_tasks(session: Session, run: str, limit: int) -> list[StoredTask]:
    """The next tasks of a run that are in flight, locked."""
    return _open(session, "run = :run", {"run": run}, limit)


def unanswered(session: Session, run: str, sent_before: int, limit: int) -> list[StoredTask]:
    """Offers nobody has answered, sent so long ago that they would not be begun any more."""
    where = "run = :run AND status = 'offered' AND (sent_at IS NULL OR sent_at < :before)"
    return _open(session, where, {"run": run, "before": sent_before}, limit)


def _open(session: Session, where: str, parameters: dict[str, Any], limit: int) -> list[StoredTask]:
    rows: Sequence[Any] = fetch(
        session,
        f"SELECT {COLUMNS} FROM tasks WHERE {OPEN} AND {where} ORDER BY ordinal "
        f"LIMIT :limit{for_update(session)}",
        **parameters,
        limit=limit,
    )
    return [stored(row) for row in rows]
