"""Runs with their counts, as lists and pages show them."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlmodel import col

from cloud.domain.counts import Totals
from cloud.domain.runs import PRIORITY_NAMES
from cloud.errors import Gone, NotFound
from cloud.storage import counts, deletions
from cloud.storage.database import Session
from cloud.storage.schema import RunRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors, waits
from cloud.storage.views.parts import bounded, moment, time, waiting
from contract.http import Page
from contract.http.history import Origin
from contract.http.runs import Counts, Run, RunBy
from contract.lifecycle import RunStatus, TaskStatus

T = TaskStatus


def list_runs(
    session: Session,
    org: str,
    now: int,
    *,
    job: str | None = None,
    statuses: Collection[RunStatus] = (),
    types: Collection[str] = (),
    created_from: int | None = None,
    created_to: int | None = None,
    has_errors: bool | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Run]:
    """A page of runs, the newest first; without their contexts and settings."""
    filters = cursors.fingerprint(
        "runs", org, job, sorted(statuses), sorted(types), created_from, created_to, has_errors
    )
    after = cursors.decode(cursor, filters, int, str)
    limit = bounded(limit)
    query = of_org(RunRow, org).order_by(col(RunRow.created_at).desc(), col(RunRow.id).desc())
    if job is not None:
        query = query.where(col(RunRow.job) == job)
    if statuses:
        query = query.where(col(RunRow.status).in_([status.value for status in statuses]))
    if types:
        query = query.where(col(RunRow.type).in_(list(types)))
    if created_from is not None:
        query = query.where(col(RunRow.created_at) >= created_from)
    if created_to is not None:
        query = query.where(col(RunRow.created_at) < created_to)
    if has_errors is not None:
        query = query.where(col(RunRow.has_errors) == has_errors)
    if after is not None:
        at, last = after
        query = query.where(
            (col(RunRow.created_at) < at)
            | ((col(RunRow.created_at) == at) & (col(RunRow.id) < last))
        )
    rows: Sequence[RunRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page, more = rows[:limit], len(rows) > limit
    totals = counts.totals(session, [row.id for row in page])
    items = [_run(row, totals[row.id], None, now) for row in page]
    last_key = [page[-1].created_at, page[-1].id] if more else None
    return Page(items=items, next_cursor=cursors.encode(last_key, filters) if last_key else None)


def get_run(session: Session, org: str, run: str, now: int) -> Run:
    """A run whole, with what it waits for. Raises NotFound."""
    row = find(session, org, run)
    totals = counts.totals(session, [run])[run]
    return _run(row, totals, waits.run_waits_for(session, row, totals, now), now, whole=True)


def current_of_job(session: Session, org: str, job: str, now: int) -> Run | None:
    """The run in flight, else the latest, without its context and settings."""
    query = (
        of_org(RunRow, org)
        .where(col(RunRow.job) == job)
        .order_by(col(RunRow.created_at).desc(), col(RunRow.id).desc())
        .limit(1)
    )
    in_flight = query.where(col(RunRow.ended_at).is_(None), col(RunRow.started_at).is_not(None))
    row = session.execute(in_flight).scalars().first() or session.execute(query).scalars().first()
    return None if row is None else _run(row, counts.totals(session, [row.id])[row.id], None, now)


def find(session: Session, org: str, run: str) -> RunRow:
    """The run's row; raises NotFound, also for one of another org."""
    row: RunRow | None = session.execute(
        of_org(RunRow, org).where(col(RunRow.id) == run)
    ).scalar_one_or_none()
    if row is None:
        raise NotFound(f"run {run}")
    if deletions.is_deleted(session, run):
        raise Gone("deleted", f"job `{row.job}` was deleted, and its runs with it")
    return row


def _run(row: RunRow, totals: Totals, wait: str | None, now: int, *, whole: bool = False) -> Run:
    ended = row.ended_at is not None
    return Run(
        id=row.id,
        job=row.job,
        name=row.name,
        type=row.type,
        status=RunStatus(row.status),
        priority=PRIORITY_NAMES.get(row.priority, "normal"),  # type: ignore[arg-type]
        progress=100.0 if ended and not row.total else min(totals.percent, 100.0),
        counts=counts_of(totals, row.total),
        has_errors=row.has_errors or totals.of(T.FAILED, T.TIMED_OUT) > 0,
        created_at=moment(row.created_at),
        started_at=time(row.started_at),
        ended_at=time(row.ended_at),
        expires_at=time(row.expires_at),
        waiting_ms=max((row.started_at or row.ended_at or now) - row.created_at, 0),
        duration_ms=max((row.ended_at or now) - row.started_at, 0) if row.started_at else 0,
        run_by=RunBy(id=row.run_by, name=row.run_by_name),
        origin=_origin(row),
        depth=row.depth,
        system=row.system,
        reason=row.reason,
        starts_at=time(row.starts_at),
        replaces=row.replaces,
        replaced_by=row.replaced_by,
        paused_by=row.paused_by.split(),
        accumulator=json.loads(row.accumulator) if whole else None,
        waiting_for=waiting(wait),
        context=json.loads(row.context) if whole else {},
        query=json.loads(row.query) if whole else None,
        settings=_settings(row) if whole else {},
    )


def _origin(row: RunRow) -> Origin | None:
    if row.origin is None:
        return None
    return Origin(kind=row.origin, run=row.origin_run, task=row.origin_task, step=row.origin_step)


def counts_of(totals: Totals, total: int) -> Counts:
    return Counts(
        pending=totals.of(T.SCHEDULED),
        in_flight=totals.of(T.OFFERED, T.ACCEPTED, T.RUNNING, T.AWAITING),
        retrying=totals.of(T.RESCHEDULED),
        succeeded=totals.of(T.SUCCEEDED),
        failed=totals.of(T.FAILED),
        timed_out=totals.of(T.TIMED_OUT),
        cancelled=totals.of(T.CANCELLED),
        total=total,
    )


def _settings(row: RunRow) -> dict[str, Any]:
    return {
        "concurrency": row.concurrency,
        "per_gateway": row.per_gateway,
        "timeout_ms": row.timeout,
        "start_by_ms": row.start_by,
        "retry": {**json.loads(row.retry), "attempts": row.attempts},
        "document": json.loads(row.document),
    }
