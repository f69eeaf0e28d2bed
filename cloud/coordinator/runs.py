"""Starting, filling, cancelling and ending runs.

A change to a whole run is one row that takes effect at once, and a sweep in chunks with a stored
cursor; every function here that ends in `-> bool` is one chunk, and says whether there is more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from cloud.coordinator import armed, batches, control, items, serial
from cloud.coordinator.access import Caller
from cloud.coordinator.contexts import check_context
from cloud.coordinator.secrets import names_for
from cloud.coordinator.targets import resolve
from cloud.domain import runs as rules
from cloud.domain.batches import stored_batch
from cloud.domain.counts import Deltas, ended_status
from cloud.domain.tasks import close
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import counts, jobs, reports, run_sweeps, runs, targets, tasks
from cloud.storage.database import Session
from cloud.storage.dialect import is_sqlite
from cloud.storage.json_text import to_json
from cloud.storage.schema import RunRow
from cloud.storage.tasks import Move
from cloud.storage.views import runs as views
from contract import query as queries
from contract.http.problems import ProblemItem
from contract.http.runs import CancelRun, Run, StartRun
from contract.job_document import DEFAULT_EXPIRY, JobDocument
from contract.lifecycle import RunStatus, TaskStatus
from contract.messages import ArtifactRef, Failure

CHUNK: Final = 5_000
EXPIRED: Final = Failure(code="expired", text="the run expired")
# How long a forced cancel waits for its gateway before the task ends unconfirmed.
UNCONFIRMED_AFTER_MS: Final = 300_000


def start_run(
    session: Session, caller: Caller, job_id: str, start: StartRun, run_id: str, now: int
) -> Run:
    """Freeze a job into a run; its tasks are created by `create_tasks`.

    One that is to start later, or takes over from a run in flight, waits as `scheduled` until
    `control.start_due` starts it. The same run id again returns the run as it is. Raises NotFound
    for the job, Conflict ("run_in_flight" with the run, "job_paused", "name_taken"), Invalid
    ("document_invalid", "unknown_artifact", "image_invalid"); then nothing is created.
    """
    existing = session.get(RunRow, run_id)
    if existing is not None:
        if (existing.org, existing.job) != (caller.org, job_id):
            raise Conflict("name_taken", f"the id {run_id} is another run's")
        return views.get_run(session, caller.org, run_id, now)
    job = jobs.get_job(session, caller.org, job_id, lock=True)
    if job is None:
        raise NotFound(f"job `{job_id}`")
    if job.paused_at is not None:
        raise Conflict("job_paused", f"job `{job_id}` is paused by {job.paused_by}")
    starts_at = rules.starts_at(start, now)
    in_flight = jobs.run_in_flight(session, caller.org, job_id)
    if in_flight is not None and starts_at is None and not start.replace:
        raise _in_flight(job_id, in_flight)
    document = JobDocument.model_validate(json.loads(job.document))
    row = _frozen(session, caller, job_id, document, start, run_id, now)
    row.starts_at, row.system = starts_at, job.system
    others = [job_id, *document.replaces] if start.replace else document.replaces
    takes_over = control.replace_runs(session, caller, row, others, now)
    if starts_at is None and not takes_over:
        row.status, row.started_at = RunStatus.RUNNING, now
    if not jobs.insert(session, row):
        # Somebody else was faster; the index lets one of us through.
        raise _in_flight(job_id, jobs.run_in_flight(session, caller.org, job_id) or "")
    items.save_bodies(session, row, document)
    job.last_run, job.last_run_at = run_id, now
    session.add(job)
    session.flush()
    armed.arm(session, row, document)
    said = "run started" if row.started_at is not None else "run asked for"
    reports.log(session, caller.org, run_id, now, said, data={"by": caller.name})
    return views.get_run(session, caller.org, run_id, now)


def _in_flight(job: str, run: str) -> Conflict:
    return Conflict("run_in_flight", f"run {run} of job `{job}` has not ended", run=run or None)


def _frozen(
    session: Session,
    caller: Caller,
    job: str,
    document: JobDocument,
    start: StartRun,
    run: str,
    now: int,
) -> RunRow:
    context = document.context if start.context is None else start.context
    check_context(context, document.context_schema)
    scope: dict[str, JsonValue] = {"ctx": context, "run": {"id": run, "job": job}}
    found = resolve(session, caller.org, document.targets, scope, start.query)
    steps = rules.offered_steps(document)
    artifacts = _resolve_artifacts(session, caller.org, document, scope)
    body = rules.job_body(run, job, document, steps, context, artifacts)
    items.check(session, caller.org, document)
    iteration = document.iteration
    lasts = rules.millis(start.expires_after or DEFAULT_EXPIRY)
    return RunRow(
        id=run,
        org=caller.org,
        job=job,
        name=document.name,
        type=document.type,
        status=RunStatus.SCHEDULED,
        priority=rules.PRIORITIES[start.priority or document.priority],
        document=to_json(document.model_dump(mode="json", by_alias=True, exclude_defaults=True)),
        resource=found.shape.resource,
        retry_online=document.retry.when == "online",
        continuous=document.targets.continuous,
        itemized=document.targets.items is not None,
        batch=stored_batch(iteration.batch),
        target_table=found.table,
        secrets=names_for(session, caller.org, steps),
        query=to_json(queries.to_json(found.query)),
        context=to_json(context),
        body=body.model_dump_json(by_alias=True, exclude_defaults=True),
        body_hash=body.hash,
        verbs=to_json(rules.needed_verbs(document)),
        concurrency=1 if iteration.mode == "serial" else iteration.concurrency,
        per_gateway=iteration.per_gateway,
        timeout=rules.millis(iteration.timeout),
        start_by=rules.millis(iteration.start_by),
        retry=runs.retry_json(rules.retry_policy(document.retry)),
        attempts=document.retry.attempts,
        serial=iteration.mode == "serial",
        delay=rules.millis(iteration.delay),
        offline=iteration.offline,
        offline_after=rules.millis(iteration.offline_after),
        per_bus=iteration.per_bus,
        per_site=iteration.per_site,
        created_at=now,
        expires_after=lasts,
        expires_at=(rules.starts_at(start, now) or now) + lasts,
        run_by=caller.id,
        run_by_name=caller.name,
    )


def _resolve_artifacts(
    session: Session, org: str, document: JobDocument, scope: Mapping[str, JsonValue]
) -> dict[str, ArtifactRef]:
    try:
        wanted = rules.wanted_artifacts(document, scope)
    except rules.ArtifactNameInvalid as error:
        raise _invalid("document_invalid", error.key, str(error)) from error
    found = {}
    for want in wanted:
        artifact = jobs.find_artifact(session, org, want.name)
        if artifact is None:
            message = f"there is no artifact `{want.name}`; push it first"
            raise _invalid("unknown_artifact", want.key, message)
        if want.is_image and artifact.image_hash is None:
            message = f"`{want.name}` is not an MCUboot image, so no device could start it"
            raise _invalid("image_invalid", want.key, message)
        found[want.name] = ArtifactRef(sha256=artifact.sha256, size=artifact.size)
    return found


def _invalid(code: str, key: str, message: str) -> Invalid:
    return Invalid(code, message, [ProblemItem(key=key, message=message)])


def create_tasks(session: Session, run_id: str, now: int, limit: int = CHUNK) -> bool:
    """Create tasks for the next `limit` targets looked at; says whether there are more."""
    run = runs.get(session, run_id, lock=True)
    if run is None or run.ended_at is not None or run.started_at is None:
        return False
    if not run.creating and not (run.continuous and run.status == RunStatus.RUNNING):
        return False
    if run.itemized:
        return items.create_tasks(session, run, now)
    if run.batch != 1:
        return batches.create_tasks(session, run, now, limit)
    query = queries.parse(json.loads(run.query))
    shape = targets.SHAPES[run.resource]
    condition = targets.compile_query(query, sqlite=is_sqlite(session), shape=shape)
    # In serial mode the order is the ordinals', and what was handed back keeps its place.
    due_at = 0 if run.serial else now
    created, cursor = run_sweeps.create_tasks(session, run, condition, limit, due_at)
    run.total += created
    was_creating, run.creating = run.creating, run.creating and cursor is not None
    run.created_to = run.created_to if cursor is None else cursor
    if cursor is None and run.continuous:
        run.created_to, run.looked_at = "", now
    session.add(run)
    deltas = Deltas()
    deltas.added(run_id, TaskStatus.SCHEDULED, created)
    counts.move(session, deltas, counts.SWEEP_SHARD)
    if was_creating and not run.creating:
        reports.log(session, run.org, run_id, now, "tasks created", data={"total": run.total})
    elif created and not was_creating:
        reports.log(session, run.org, run_id, now, "targets joined", data={"number": created})
    return cursor is not None


def cancel_run(session: Session, caller: Caller, run_id: str, cancel: CancelRun, now: int) -> Run:
    """Ask for a cancel, or for more force; it takes effect at once and is swept in chunks.

    Raises NotFound, and Conflict("run_ended").
    """
    run = runs.get(session, run_id, lock=True)
    if run is None or run.org != caller.org:
        raise NotFound(f"run {run_id}")
    if run.ended_at is not None:
        raise Conflict("run_ended", f"the run has ended as {run.status}")
    control.ask_cancel(session, caller, run, cancel, now)
    return views.get_run(session, run.org, run_id, now)


def sweep(session: Session, run_id: str, now: int, limit: int = CHUNK) -> bool:
    """One chunk of what a change to the whole run means for its tasks: cancel, recall, retry."""
    run = runs.get(session, run_id, lock=True)
    if run is None or run.ended_at is not None:
        return False
    if run.cancel is not None:
        return _sweep_cancelled(session, run, now, limit)
    if run.retry_asked is not None:
        return control.sweep_retried(session, run, now, limit)
    return run.paused_by != "" and control.sweep_recalled(session, run, limit)


def _sweep_cancelled(session: Session, run: RunRow, now: int, limit: int) -> bool:
    """Cancel the next tasks that are not in flight, and mark those that are to be recalled."""
    run_id = run.id
    if run.cancelled_to >= run.total:
        return False
    upto = min(run.cancelled_to + limit, run.total)
    moved = run_sweeps.cancel_due(session, run_id, run.cancelled_to, upto, now)
    run_sweeps.mark_open(session, run_id, run.cancelled_to, upto, run.cancel or "soft")
    deltas = Deltas()
    for status, number, progress in moved:
        deltas.added(run_id, status, -number)
        deltas.added(run_id, TaskStatus.CANCELLED, number)
        deltas.by_run[run_id]["progress"] += number * 10_000 - progress
    counts.move(session, deltas, counts.SWEEP_SHARD)
    run.cancelled_to = upto
    session.add(run)
    return upto < run.total


@dataclass(frozen=True)
class Settled:
    """`changed`: the run or tasks of it have ended. `more`: the chunk did not reach the end."""

    changed: bool = False
    more: bool = False

    def __bool__(self) -> bool:
        return self.more


def settle_run(session: Session, run_id: str, now: int, limit: int = 1_000) -> Settled:
    """End what has expired or stayed unconfirmed, and the run when all its tasks have ended."""
    run = runs.get(session, run_id, lock=True)
    if run is None or run.ended_at is not None:
        return Settled()
    number = 0
    if now >= run.expires_at:
        run.creating = run.fed = False
        number = _expire(session, run_id, now, limit)
    elif run.cancel is not None:
        number = _give_up(session, run, now, limit)
    totals = counts.totals(session, [run_id])[run_id]
    swept = run.retry_asked is None and (run.cancel is None or run.cancelled_to >= run.total)
    if run.cancel is not None and swept and totals.of(TaskStatus.SCHEDULED, TaskStatus.RESCHEDULED):
        # A report that was being stored while the cancel came has put a task back: sweep again.
        run.cancelled_to, swept = -1, False
    is_fed = (run.fed or run.continuous) and run.cancel is None and now < run.expires_at
    if not run.creating and not is_fed and swept and totals.ended == run.total:
        serial.fold(session, run, now)
        session.flush()
        session.refresh(run)
        run.status = ended_status(totals, RunStatus(run.cancel_then) if run.cancel else None)
        run.ended_at = now
        run.has_errors |= totals.of(TaskStatus.FAILED, TaskStatus.TIMED_OUT) > 0
        shown = {status.value: number for status, number in totals.by_status.items() if number}
        reports.log(session, run.org, run_id, now, f"run {run.status}", data=dict(shown))
        armed.note_end(session, run, now)
    elif run.status == RunStatus.PAUSING and not totals.in_flight:
        run.status = RunStatus.PAUSED
        number += 1
    session.add(run)
    return Settled(number > 0 or run.ended_at is not None, run.ended_at is None and number >= limit)


def _expire(session: Session, run_id: str, now: int, limit: int) -> int:
    moved = run_sweeps.expire_due(session, run_id, limit, now, EXPIRED)
    deltas = Deltas()
    for status, number, progress in moved:
        deltas.added(run_id, status, -number)
        deltas.added(run_id, TaskStatus.FAILED, number)
        deltas.by_run[run_id]["progress"] += number * 10_000 - progress
    found = run_sweeps.open_tasks(session, run_id, limit)
    facts = runs.load_facts(session, [run_id])[run_id]
    moves = [
        Move(task, close(task.facts, facts, TaskStatus.FAILED, EXPIRED, now)) for task in found
    ]
    tasks.save_moves(session, moves, now, counts.SWEEP_SHARD, deltas)
    return sum(number for _, number, _ in moved) + len(found)


def _give_up(session: Session, run: RunRow, now: int, limit: int) -> int:
    """Cancelled, unconfirmed: nobody has answered the cancel. The device stays held."""
    since = now - UNCONFIRMED_AFTER_MS
    found = []
    if run.cancel == "force" and (run.cancel_at or now) <= since:
        found = run_sweeps.open_tasks(session, run.id, limit)
    elif run.cancel is not None:
        found = run_sweeps.unanswered(session, run.id, since - run.start_by, limit)
    if not found:
        return 0
    facts = runs.load_facts(session, [run.id])[run.id]
    text = "the gateway has not answered the cancel"
    failure = Failure(code="unconfirmed", text=text)
    moves = [
        Move(task, close(task.facts, facts, TaskStatus.CANCELLED, failure, now)) for task in found
    ]
    held = {task.key for task in found if task.sent}
    tasks.save_moves(session, moves, now, counts.SWEEP_SHARD, keep_devices=held)
    return len(found)
