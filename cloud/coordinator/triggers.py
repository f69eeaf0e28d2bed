"""Firing triggers: another job starts, or its run is extended, because of what a run came to.

A firing is written in the transaction of what it is about and settled in the one that starts the
handler, so it happens once, whenever we are killed. While the handler's job has a run in flight
that nobody may add to, its firings wait.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from pydantic import JsonValue

from cloud.coordinator import extensions, links, runs
from cloud.coordinator.access import Caller
from cloud.domain import triggers as rules
from cloud.domain.batches import size_of
from cloud.domain.runs import retry_policy
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import batches, deletions, jobs, reports
from cloud.storage import runs as stored_runs
from cloud.storage import triggers as stored
from cloud.storage.counts import totals
from cloud.storage.database import Session
from cloud.storage.schema import JobRow, RunRow
from contract.http.history import RunItem
from contract.http.runs import StartRun
from contract.ids import OrgId, task_id
from contract.job_document import JobDocument
from contract.lifecycle import RunStatus, TaskStatus
from contract.template_dialect import TemplateError, render

CHUNK: Final = 500


@dataclass
class Fired:
    """What one round did. `more`: it stopped at its limit, or another job waits; go on at once."""

    runs: set[str] = field(default_factory=set)
    more: bool = False


def has_work(session: Session) -> bool:
    """Whether `fire` would find anything to look at."""
    return stored.has_work(session)


def fire(session: Session, now: int, new_id: Callable[[], str], address: str) -> Fired:
    """Fire for the first job that something waits for and that can be started; a chunk of it."""
    done = Fired()
    if stored.has_feeds(session):
        done.runs.update(stored.stop_feeding(session))
    for org, job in stored.waiting_jobs(session):
        if _fire_job(session, org, job, now, new_id, address, done):
            done.more = True
            break
    return done


def _fire_job(
    session: Session,
    org: str,
    job_id: str,
    now: int,
    new_id: Callable[[], str],
    address: str,
    done: Fired,
) -> bool:
    """Whether something was settled. What has to wait costs a few seeks, however much it is."""
    job = jobs.get_job(session, org, job_id)
    handler = None
    if job is not None and (in_flight := jobs.run_in_flight(session, org, job_id)) is not None:
        handler = _open_handler(session, in_flight)
        if handler is None:
            return False
    waiting = stored.pending(session, org, job_id, CHUNK)
    gone = {run for run in {f.run for f in waiting} if deletions.is_deleted(session, run)}
    if gone:
        lost = [f for f in waiting if f.run in gone]
        stored.settle(session, lost, "skipped", now, reason="the run's job was deleted")
        return True
    if not waiting:
        return False
    if job is None:
        _refuse(session, org, waiting, now, "failed", f"there is no job `{job_id}`")
        done.runs.update(f.run for f in waiting)
        return True
    if handler is not None:
        return _extend(session, handler, waiting, now, done)
    first = waiting[0]
    group = [
        f for f in waiting
        if (f.run, f.kind, f.position, f.number)
        == (first.run, first.kind, first.position, first.number)
    ]  # fmt: skip
    run = stored_runs.get(session, first.run)
    assert run is not None
    refusal = rules.refusal(run.depth)
    if first.kind == "on_timeout" and json.loads(job.document).get("iteration", {}).get("batch"):
        refusal = f"`{job_id}` is about several targets in one task (`iteration.batch`)"
    if refusal is not None:
        _refuse(session, org, group, now, "refused", refusal)
    elif first.kind == "on_complete":
        _complete(session, job, run, group, now, new_id(), address)
    else:
        _time_out(session, job, run, group, now, new_id())
    done.runs.add(run.id)
    return True


def _open_handler(session: Session, in_flight: str) -> RunRow | None:
    """The run in flight, if timeouts may be added to it; one of a person is left alone."""
    handler = stored_runs.get(session, in_flight)
    if handler is None or not handler.fed or handler.cancel is not None:
        return None
    handler = stored_runs.get(session, in_flight, lock=True)
    assert handler is not None
    return handler if handler.ended_at is None and handler.cancel is None else None


def _extend(
    session: Session, handler: RunRow, waiting: Sequence[Any], now: int, done: Fired
) -> bool:
    """Add timeouts to the run that handles them, of runs over the same kind of target."""
    settled = False
    timeouts = [f for f in waiting if f.kind == "on_timeout"]
    for run_id, found in groupby(timeouts, key=lambda f: str(f.run)):
        run = stored_runs.get(session, run_id)
        assert run is not None
        if (run.resource, run.target_table) != (handler.resource, handler.target_table):
            continue
        _append(session, handler, run, list(found), now)
        done.runs.update({run_id, handler.id})
        settled = True
        if run.batch != 1:
            break
    return settled


def _time_out(
    session: Session, job: JobRow, run: RunRow, firings: Sequence[Any], now: int, new_id: str
) -> None:
    told: dict[str, JsonValue] = {"kind": "on_timeout", "run": _run(run)}
    handler = _start(session, job, run, firings, told, now, new_id)
    if handler is None:
        return
    # Its targets are those that timed out, whatever the job's own query says.
    handler.creating, handler.fed = False, True
    handler.resource, handler.target_table = run.resource, run.target_table
    session.add(handler)
    session.flush()
    _append(session, handler, run, firings, now)


def _append(
    session: Session, handler: RunRow, run: RunRow, firings: Sequence[Any], now: int
) -> None:
    stored.feed(session, handler.id, [run.id])
    tasks = {
        task.ordinal: task
        for task in stored.timed_out_tasks(session, run.id, (f.ordinal for f in firings))
    }
    context = stored.contexts_of(session, run.id)
    firings, names = _targets(session, run, firings, tasks)
    owners = [f for f in firings for _ in names[f.ordinal]]
    items = [
        _item(run, context, tasks[f.ordinal], name) for f in firings for name in names[f.ordinal]
    ]
    gone = {n for n, _ in extensions.append_items(session, handler, items, now)}
    kept = [item for n, item in enumerate(items) if n not in gone]
    if gone and kept:
        extensions.append_items(session, handler, kept, now)
    for firing in firings:
        lost = [items[n].target for n in sorted(gone) if owners[n] is firing]
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            text = f"{', '.join(lost[:3])}{more} was deleted, so on_timeout does nothing for it"
            reports.log(session, run.org, run.id, now, text, ordinal=firing.ordinal)
    left = {owners[n].ordinal for n in range(len(items)) if n not in gone}
    deleted = [f for f in firings if f.ordinal not in left]
    stored.settle(session, deleted, "skipped", now, reason="the target was deleted")
    fired = [f for f in firings if f.ordinal in left]
    stored.settle(session, fired, "fired", now, handler=handler.id)
    if fired:
        data: dict[str, JsonValue] = {
            "trigger": "on_timeout", "job": handler.job, "run": handler.id, "targets": len(kept),
        }  # fmt: skip
        text = f"on_timeout gave {len(kept)} targets to {handler.job}"
        reports.log(session, run.org, run.id, now, text, data=data)


def _targets(
    session: Session, run: RunRow, firings: Sequence[Any], tasks: Mapping[int, Any]
) -> tuple[Sequence[Any], Mapping[int, Sequence[str]]]:
    """The targets of the tasks that timed out, by ordinal; of batches those of a few tasks.

    Returns also the firings that this is about; the others' turn comes later.
    """
    if run.batch == 1:
        found = {n: [task.target or task.device or ""] for n, task in tasks.items()}
        return firings, found
    few = firings[: max(CHUNK // size_of(run.batch), 1)]
    return few, batches.targets_of(session, run.id, [f.ordinal for f in few])


def _item(run: RunRow, context: Mapping[str, JsonValue], task: Any, target: str) -> RunItem:
    parameters: dict[str, JsonValue] = {
        "run": {"id": run.id, "job": run.job, "name": run.name},
        "context": dict(context),
        "task": {
            "id": task_id(run.id, task.ordinal),
            "attempt": task.attempt,
            "tries": task.tries,
            "started_at": task.started_at,
            "ended_at": task.ended_at,
            "failure": {"code": task.failure_code, "text": task.failure_text},
        },
    }
    return RunItem(target=target, parameters=parameters)


def _complete(
    session: Session,
    job: JobRow,
    run: RunRow,
    firings: Sequence[Any],
    now: int,
    new_id: str,
    address: str,
) -> None:
    counts = totals(session, [run.id])[run.id]
    link = links.report_link(session, run.id, now, address)
    number = int(firings[0].number)
    settings: dict[str, JsonValue] = json.loads(run.document)
    shown: dict[str, JsonValue] = {
        **_run(run),
        "status": run.status,
        "succeeded": counts.of(TaskStatus.SUCCEEDED),
        "failed": counts.of(TaskStatus.FAILED),
        "timed_out": counts.of(TaskStatus.TIMED_OUT),
        "cancelled": counts.of(TaskStatus.CANCELLED),
        "total": run.total,
        "has_errors": run.has_errors,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "run_by": run.run_by_name,
        "context": json.loads(run.context),
        "settings": {key: settings[key] for key in _SETTINGS if key in settings},
        "report": {"csv": link.csv, "ndjson": link.ndjson,
                   "expires_at": link.expires_at.isoformat()},
    }  # fmt: skip
    told: dict[str, JsonValue] = {
        "kind": "on_complete", "run": shown, "number": number, "again": number > 1,
    }  # fmt: skip
    handler = _start(session, job, run, firings, told, now, new_id)
    if handler is None:
        return
    stored.settle(session, firings, "fired", now, handler=handler.id)
    data: dict[str, JsonValue] = {"trigger": "on_complete", "job": job.id, "run": handler.id}
    reports.log(session, run.org, run.id, now, f"on_complete started {job.id}", data=data)


_SETTINGS: Final = ("targets", "iteration", "retry", "rollout", "priority", "type")


def _run(run: RunRow) -> dict[str, JsonValue]:
    return {"id": run.id, "job": run.job, "name": run.name}


def _start(
    session: Session,
    job: JobRow,
    run: RunRow,
    firings: Sequence[Any],
    told: Mapping[str, JsonValue],
    now: int,
    new_id: str,
) -> RunRow | None:
    """A run of the handler; None when it cannot start, which is kept as a run that failed."""
    first = firings[0]
    (trigger,) = [
        t for t in stored.of_run(session, run.id, first.kind) if t.position == first.position
    ]
    caller = Caller(OrgId(run.org), run.run_by, run.run_by_name, "operator")
    scope: dict[str, JsonValue] = {"ctx": json.loads(run.context), "run": _run(run)}
    own = json.loads(job.document).get("context", {})
    context = rules.handler_context(own, {}, told)
    try:
        rendered = render(json.loads(trigger.context), scope)
        assert isinstance(rendered, dict)
        context = rules.handler_context(own, rendered, told)
        with session.begin_nested():
            runs.start_run(session, caller, job.id, StartRun(context=context), new_id, now)
    except (TemplateError, Invalid, Conflict, NotFound) as error:
        reason = _why(error)
        failed = failed_start(session, caller, job, context, reason, new_id, now)
        _came_from(failed, run, first.kind)
        _refuse(session, run.org, firings, now, "failed", reason, handler=new_id)
        return None
    handler = stored_runs.get(session, new_id, lock=True)
    assert handler is not None
    _came_from(handler, run, first.kind)
    session.add(handler)
    session.flush()
    return handler


def _came_from(handler: RunRow, run: RunRow, kind: str) -> None:
    handler.origin, handler.origin_run, handler.depth = kind, run.id, run.depth + 1


def _why(error: Exception) -> str:
    items = getattr(error, "items", ())
    return "; ".join([str(error), *(f"{item.key}: {item.message}" for item in items)])[:1000]


def failed_start(
    session: Session,
    caller: Caller,
    job: JobRow,
    context: Mapping[str, JsonValue],
    reason: str,
    run_id: str,
    now: int,
) -> RunRow:
    """A run that could not start, kept as failed with its reason."""
    document = JobDocument.model_validate(json.loads(job.document))
    row = RunRow(
        id=run_id,
        org=job.org,
        job=job.id,
        name=job.name,
        type=job.type,
        status=RunStatus.FAILED,
        document=job.document,
        context=json.dumps(dict(context)),
        timeout=0,
        start_by=0,
        attempts=document.retry.attempts,
        retry=stored_runs.retry_json(retry_policy(document.retry)),
        creating=False,
        reason=reason,
        created_at=now,
        ended_at=now,
        expires_at=now,
        run_by=caller.id,
        run_by_name=caller.name,
        has_errors=True,
        system=job.system,
    )
    session.add(row)
    job.last_run, job.last_run_at = run_id, now
    session.add(job)
    session.flush()
    reports.log(session, job.org, run_id, now, f"could not start: {reason}", level="ERROR")
    return row


def _refuse(
    session: Session,
    org: str,
    firings: Sequence[Any],
    now: int,
    status: str,
    reason: str,
    *,
    handler: str | None = None,
) -> None:
    """Nothing was started: say so where the run's people look."""
    stored.settle(session, firings, status, now, handler=handler, reason=reason)
    for (run, kind), found in groupby(firings, key=lambda f: (str(f.run), str(f.kind))):
        number = len(list(found))
        text = f"{kind} did nothing for {number} targets: {reason}"
        if kind == "on_complete":
            text = f"{kind} did nothing: {reason}"
        reports.log(session, org, run, now, text[:4000], level="ERROR")
        reports.mark_errors(session, [run])
