"""People's hands on runs: pause, resume, priority, replace, retry failed; and starts that are due.

Each changes one row, which dispatch reads, and leaves the tasks to sweeps in chunks.
"""

from collections.abc import Iterable
from typing import cast

from pydantic import JsonValue

from cloud.coordinator import armed, audit, serial
from cloud.coordinator.access import Caller
from cloud.domain import control as rules
from cloud.domain.control import Pauser, RetryAsked
from cloud.domain.counts import Deltas
from cloud.domain.runs import PRIORITIES
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import counts, gateways, jobs, reports, run_sweeps, runs, tasks, triggers
from cloud.storage.database import Session
from cloud.storage.schema import JobRow, RunRow
from cloud.storage.views import devices as device_views
from cloud.storage.views import jobs as job_views
from cloud.storage.views import runs as views
from contract.http.fleet import Device
from contract.http.jobs import Job
from contract.http.runs import CancelRun, ChangeRun, PauseRun, RetryRun, Run
from contract.lifecycle import RunStatus, TaskStatus


def _live(session: Session, caller: Caller, run_id: str) -> RunRow:
    run = runs.get(session, run_id, lock=True)
    if run is None or run.org != caller.org:
        raise NotFound(f"run {run_id}")
    if run.ended_at is not None:
        raise Conflict("run_ended", f"the run has ended as {run.status}")
    return run


def _stand(session: Session, run: RunRow) -> None:
    """Give the run the status that its other fields say."""
    run.status = rules.standing(
        started=run.started_at is not None,
        cancelling=run.cancel is not None,
        paused=run.paused_by != "",
        in_flight=counts.totals(session, [run.id])[run.id].in_flight,
    )
    session.add(run)
    session.flush()


# -- cancel and replace


def ask_cancel(
    session: Session, caller: Caller, run: RunRow, cancel: CancelRun, now: int, then: str = ""
) -> None:
    """Ask a locked run that has not ended for its end, or for more force."""
    if then:
        run.cancel_then = then
    mode = "force" if cancel.force else run.cancel or "soft"
    if mode == run.cancel:
        session.add(run)
        return
    run.cancel, run.cancel_at, run.cancelled_to = mode, now, -1
    run.creating, run.retry_asked = False, None
    run.reason = cancel.reason or run.reason
    data: dict[str, JsonValue] = {"by": caller.name, "mode": mode, "reason": cancel.reason}
    reports.log(session, run.org, run.id, now, "cancel asked for", data=data)
    action = "run.force_cancel" if mode == "force" else "run.cancel"
    audit.note(session, caller, now, action, f"run/{run.id}", reason=cancel.reason, job=run.job)
    if run.started_at is None:
        # It has no task: there is nothing to wait for.
        run.status, run.ended_at = run.cancel_then, now
        session.add(run)
        session.flush()
        armed.note_end(session, run, now)
    else:
        _stand(session, run)


def replace_runs(
    session: Session, caller: Caller, new: RunRow, others: Iterable[str], now: int
) -> bool:
    """Cancel what these jobs have in flight for a new run; says whether it has to wait for that.

    A run that waits to take over itself is replaced as well; one that waits for its time is not.
    """
    waits = False
    for job in dict.fromkeys(others):
        for run in runs.of_job(session, caller.org, job):
            if run.id == new.id or (run.started_at is None and run.replaces is None):
                continue
            waits |= run.started_at is not None
            run.replaced_by, new.replaces = new.id, new.replaces or run.id
            reason = CancelRun(reason=run.reason or f"replaced by run {new.id}")
            ask_cancel(session, caller, run, reason, now, then=RunStatus.REPLACED)
    return waits


def start_due(session: Session, run_id: str, now: int) -> bool:
    """Start a run whose time has come, unless another run of its job is in flight."""
    run = runs.get(session, run_id, lock=True)
    if run is None or run.started_at is not None or run.ended_at is not None or run.paused_by:
        return False
    if jobs.get_job(session, run.org, run.job) is None:
        run.status, run.ended_at, run.reason = RunStatus.FAILED, now, "the job was deleted"
        reports.log(session, run.org, run.id, now, "run not started", level="ERROR",
                    data={"reason": run.reason})  # fmt: skip
        run.has_errors = True
    elif jobs.run_in_flight(session, run.org, run.job) is not None:
        return False
    else:
        run.started_at, run.expires_at = now, now + run.expires_after
        _stand(session, run)
        reports.log(session, run.org, run.id, now, "run started")
    session.add(run)
    return True


# -- pause and resume


def pause_run(session: Session, caller: Caller, run_id: str, pause: PauseRun, now: int) -> Run:
    """Nothing more of the run starts, and what has not begun is recalled.

    Raises NotFound, Conflict("run_ended").
    """
    run = _live(session, caller, run_id)
    pause_row(session, run, "person", caller.name, pause.reason, now)
    return views.get_run(session, run.org, run_id, now)


def resume_run(session: Session, caller: Caller, run_id: str, now: int) -> Run:
    """Lift a person's pause. Raises NotFound, Conflict("run_ended")."""
    run = _live(session, caller, run_id)
    resume_row(session, run, "person", caller.name, now)
    return views.get_run(session, run.org, run_id, now)


def pause_row(session: Session, run: RunRow, who: Pauser, by: str, reason: str, now: int) -> None:
    """Pause a locked run that has not ended, for whoever asks."""
    paused_by = rules.paused_by(run.paused_by, who)
    if paused_by == run.paused_by:
        return
    run.paused_by, run.recalled_to = paused_by, -1
    _stand(session, run)
    data: dict[str, JsonValue] = {"by": by, "pauser": who, "reason": reason}
    reports.log(session, run.org, run.id, now, "run paused", data=data)


def resume_row(session: Session, run: RunRow, who: Pauser, by: str, now: int) -> None:
    """Lift one pause of a locked run that has not ended; another's stays."""
    paused_by = rules.resumed_by(run.paused_by, who)
    if paused_by == run.paused_by:
        return
    run.paused_by = paused_by
    _stand(session, run)
    data: dict[str, JsonValue] = {"by": by, "pauser": who}
    reports.log(session, run.org, run.id, now, "run resumed", data=data)


def _job(session: Session, caller: Caller, job_id: str) -> JobRow:
    job = jobs.get_job(session, caller.org, job_id, lock=True)
    if job is None:
        raise NotFound(f"job `{job_id}`")
    return job


def pause_job(session: Session, caller: Caller, job_id: str, pause: PauseRun, now: int) -> Job:
    """Pause a job: its runs, its schedule, and every start. Raises NotFound."""
    job = _job(session, caller, job_id)
    if job.paused_at is None:
        job.paused_at, job.paused_by = now, caller.name
        session.add(job)
        for run in runs.of_job(session, caller.org, job_id):
            pause_row(session, run, "job", caller.name, pause.reason, now)
        session.flush()
    return job_views.get_job(session, caller.org, job_id, now)


def resume_job(session: Session, caller: Caller, job_id: str, now: int) -> Job:
    """Resume a job and its runs, but for those that a person paused by themselves."""
    job = _job(session, caller, job_id)
    if job.paused_at is not None:
        job.paused_at, job.paused_by = None, ""
        session.add(job)
        for run in runs.of_job(session, caller.org, job_id):
            resume_row(session, run, "job", caller.name, now)
        session.flush()
    return job_views.get_job(session, caller.org, job_id, now)


def sweep_recalled(session: Session, run: RunRow, limit: int) -> bool:
    """Recall the next attempts of a paused run that have not begun."""
    if run.recalled_to >= run.total:
        return False
    upto = min(run.recalled_to + limit, run.total)
    run_sweeps.mark_open(session, run.id, run.recalled_to, upto, "soft")
    run.recalled_to = upto
    session.add(run)
    return upto < run.total


# -- priority


def change_run(session: Session, caller: Caller, run_id: str, wanted: ChangeRun, now: int) -> Run:
    """Change a live run's priority. Raises NotFound, Conflict("run_ended")."""
    run = _live(session, caller, run_id)
    priority = PRIORITIES[wanted.priority]
    if priority != run.priority:
        run.priority = priority
        session.add(run)
        session.flush()
        data: dict[str, JsonValue] = {"by": caller.name, "priority": wanted.priority}
        reports.log(session, run.org, run_id, now, "priority changed", data=data)
        subject = f"run/{run_id}"
        audit.note(session, caller, now, "run.priority", subject, priority=wanted.priority)
    return views.get_run(session, run.org, run_id, now)


# -- retry failed


def retry_run(session: Session, caller: Caller, run_id: str, wanted: RetryRun, now: int) -> Run:
    """Try failed and timed-out tasks again, in the same run; an ended one is open again.

    Raises NotFound, Invalid for tasks of another run, Conflict ("run_in_flight" with the other
    run, "run_replaced", "run_cancelling", "retry_going_on", "nothing_to_retry").
    """
    run = runs.get(session, run_id, lock=True)
    if run is None or run.org != caller.org:
        raise NotFound(f"run {run_id}")
    asked = RetryAsked(tuple(wanted.failures), tuple(_ordinals(run_id, wanted.tasks)))
    if run.ended_at is None and run.cancel is not None:
        raise Conflict("run_cancelling", "the run is being cancelled")
    if run.ended_at is not None:
        _may_reopen(session, run)
    if not run_sweeps.can_be_retried(session, run_id, asked):
        raise Conflict("nothing_to_retry", "no task of the run has ended like that")
    if run.retry_asked is not None:
        one = rules.both(rules.retry_asked(run.retry_asked), asked)
        if one is None:
            raise Conflict("retry_going_on", "another retry of the run has just begun")
        asked = one
    if run.ended_at is not None:
        run.ended_at, run.cancel, run.cancel_at, run.cancelled_to = None, None, None, -1
        run.cancel_then, run.paused_by = RunStatus.CANCELLED, ""
        run.expires_at = max(run.expires_at, now + run.expires_after)
    run.retry_asked, run.retried_to = asked.to_text(), -1
    run.retried += 1
    _stand(session, run)
    data: dict[str, JsonValue] = {
        "by": caller.name,
        "failures": cast(list[JsonValue], wanted.failures),
        "tasks": len(wanted.tasks) or None,
        "reason": wanted.reason,
    }
    reports.log(session, run.org, run_id, now, "retry of failed tasks asked for", data=data)
    del data["by"]
    audit.note(session, caller, now, "run.retry", f"run/{run_id}", job=run.job, **data)
    return views.get_run(session, run.org, run_id, now)


def _ordinals(run: str, task_ids: Iterable[str]) -> list[int]:
    found = []
    for task in task_ids:
        of_run, _, ordinal = task.rpartition("-")
        if of_run != run or not ordinal.isdecimal() or len(ordinal) > 9:
            raise Invalid("invalid", f"`{task[:80]}` is no task of run {run}")
        found.append(int(ordinal))
    return sorted(found)


def _may_reopen(session: Session, run: RunRow) -> None:
    job = jobs.get_job(session, run.org, run.job, lock=True)
    if job is not None and job.paused_at is not None:
        raise Conflict("job_paused", f"job `{run.job}` is paused by {job.paused_by}")
    other = jobs.run_in_flight(session, run.org, run.job)
    no = rules.may_reopen(RunStatus(run.status), [other] if other else [])
    if no == "run_in_flight":
        raise Conflict(no, f"run {other} of job `{run.job}` has not ended", run=other)
    if no is not None:
        raise Conflict(no, f"the run was replaced by run {run.replaced_by}")


def sweep_retried(session: Session, run: RunRow, now: int, limit: int) -> bool:
    """Take the next failed tasks back to `rescheduled`."""
    asked = rules.retry_asked(run.retry_asked or "")
    # What the task whose turn it was has given counts, also if it is tried again now.
    serial.fold(session, run, now)
    if run.serial:
        session.refresh(run)
    moved, last = run_sweeps.retry(session, run.id, run.retried_to, limit, asked, now)
    if any(status is TaskStatus.TIMED_OUT for status, _, _ in moved):
        upto = run.total if last is None else last
        triggers.withdraw_timeouts(session, run.id, run.retried_to, upto)
    deltas = Deltas()
    for status, number, _ in moved:
        deltas.added(run.id, status, -number)
        deltas.added(run.id, TaskStatus.RESCHEDULED, number)
        deltas.by_run[run.id]["progress"] -= number * 10_000
    counts.move(session, deltas, counts.SWEEP_SHARD)
    if run.serial and run.accumulated >= 0 and not serial.is_turn_over(session, run):
        run.accumulated = -1
    if last is None:
        run.retry_asked, run.retried_to = None, -1
    else:
        run.retried_to = last
    session.add(run)
    return last is not None


# -- devices


def free_device(session: Session, caller: Caller, device: str, now: int) -> Device:
    """Free a device that an unconfirmed cancel or a lost attempt still holds.

    Raises NotFound, and Conflict("task_open") while the task that holds it is in flight.
    """
    shown = device_views.get_device(session, caller.org, device)
    if shown.held_by is None:
        return shown
    run, _, ordinal = shown.held_by.rpartition("-")
    if gateways.has_open_attempt(session, caller.org, device, run, int(ordinal)):
        raise Conflict("task_open", f"task {shown.held_by} is in flight; cancel its run first")
    gateways.free_device(session, caller.org, device, shown.held_by)
    tasks.unpark(session, [(caller.org, f"device:{device}")])
    data: dict[str, JsonValue] = {"by": caller.name, "device": device}
    if runs.get(session, run) is not None:  # its job may have been deleted meanwhile
        reports.log(session, caller.org, run, now, "device freed by hand", ordinal=int(ordinal),
                    data=data)  # fmt: skip
    audit.note(session, caller, now, "device.free", f"device/{device}", task=shown.held_by)
    return device_views.get_device(session, caller.org, device)
