"""Tasks of a run, their attempts, and the steps of those."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, text
from sqlmodel import col

from cloud.domain.control import RETRYABLE
from cloud.domain.counts import Totals
from cloud.domain.runs import offered_steps
from cloud.errors import NotFound
from cloud.storage import batches, counts, extensions
from cloud.storage.database import Session
from cloud.storage.schema import BAD, OPEN, AttemptRow, RunRow, TaskRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors, logs, runs, waits
from cloud.storage.views.parts import bounded, failure, moment, time, waiting
from contract.http import Page
from contract.http.tasks import Attempt, Step, StepInput, Task, TaskDetail, TaskInput
from contract.ids import task_id
from contract.job_document import JobDocument, step_lists
from contract.lifecycle import TASK_OPEN, TaskStatus
from contract.masking import masked
from contract.messages import OfferedStep, StepSnapshot, TaskSnapshot


def list_tasks(
    session: Session,
    org: str,
    run: str,
    now: int,
    *,
    statuses: Collection[TaskStatus] = (),
    device: str | None = None,
    gateway: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Task]:
    """A page of a run's tasks in order. Raises NotFound for the run."""
    of_run = runs.find(session, org, run)
    filters = cursors.fingerprint("tasks", org, run, sorted(statuses), device, gateway)
    after = cursors.decode(cursor, filters, int)
    limit = bounded(limit)
    query = of_org(TaskRow, org).where(col(TaskRow.run) == run).order_by(col(TaskRow.ordinal))
    if statuses:
        query = query.where(col(TaskRow.status).in_([status.value for status in statuses]))
        query = query.where(*_by_index(org, run, statuses))
    if device is not None:
        query = query.where(col(TaskRow.device) == device)
    if gateway is not None:
        query = query.where(col(TaskRow.gateway) == gateway)
    if after is not None:
        query = query.where(col(TaskRow.ordinal) > after[0])
    rows: Sequence[TaskRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page, more = rows[:limit], len(rows) > limit
    totals = counts.totals(session, [run])[run]
    return Page(
        items=[Task(**_task(session, row, of_run, totals, now)) for row in page],
        next_cursor=cursors.encode([page[-1].ordinal], filters) if more else None,
    )


def _by_index(org: str, run: str, statuses: Collection[TaskStatus]) -> list[ColumnElement[bool]]:
    """Conditions that let partial indexes find rare statuses, which else a whole run is read for.

    They say nothing new: they are what the indexes are declared with.
    """
    wanted = frozenset(statuses)
    if wanted <= RETRYABLE:
        return [text(BAD)]  # type: ignore[list-item]
    if not wanted <= TASK_OPEN:
        return []
    # As a subquery: else the order would have the primary key read from its start.
    of_run = f"{OPEN.replace('status', 'o.status')} AND o.org = :o_org AND o.run = :o_run"
    open_ones = text(f"tasks.ordinal IN (SELECT o.ordinal FROM tasks o WHERE {of_run})")
    return [open_ones.bindparams(o_org=org, o_run=run)]  # type: ignore[list-item]


def get_task(session: Session, org: str, task: str, now: int) -> TaskDetail:
    """A task with all its attempts, the newest first, and its log. Raises NotFound and Gone."""
    run, _, ordinal = task.rpartition("-")
    if not run or not ordinal.isdecimal() or len(ordinal) > 9:
        raise NotFound(f"task {task}")
    query = of_org(TaskRow, org).where(
        col(TaskRow.run) == run, col(TaskRow.ordinal) == int(ordinal)
    )
    row: TaskRow | None = session.execute(query).scalar_one_or_none()
    if row is None:
        runs.refuse_gone(session, org, run)
        raise NotFound(f"task {task}")
    of_run = runs.find(session, org, run)
    totals = counts.totals(session, [run])[run]
    attempts: Sequence[AttemptRow] = (
        session.execute(
            of_org(AttemptRow, org)
            .where(col(AttemptRow.run) == run, col(AttemptRow.ordinal) == row.ordinal)
            .order_by(col(AttemptRow.attempt).desc())
        )
        .scalars()
        .all()
    )
    names = step_names(of_run, row.steps)
    shown = [_attempt(attempt, names) for attempt in attempts]
    fields = _task(session, row, of_run, totals, now)
    newest = shown[0].failure if shown else None
    if newest is not None and row.failure_code == newest.code:
        fields["failure"] = newest  # it also names the step
    return TaskDetail(
        **fields,
        input=task_input(session, of_run, row.ordinal, names[0]),
        attempts=shown,
        log=logs.of_task(session, org, row.run, row.ordinal),
    )


def task_input(
    session: Session, run: RunRow, ordinal: int, steps: Sequence[OfferedStep]
) -> TaskInput:
    """What a task was given: its targets and parameters, and its steps as written, masked."""
    own: str | None = None
    if run.has_parameters:
        own = extensions.parameters_of(session, run.id, [ordinal]).get(ordinal)
    parameters = masked(json.loads(own)) if own else {}
    assert isinstance(parameters, dict)
    several = batches.targets_of(session, run.id, [ordinal]) if run.batch != 1 else {}
    return TaskInput(
        targets=several.get(ordinal, []),
        parameters=parameters,
        steps=[StepInput(id=s.id, uses=s.uses, parameters=_masked(s.with_)) for s in steps],
    )


def _masked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = masked(dict(parameters))
    assert isinstance(found, dict)
    return found


def tasks_changed_since(
    session: Session, org: str, run: str, ordinals: Collection[int], now: int
) -> list[Task]:
    """These tasks of a run as they are now: what a page shows again after a change."""
    of_run = runs.find(session, org, run)
    totals = counts.totals(session, [run])[run]
    query = of_org(TaskRow, org).where(
        col(TaskRow.run) == run, col(TaskRow.ordinal).in_(list(ordinals))
    )
    rows: Sequence[TaskRow] = session.execute(query.order_by(col(TaskRow.ordinal))).scalars().all()
    return [Task(**_task(session, row, of_run, totals, now)) for row in rows]


def _task(session: Session, row: TaskRow, run: RunRow, totals: Totals, now: int) -> dict[str, Any]:
    status = TaskStatus(row.status)
    return {
        "id": task_id(row.run, row.ordinal),
        "run": row.run,
        "job": run.job,
        "ordinal": row.ordinal,
        "target": row.target or row.device or "",
        "targets": row.targets,
        "device": row.device,
        "gateway": row.gateway,
        "status": status,
        "attempt": row.attempt,
        "tries": row.tries,
        "attempts_allowed": row.attempts,
        "progress": min(row.progress, 10_000) / 100,
        "current_step": row.current_step,
        "started_at": time(row.started_at),
        "ended_at": time(row.ended_at),
        "last_triggered_at": time(row.offered_at),
        "due_at": time(row.due_at) if status is TaskStatus.RESCHEDULED else None,
        "failure": failure(row.failure_code, row.failure_text),
        "waiting_for": waiting(waits.task_waits_for(session, row, run, totals, now)),
    }


Names = Mapping[str, tuple[str, str]]


def step_names(run: RunRow, name: str | None = None) -> tuple[list[OfferedStep], Names]:
    """A run's steps as performed, and the name and help that the job's author gave each."""
    document = JobDocument.model_validate(json.loads(run.document))
    written = [step for steps in step_lists(document).values() for step in steps]
    steps = offered_steps(document, name)
    names = {}
    for step in written:
        for done in steps:
            if step.id and (done.id == step.id or done.id.startswith(f"{step.id}_")):
                names[done.id] = step.name or "", step.help or ""
    unnamed = [step for step in written if not step.id and (step.name or step.help)]
    for step in unnamed:
        match = next((s for s in steps if s.uses == step.uses and s.id not in names), None)
        if match is not None:
            names[match.id] = step.name or "", step.help or ""
    return steps, names


def _attempt(row: AttemptRow, known: tuple[list[OfferedStep], Names]) -> Attempt:
    offered, names = known
    snapshot = None if row.snapshot is None else TaskSnapshot.model_validate_json(row.snapshot)
    steps = snapshot.steps if snapshot is not None else []
    if not steps:
        steps = [StepSnapshot(id=step.id, uses=step.uses) for step in offered]
    step = snapshot.failure.step if snapshot is not None and snapshot.failure else None
    written = {step.id: step.with_ for step in offered}
    return Attempt(
        attempt=row.attempt,
        status=TaskStatus(row.status),
        begun=row.begun,
        gateway=row.gateway,
        revision=row.revision,
        offered_at=moment(row.offered_at),
        started_at=time(row.started_at),
        ended_at=time(row.ended_at),
        failure=failure(row.failure_code, row.failure_text, step),
        result=None if snapshot is None else snapshot.result,
        steps=[_step(step, names, written.get(step.id)) for step in steps],
        late_outcome=None if row.late is None else json.loads(row.late),
    )


def _step(step: StepSnapshot, names: Names, written: Mapping[str, Any] | None) -> Step:
    name, help_text = names.get(step.id, ("", ""))
    why = step.failure
    # Gateways tell what differs from the job's own words, and older ones tell nothing.
    given = _masked(written) if step.input is None and step.tries and written else step.input
    return Step(
        id=step.id,
        uses=step.uses,
        name=name,
        help=help_text,
        status=step.status,
        progress=step.progress,
        tries=step.tries,
        started_at=time(step.started_at),
        skipped_at=time(step.skipped_at),
        completed_at=time(step.completed_at),
        failure=None if why is None else failure(why.code, why.text, step.id),
        result=step.result,
        truncated=step.truncated,
        note=step.note,
        input=given,
        input_truncated=step.input_truncated,
    )
