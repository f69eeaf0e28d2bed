"""What must be true of a run whatever went wrong in it: checked at the end of every story."""

from collections import Counter
from collections.abc import Mapping, Sequence

from contract.http.runs import Counts, Run
from contract.http.tasks import Attempt, Task, TaskDetail
from contract.lifecycle import RUN_ENDS, STEP_ENDS, TASK_ENDS, RunStatus, StepStatus, TaskStatus
from tests.kit.rig_site import Truth

_COLUMNS: Mapping[str, frozenset[TaskStatus]] = {
    "pending": frozenset({TaskStatus.SCHEDULED}),
    "in_flight": frozenset(
        {TaskStatus.OFFERED, TaskStatus.ACCEPTED, TaskStatus.RUNNING, TaskStatus.AWAITING}
    ),
    "retrying": frozenset({TaskStatus.RESCHEDULED}),
    "succeeded": frozenset({TaskStatus.SUCCEEDED}),
    "failed": frozenset({TaskStatus.FAILED}),
    "timed_out": frozenset({TaskStatus.TIMED_OUT}),
    "cancelled": frozenset({TaskStatus.CANCELLED}),
}


def recount(tasks: Sequence[Task]) -> Counts:
    """The counts of a run as its tasks say."""
    by_status = Counter(task.status for task in tasks)
    columns = {
        column: sum(by_status[status] for status in statuses)
        for column, statuses in _COLUMNS.items()
    }
    return Counts(**columns, total=len(tasks))


def check_run(run: Run, tasks: Sequence[Task]) -> None:
    """A run that has ended: counts equal a recount, nothing is left open, progress is whole."""
    assert run.status in RUN_ENDS
    assert run.counts == recount(tasks)
    assert all(task.status in TASK_ENDS for task in tasks)
    assert run.progress == 100 or not tasks
    succeeded = run.counts.succeeded
    if run.status is RunStatus.SUCCEEDED:
        assert succeeded == run.counts.total
    elif run.status is RunStatus.FAILED:
        assert succeeded == 0
    elif run.status is RunStatus.PARTIALLY_SUCCEEDED:
        assert 0 < succeeded < run.counts.total


def check_task(task: TaskDetail) -> None:
    """A task that has ended: one attempt decides, attempts follow each other, steps in order."""
    assert task.ended_at is not None
    assert task.progress == 100 or task.status is not TaskStatus.SUCCEEDED
    assert task.tries <= task.attempts_allowed
    newest_first = [attempt.attempt for attempt in task.attempts]
    assert newest_first == sorted(set(newest_first), reverse=True)
    good = [one for one in task.attempts if one.status is TaskStatus.SUCCEEDED]
    assert len(good) == (1 if task.status is TaskStatus.SUCCEEDED else 0)
    if task.attempts:
        assert task.attempts[0].status is task.status or not task.attempts[0].begun
    for attempt in task.attempts:
        assert attempt.status in TASK_ENDS or attempt.status is TaskStatus.SCHEDULED
        _check_steps(attempt)


def _check_steps(attempt: Attempt) -> None:
    began = [step.started_at for step in attempt.steps if step.started_at is not None]
    assert began == sorted(began), "steps keep their order"
    for step in attempt.steps:
        if step.status is StepStatus.SUCCEEDED:
            assert step.started_at is not None and step.completed_at is not None
            assert step.started_at <= step.completed_at
            assert step.progress == 100
        if step.status is StepStatus.SKIPPED:
            assert step.skipped_at is not None
    if attempt.status is TaskStatus.SUCCEEDED:
        assert all(step.status in STEP_ENDS or step.uses for step in attempt.steps)
        assert not any(step.status is StepStatus.FAILED for step in attempt.steps)


def check_firmware(task: TaskDetail, version: str, truth: Truth) -> None:
    """A firmware task says `succeeded` exactly of a device that runs the version, confirmed."""
    runs_it = truth["version"] == version and truth["confirmed"]
    if task.status is TaskStatus.SUCCEEDED:
        assert runs_it, f"{task.id} succeeded, but {task.device} is {truth}"
