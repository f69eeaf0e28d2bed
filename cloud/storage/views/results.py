"""Results of a run by target, and the triggers and runs that came of it."""

import json
from typing import Any

from cloud.storage.database import Session
from cloud.storage.dialect import fetch
from cloud.storage.schema import RunRow
from cloud.storage.views import batches, cursors, runs
from cloud.storage.views.parts import bounded, failure, moment, time
from contract.http import Page
from contract.http.history import Firing, TaskResult
from contract.ids import task_id
from contract.lifecycle import TASK_ENDS, TaskStatus


def list_results(
    session: Session, org: str, run: str, *, cursor: str | None = None, limit: int = 50
) -> Page[TaskResult]:
    """A page of what became of each target, in order. Raises NotFound and Gone."""
    of_run = runs.find(session, org, run)
    filters = cursors.fingerprint("results", org, run)
    if of_run.batch != 1:
        return _list_of_batches(session, of_run, filters, cursor, bounded(limit))
    after = cursors.decode(cursor, filters, int)
    limit = bounded(limit)
    rows = fetch(
        session,
        "SELECT t.run, t.ordinal, t.device, t.target, t.status, t.ended_at, t.failure_code, "
        "t.failure_text, a.snapshot FROM tasks t LEFT JOIN attempts a ON a.run = t.run "
        "AND a.ordinal = t.ordinal AND a.attempt = t.attempt "
        "WHERE t.run = :run AND t.ordinal > :after ORDER BY t.ordinal LIMIT :limit",
        run=run,
        after=-1 if after is None else after[0],
        limit=limit + 1,
    )
    page, more = rows[:limit], len(rows) > limit
    return Page(
        items=[_result(row) for row in page],
        next_cursor=cursors.encode([page[-1].ordinal], filters) if more else None,
    )


def _result(row: Any) -> TaskResult:
    status = TaskStatus(row.status)
    why = failure(row.failure_code, row.failure_text)
    message = " ".join(filter(None, (why.sentence, why.text))) if why else ""
    snapshot = json.loads(row.snapshot) if row.snapshot else {}
    return TaskResult(
        task=task_id(row.run, row.ordinal),
        ordinal=row.ordinal,
        target=row.target or row.device or "",
        status=status,
        ok=status is TaskStatus.SUCCEEDED if status in TASK_ENDS else None,
        response=snapshot.get("result"),
        message=message,
        code=None if why is None else why.code,
        ended_at=time(row.ended_at),
    )


def _list_of_batches(
    session: Session, run: RunRow, filters: str, cursor: str | None, limit: int
) -> Page[TaskResult]:
    key = cursors.decode(cursor, filters, int, int) or [-1, -1]
    rows = batches.targets(session, run, (key[0], key[1]), limit + 1)
    page, more = rows[:limit], len(rows) > limit
    last = [page[-1].task.ordinal, page[-1].position] if more else None
    return Page(
        items=[_result_of_target(row) for row in page],
        next_cursor=cursors.encode(last, filters) if last else None,
    )


def _result_of_target(row: batches.TargetRow) -> TaskResult:
    outcome = row.outcome
    why = failure(outcome.failure.code, outcome.failure.text) if outcome.failure else None
    said = (why.sentence, why.text) if why else ()
    return TaskResult(
        task=task_id(row.task.run, row.task.ordinal),
        ordinal=row.task.ordinal,
        target=row.target,
        status=outcome.status,
        ok=outcome.ok,
        response=outcome.response,
        message=" ".join(filter(None, (*said, outcome.note))),
        code=None if why is None else why.code,
        ended_at=time(row.task.ended_at),
    )


def list_firings(
    session: Session, org: str, run: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Firing]:
    """A page of the triggers of a run that fired, wait or could not. Raises NotFound and Gone."""
    runs.find(session, org, run)
    filters = cursors.fingerprint("firings", org, run)
    key = cursors.decode(cursor, filters, str, int, int, int) or ["", -1, -1, -1]
    limit = bounded(limit)
    rows = fetch(
        session,
        "SELECT kind, position, ordinal, number, job, status, reason, handler, at, fired_at "
        "FROM trigger_firings WHERE run = :run "
        "AND (kind, position, ordinal, number) > (:kind, :position, :ordinal, :number) "
        "ORDER BY kind, position, ordinal, number LIMIT :limit",
        run=run,
        kind=key[0],
        position=key[1],
        ordinal=key[2],
        number=key[3],
        limit=limit + 1,
    )
    page, more = rows[:limit], len(rows) > limit
    last = page[-1] if more else None
    return Page(
        items=[_firing(run, row) for row in page],
        next_cursor=cursors.encode([last.kind, last.position, last.ordinal, last.number], filters)
        if last
        else None,
    )


def _firing(run: str, row: Any) -> Firing:
    return Firing(
        kind=row.kind,
        job=row.job,
        status=row.status,
        task=task_id(run, row.ordinal) if row.ordinal >= 0 else None,
        number=row.number,
        handler=row.handler,
        reason=row.reason,
        at=moment(row.at),
        fired_at=time(row.fired_at),
    )
