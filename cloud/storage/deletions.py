"""Deleted jobs: their runs stay as rows until they are swept, and are shown to nobody."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row

from cloud.storage.database import Session
from cloud.storage.dialect import change, change_many, fetch, fetch_one

# A condition on `runs`: one row in `deleted_jobs` hides all runs of the job up to its moment.
SHOWN: Final = (
    "NOT EXISTS (SELECT 1 FROM deleted_jobs gone WHERE gone.org = runs.org "
    "AND gone.job = runs.job AND gone.upto >= runs.created_at)"
)


def is_deleted(session: Session, run: str) -> bool:
    """Whether the run's job was deleted after it began; also for a run that is not there."""
    found = fetch_one(session, f"SELECT id FROM runs WHERE id = :run AND {SHOWN}", run=run)
    return found is None


def mark_deleted(session: Session, org: str, job: str, now: int, by: str) -> None:
    """Hide all runs that the job has had. A job of the same name may come later."""
    newest = fetch_one(
        session,
        "SELECT created_at FROM runs WHERE org = :org AND job = :job "
        "ORDER BY created_at DESC LIMIT 1",
        org=org,
        job=job,
    )
    if newest is None:
        return
    change_many(
        session,
        "INSERT INTO deleted_jobs (org, job, upto, at, by) VALUES (:org, :job, :upto, :now, :by) "
        "ON CONFLICT (org, job) DO UPDATE SET upto = excluded.upto, at = excluded.at, "
        "by = excluded.by",
        [{"org": org, "job": job, "upto": newest.created_at, "now": now, "by": by}],
    )


def only_triggered_by(session: Session, org: str, job: str) -> list[str]:
    """The jobs that have a trigger on this one and on no other."""
    rows = fetch(
        session,
        "SELECT DISTINCT r.target FROM job_references r JOIN jobs j ON j.org = r.org "
        "AND j.id = r.target WHERE r.org = :org AND r.job = :job AND r.target <> :job "
        "AND r.kind IN ('on_timeout', 'on_complete') AND NOT EXISTS "
        "(SELECT 1 FROM job_references o "
        "WHERE o.org = r.org AND o.target = r.target AND o.job <> :job AND o.job <> r.target "
        "AND o.kind IN ('on_timeout', 'on_complete')) ORDER BY r.target",
        org=org,
        job=job,
    )
    return [row.target for row in rows]


def save_references(
    session: Session, org: str, job: str, named: Iterable[tuple[str, str, str]]
) -> None:
    """Keep which jobs a job's document names: `(place, kind, target)` each."""
    change(session, "DELETE FROM job_references WHERE org = :org AND job = :job", org=org, job=job)
    change_many(
        session,
        "INSERT INTO job_references (org, job, place, kind, target) "
        "VALUES (:org, :job, :place, :kind, :target)",
        [
            {"org": org, "job": job, "place": place, "kind": kind, "target": target}
            for place, kind, target in named
        ],
    )


def references_to(session: Session, org: str, job: str) -> Sequence[Row[Any]]:
    """Places in other jobs that name this one: `job, place, kind`."""
    return fetch(
        session,
        "SELECT job, place, kind FROM job_references WHERE org = :org AND target = :job "
        "AND job <> :job ORDER BY job, place",
        org=org,
        job=job,
    )


def references_of(session: Session, org: str, job: str) -> Sequence[Row[Any]]:
    """Places in this job that name others: `target, place, kind`."""
    return fetch(
        session,
        "SELECT target, place, kind FROM job_references WHERE org = :org AND job = :job "
        "ORDER BY place",
        org=org,
        job=job,
    )
