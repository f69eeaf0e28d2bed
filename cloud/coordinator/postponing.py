"""Pushing a run that waits for its time further into the future."""

from pydantic import JsonValue

from cloud.coordinator import audit
from cloud.coordinator.access import Caller
from cloud.domain import runs as rules
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import reports, runs
from cloud.storage.database import Session
from cloud.storage.views import runs as views
from contract.http.runs import PostponeRun, Run


def postpone_run(
    session: Session, caller: Caller, run_id: str, asked: PostponeRun, now: int
) -> Run:
    """Have a run start later than it was to; the time it already has changes nothing.

    Raises NotFound, Invalid for a time that is earlier or beyond ten years, and Conflict
    ("run_ended", "run_started", "run_replaces" for one that waits only for another's end).
    """
    run = runs.get(session, run_id, lock=True)
    if run is None or run.org != caller.org:
        raise NotFound(f"run {run_id}")
    if run.ended_at is not None:
        raise Conflict("run_ended", f"the run has ended as {run.status}")
    if run.started_at is not None:
        raise Conflict("run_started", "the run has started; only one that waits is postponed")
    if run.starts_at is None:
        raise Conflict("run_replaces", f"the run starts when run {run.replaces} has ended")
    starts_at = rules.postponed(asked, run.starts_at, now)
    if starts_at is None:
        raise Invalid("invalid", "a run is postponed to a later time, within ten years")
    if starts_at != run.starts_at:
        data: dict[str, JsonValue] = {
            "by": caller.name,
            "from": run.starts_at,
            "to": starts_at,
            "reason": asked.reason,
        }
        run.starts_at, run.expires_at = starts_at, starts_at + run.expires_after
        session.add(run)
        session.flush()
        reports.log(session, run.org, run_id, now, "run postponed", data=data)
        audit.note(
            session, caller, now, "run.postpone", f"run/{run_id}",
            reason=asked.reason, job=run.job, to=starts_at,
        )  # fmt: skip
    return views.get_run(session, run.org, run_id, now)
