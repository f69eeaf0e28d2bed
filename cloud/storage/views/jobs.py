"""Jobs, each with its current, else latest run."""

import json
from collections.abc import Collection, Sequence

from sqlmodel import col

from cloud.errors import NotFound
from cloud.storage.database import Session
from cloud.storage.schema import JobRow, RunRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors, runs
from cloud.storage.views.parts import bounded, moment, time
from contract.http import Page
from contract.http.jobs import Job
from contract.lifecycle import RunStatus


def list_jobs(
    session: Session,
    org: str,
    now: int,
    *,
    type: str | None = None,
    run_statuses: Collection[RunStatus] = (),
    system: bool = False,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Job]:
    """A page of jobs by name; `run_statuses` are those of their latest runs.

    System jobs are shown when asked for, by `system` or by type.
    """
    filters = cursors.fingerprint("jobs", org, type, sorted(run_statuses), system)
    after = cursors.decode(cursor, filters, str, str)
    limit = bounded(limit)
    query = of_org(JobRow, org).order_by(col(JobRow.name), col(JobRow.id))
    if type is not None:
        query = query.where(col(JobRow.type) == type)
    elif not system:
        query = query.where(col(JobRow.type) != "system", col(JobRow.system).is_(False))
    if run_statuses:
        runs_so = of_org(RunRow, org).where(
            col(RunRow.status).in_([status.value for status in run_statuses])
        )
        query = query.where(col(JobRow.last_run).in_(runs_so.with_only_columns(col(RunRow.id))))
    if after is not None:
        name, last = after
        query = query.where(
            (col(JobRow.name) > name) | ((col(JobRow.name) == name) & (col(JobRow.id) > last))
        )
    rows: Sequence[JobRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page, more = rows[:limit], len(rows) > limit
    key = [page[-1].name, page[-1].id] if more else None
    return Page(
        items=[_job(session, row, now) for row in page],
        next_cursor=cursors.encode(key, filters) if key else None,
    )


def get_job(session: Session, org: str, job: str, now: int) -> Job:
    """A job with its document. Raises NotFound."""
    row: JobRow | None = session.execute(
        of_org(JobRow, org).where(col(JobRow.id) == job)
    ).scalar_one_or_none()
    if row is None:
        raise NotFound(f"job `{job}`")
    return _job(session, row, now, whole=True)


def _job(session: Session, row: JobRow, now: int, *, whole: bool = False) -> Job:
    return Job(
        id=row.id,
        name=row.name,
        description=row.description,
        type=row.type,
        resource=row.resource,
        system=row.system,
        revision=row.revision,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        created_by=row.created_by,
        last_run_at=time(row.last_run_at),
        paused_at=time(row.paused_at),
        paused_by=row.paused_by,
        run=runs.current_of_job(session, row.org, row.id, now),
        document=json.loads(row.document) if whole else {},
    )
