"""Runs with their counts, as lists and pages show them."""

import json
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import defer
from sqlmodel import col, select

from cloud.domain.counts import Totals
from cloud.domain.runs import PRIORITY_NAMES
from cloud.errors import Gone, NotFound
from cloud.storage import counts, deletions, purging
from cloud.storage.database import Session
from cloud.storage.deletions import SHOWN
from cloud.storage.schema import RunRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors, waits
from cloud.storage.views.parts import bounded, moment, time, waiting
from cloud.storage.views.waits import is_unknown
from contract.http import Page
from contract.http.history import Origin
from contract.http.runs import Counts, Run, RunBy
from contract.lifecycle import RunStatus, TaskStatus
from contract.periods import Period

T = TaskStatus
ANY_TIME: Final = Period()


def list_runs(
    session: Session,
    org: str,
    now: int,
    *,
    job: str | None = None,
    statuses: Collection[RunStatus] = (),
    types: Collection[str] = (),
    created: Period = ANY_TIME,
    started: Period = ANY_TIME,
    ended: Period = ANY_TIME,
    has_errors: bool | None = None,
    origin_run: str | None = None,
    system: bool = False,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Run]:
    """A page of runs, the newest first; without their contexts and settings.

    Those of system jobs only when asked for, by `system`, by job or by what started them.
    """
    filters = cursors.fingerprint(
        "runs", org, job, sorted(statuses), sorted(types), created, started, ended, has_errors,
        origin_run, system,
    )  # fmt: skip
    after = cursors.decode(cursor, filters, int, str)
    limit = bounded(limit)
    # Ids first: all that a filter looks at stands in one index, and no document is read for it.
    query = select(RunRow.id, RunRow.created_at).where(col(RunRow.org) == org, text(SHOWN))
    for column, period in (
        (col(RunRow.created_at), created),
        (col(RunRow.started_at), started),
        (col(RunRow.ended_at), ended),
    ):
        if period.start is not None:
            query = query.where(column >= period.start)
        if period.end is not None:
            query = query.where(column < period.end)
    if job is not None:
        query = query.where(col(RunRow.job) == job)
    if statuses:
        query = query.where(col(RunRow.status).in_([status.value for status in statuses]))
    if types:
        query = query.where(col(RunRow.type).in_(list(types)))
    if origin_run is not None:
        query = query.where(col(RunRow.origin_run) == origin_run)
    if not system and job is None and origin_run is None and not types:
        query = query.where(col(RunRow.system).is_(False))
    if has_errors is not None:
        query = query.where(text(_HAS_ERRORS if has_errors else f"NOT {_HAS_ERRORS}"))
    if after is not None:
        at, last = after
        query = query.where(
            (col(RunRow.created_at) <= at)
            & ((col(RunRow.created_at) < at) | (col(RunRow.id) < last))
        )
    query = query.order_by(col(RunRow.created_at).desc(), col(RunRow.id).desc())
    found = session.execute(query.limit(limit + 1)).all()
    page, more = found[:limit], len(found) > limit
    by_id = {
        row.id: row
        for row in session.execute(
            of_org(RunRow, org)
            .where(col(RunRow.id).in_([key.id for key in page]))
            .options(*_UNREAD)
        ).scalars()
    }
    totals = counts.totals(session, by_id)
    rows = [by_id[key.id] for key in page]
    items = [
        _run(row, totals[row.id], None, now, unknown=is_unknown(session, row, totals[row.id], now))
        for row in rows
    ]
    last_key = [page[-1].created_at, page[-1].id] if more else None
    return Page(items=items, next_cursor=cursors.encode(last_key, filters) if last_key else None)


# Texts of any size that no list shows.
_UNREAD: Final = [
    defer(getattr(RunRow, name), raiseload=True) for name in ("document", "context", "query")
]
_HAS_ERRORS: Final = (
    "(runs.has_errors OR (runs.ended_at IS NULL AND EXISTS (SELECT 1 FROM run_counts c "
    "WHERE c.run = runs.id GROUP BY c.run HAVING sum(c.failed) + sum(c.timed_out) > 0)))"
)


def get_run(session: Session, org: str, run: str, now: int) -> Run:
    """A run whole, with what it waits for. Raises NotFound."""
    row = find(session, org, run)
    totals = counts.totals(session, [run])[run]
    wait = waits.run_waits_for(session, row, totals, now)
    unknown = is_unknown(session, row, totals, now)
    return _run(row, totals, wait, now, whole=True, unknown=unknown)


def current_of_job(session: Session, org: str, job: str, now: int) -> Run | None:
    """The run in flight, else the latest, without its context and settings."""
    query = (
        of_org(RunRow, org)
        .where(col(RunRow.job) == job, text(SHOWN))
        .order_by(col(RunRow.created_at).desc(), col(RunRow.id).desc())
        .limit(1)
    )
    in_flight = query.where(col(RunRow.ended_at).is_(None), col(RunRow.started_at).is_not(None))
    row = session.execute(in_flight).scalars().first() or session.execute(query).scalars().first()
    if row is None:
        return None
    totals = counts.totals(session, [row.id])[row.id]
    return _run(row, totals, None, now, unknown=is_unknown(session, row, totals, now))


def find(session: Session, org: str, run: str) -> RunRow:
    """The run's row; raises NotFound, also for one of another org."""
    row: RunRow | None = session.execute(
        of_org(RunRow, org).where(col(RunRow.id) == run)
    ).scalar_one_or_none()
    if row is None:
        refuse_gone(session, org, run)
        raise NotFound(f"run {run}")
    if deletions.is_deleted(session, run):
        raise _deleted(row.job)
    return row


def refuse_gone(session: Session, org: str, run: str) -> None:
    """Raise Gone for a run that was deleted with its job, also long ago."""
    gone = purging.gone(session, [run]).get(run)
    if gone is not None and gone.org == org:
        raise _deleted(gone.job)


def _deleted(job: str) -> Gone:
    return Gone("deleted", f"job `{job}` was deleted, and its runs with it")


def _run(
    row: RunRow,
    totals: Totals,
    wait: str | None,
    now: int,
    *,
    whole: bool = False,
    unknown: bool = False,
) -> Run:
    return Run(
        id=row.id,
        job=row.job,
        name=row.name,
        type=row.type,
        status=RunStatus(row.status),
        unknown=unknown,
        priority=PRIORITY_NAMES.get(row.priority, "normal"),  # type: ignore[arg-type]
        progress=_progress(row, totals),
        counts=counts_of(totals, row.total),
        targets=row.total if row.batch == 1 else row.targets,
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
        kind="operation" if row.kind == "operation" else "job",
        data=_request(row) if whole else {},
        results=json.loads(row.results),
    )


def _progress(row: RunRow, totals: Totals) -> float:
    if row.ended_at is not None and not row.total:
        return 100.0
    if row.kind == "operation":
        done = float(json.loads(row.operation).get("progress", 0))
        return min(done * 100, 100.0)
    return min(totals.percent, 100.0)


def _request(row: RunRow) -> dict[str, Any]:
    """What an operation was asked for."""
    found: dict[str, Any] = json.loads(row.operation).get("request", {})
    return found


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
