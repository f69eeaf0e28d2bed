"""Adding to what is known of a run: lines of its log, also after its end; what started it."""

from cloud.coordinator import runs
from cloud.coordinator.access import Caller
from cloud.domain.triggers import refusal
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import reports
from cloud.storage import runs as stored_runs
from cloud.storage.database import Session
from cloud.storage.json_text import clean
from cloud.storage.views import runs as views
from contract.http.history import AddLogLine, Origin
from contract.http.runs import Run, StartRun


def add_log_line(session: Session, caller: Caller, run: str, line: AddLogLine, now: int) -> None:
    """Add a line to a run's log; an ERROR marks the run. Raises NotFound, Gone and Invalid."""
    row = views.find(session, caller.org, run)
    ordinal = None
    if line.task is not None:
        of_run, _, number = line.task.rpartition("-")
        if of_run != run or not number.isdecimal() or int(number[:10]) >= row.total:
            raise Invalid("invalid", f"`{line.task[:80]}` is no task of run {run}")
        ordinal = int(number)
    reports.log(
        session,
        caller.org,
        run,
        now,
        clean(line.text),
        level=line.level,
        ordinal=ordinal,
        data={**line.data, "by": caller.name},
        stream="client",
    )
    if line.level == "ERROR":
        reports.mark_errors(session, [run])


def start_from(
    session: Session,
    caller: Caller,
    job: str,
    start: StartRun,
    run_id: str,
    now: int,
    origin: Origin | None,
) -> Run:
    """Start a run for somebody who was called by another run; `origin` says by which.

    One of a run that is not ours counts as none. Raises what `runs.start_run` raises, and
    Conflict("too_deep") when runs have started runs too often in a row.
    """
    if origin is None or origin.run is None or stored_runs.get(session, run_id) is not None:
        return runs.start_run(session, caller, job, start, run_id, now)
    try:
        parent = views.find(session, caller.org, origin.run)
    except NotFound:
        return runs.start_run(session, caller, job, start, run_id, now)
    no = refusal(parent.depth)
    if no is not None:
        reports.log(session, caller.org, parent.id, now, f"{job} not started: {no}", level="ERROR")
        raise Conflict("too_deep", no)
    runs.start_run(session, caller, job, start, run_id, now)
    row = stored_runs.get(session, run_id)
    assert row is not None
    row.origin, row.origin_run, row.depth = origin.kind, parent.id, parent.depth + 1
    row.origin_task, row.origin_step = origin.task, origin.step
    session.add(row)
    session.flush()
    text, data = f"a step started {job}", {"job": job, "run": run_id}
    reports.log(session, caller.org, parent.id, now, text, data=data)
    return views.get_run(session, caller.org, run_id, now)
