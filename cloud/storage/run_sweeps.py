"""Changes to a whole run, a chunk at a time: no transaction of these lasts long."""

from collections.abc import Sequence
from typing import Any, Final

from cloud.domain.control import RetryAsked
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, fetch, fetch_one, for_update, listed
from cloud.storage.schema import BAD, DUE, OPEN, RunRow
from cloud.storage.targets import DEVICES, ROWS, SHAPES, Compiled, in_table
from cloud.storage.tasks import COLUMNS, StoredTask, stored
from contract.ids import CENTRAL
from contract.lifecycle import TaskStatus
from contract.messages import Failure

Moved = list[tuple[TaskStatus, int, int]]


# Where the tasks of a kind of target go; what has no gateway of its own goes to the central one.
_GATEWAYS: Final = {"device": "devices.gateway", "gateway": "gateways.id"}


def window(session: Session, run: RunRow, limit: int) -> tuple[str, dict[str, Any], str | None]:
    """The next `limit` targets after the run's cursor, as a condition with its parameters.

    With them the next cursor; None where these are the last.
    """
    shape = SHAPES[run.resource]
    cursor: int | str = int(run.created_to or 0) if shape.counts else run.created_to
    scope = f"{shape.table}.org = :org AND {shape.key} > :cursor{in_table(shape)}"
    within: dict[str, Any] = {"org": run.org, "cursor": cursor}
    if shape is ROWS:
        within["of_table"] = run.target_table
    last = fetch_one(
        session,
        f"SELECT {shape.key} AS key FROM {shape.table} WHERE {scope} ORDER BY {shape.key} LIMIT 1 "
        "OFFSET :skipped",
        skipped=limit - 1,
        **within,
    )
    if last is None:
        return scope, within, None
    return f"{scope} AND {shape.key} <= :last", {**within, "last": last.key}, str(last.key)


def create_tasks(
    session: Session, run: RunRow, condition: Compiled, limit: int, due_at: int
) -> tuple[int, str | None]:
    """A task for each target that fits, of the next `limit` targets after the run's cursor.

    Returns how many were created, and the next cursor; None after the last target.
    """
    shape = SHAPES[run.resource]
    table, key = shape.table, shape.key
    scope, within, cursor = window(session, run, limit)
    # Devices that came to match a continuous run later: those it has no task for yet.
    fresh = (
        ""
        if run.creating
        else (
            f" AND NOT EXISTS (SELECT 1 FROM tasks known WHERE known.org = {table}.org "
            f"AND known.device = {key} AND known.run = :of_run)"
        )
    )
    mine = {"of_run": run.id} if fresh else {}
    where, parameters = condition
    device = key if shape is DEVICES else "NULL"
    created = change(
        session,
        f"""
        INSERT INTO tasks (run, ordinal, org, device, target, gateway, status, priority, attempt,
            tries, attempts, revision, begun, due_at, progress)
        SELECT :run, :total + ROW_NUMBER() OVER (ORDER BY {key}) - 1, {table}.org, {device},
            CAST({key} AS TEXT), {_GATEWAYS.get(shape.resource, f"'{CENTRAL}'")}, 'scheduled',
            :priority, 0, 0, :attempts, 0, FALSE, :due_at, 0
        FROM {table} WHERE {scope} AND {where}{fresh}""",
        run=run.id,
        total=run.total,
        priority=run.priority,
        attempts=run.attempts,
        due_at=due_at,
        **mine,
        **within,
        **parameters,
    )
    return created, cursor


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


def retry(
    session: Session, run: str, after: int, limit: int, asked: RetryAsked, now: int
) -> tuple[Moved, int | None]:
    """Take the next tasks that ended badly and that are asked for back to `rescheduled`.

    Returns what was moved, and the ordinal to go on after; None when there are no more.
    """
    rows = fetch(
        session,
        f"SELECT ordinal, status, failure_code FROM tasks WHERE run = :run AND {BAD} "
        f"AND ordinal > :after ORDER BY ordinal LIMIT :limit{for_update(session)}",
        run=run,
        after=after,
        limit=limit,
    )
    wanted: dict[TaskStatus, list[int]] = {}
    for row in rows:
        status = TaskStatus(row.status)
        if asked.covers(status, row.failure_code, row.ordinal):
            wanted.setdefault(status, []).append(row.ordinal)
    for ordinals in wanted.values():
        change(
            session,
            "UPDATE tasks SET status = 'rescheduled', tries = 0, due_at = :now, parked = NULL, "
            "ended_at = NULL, progress = 0, deadline = NULL, current_step = NULL, "
            f"waiting_for = NULL WHERE run = :run AND {BAD} "
            f"AND {any_of(session, 'ordinal', 'ordinals')}",
            run=run,
            now=now,
            ordinals=listed(session, ordinals),
        )
    moved = [(status, len(ordinals), 0) for status, ordinals in wanted.items()]
    return moved, rows[-1].ordinal if len(rows) == limit else None


def can_be_retried(session: Session, run: str, asked: RetryAsked) -> bool:
    """Whether at least one task ended as `asked` says."""
    conditions, parameters = [], {"run": run}
    if asked.codes:
        conditions.append(f"AND {any_of(session, 'failure_code', 'codes')}")
        parameters["codes"] = listed(session, asked.codes)
    if asked.ordinals:
        conditions.append(f"AND {any_of(session, 'ordinal', 'ordinals')}")
        parameters["ordinals"] = listed(session, asked.ordinals)
    sql = f"SELECT 1 FROM tasks WHERE run = :run AND {BAD} {' '.join(conditions)} LIMIT 1"
    return fetch_one(session, sql, **parameters) is not None


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
