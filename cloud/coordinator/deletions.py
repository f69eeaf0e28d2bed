"""Deleting jobs: what is in flight completes, nothing starts any more, and its history is gone."""

from cloud.coordinator import audit, control
from cloud.coordinator.access import Caller
from cloud.domain.references import TRIGGERS
from cloud.errors import NotFound, NotPermitted
from cloud.storage import deletions, jobs, runs
from cloud.storage.database import Session
from contract.http.history import DeletedJob, JobReferences, Reference
from contract.http.runs import CancelRun

REASON = "the job was deleted"


def delete_job(
    session: Session, caller: Caller, job_id: str, now: int, *, with_triggered: bool = False
) -> DeletedJob:
    """Delete a job; with `with_triggered` also the jobs that its triggers alone start.

    Tasks in flight complete, no others start, and nothing is retried. Runs, logs and reports of it
    answer as Gone. Raises NotFound, and NotPermitted("protected") for one of the system.
    """
    also = deletions.only_triggered_by(session, caller.org, job_id) if with_triggered else []
    gone = {job_id, *also}
    warnings = [
        f"`{row.job}` names `{name}` at {row.place}: that will fail from now on"
        for name in (job_id, *also)
        for row in deletions.references_to(session, caller.org, name)
        if row.job not in gone
    ]
    run = _delete(session, caller, job_id, now)
    deleted = []
    for name in also:
        row = jobs.get_job(session, caller.org, name, lock=True)
        if row is None or row.system:
            continue
        _delete(session, caller, name, now)
        deleted.append(name)
    return DeletedJob(job=job_id, run=run, also_deleted=deleted, warnings=warnings)


def _delete(session: Session, caller: Caller, job_id: str, now: int) -> str | None:
    """Delete one job; returns the run of it that is completing."""
    row = jobs.get_job(session, caller.org, job_id, lock=True)
    if row is None:
        raise NotFound(f"job `{job_id}`")
    if row.system:
        raise NotPermitted("protected", f"job `{job_id}` belongs to the system")
    completing = None
    for run in runs.of_job(session, caller.org, job_id):
        control.ask_cancel(session, caller, run, CancelRun(reason=REASON), now)
        if run.ended_at is None:
            completing = run.id
    deletions.mark_deleted(session, caller.org, job_id, now, caller.name)
    audit.note(session, caller, now, "job.delete", f"job/{job_id}", completing=completing)
    deletions.save_references(session, caller.org, job_id, ())
    session.delete(row)
    session.flush()
    return completing


def job_references(session: Session, org: str, job_id: str) -> JobReferences:
    """Who starts whom: jobs with a trigger on this one apart from those that merely run it.

    Raises NotFound.
    """
    if jobs.get_job(session, org, job_id) is None:
        raise NotFound(f"job `{job_id}`")
    found = JobReferences()
    for row in deletions.references_of(session, org, job_id):
        if row.kind in TRIGGERS:
            found.triggers.append(Reference(job=row.target, kind=row.kind, place=row.place))
    for row in deletions.references_to(session, org, job_id):
        where = found.triggered_by if row.kind in TRIGGERS else found.used_by
        where.append(Reference(job=row.job, kind=row.kind, place=row.place))
    return found
