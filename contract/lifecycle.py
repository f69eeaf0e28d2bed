"""Life-cycles of run, task and step: every status and every legal move.

The programs, the tests and the diagrams in the docs read these tables. A task has two: moves the
cloud makes, and moves a report of its open attempt makes.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class RunStatus(StrEnum):
    SCHEDULED = "scheduled"  # its start is not reached, or the window closed before the first task
    RUNNING = "running"  # tasks may start
    PAUSING = "pausing"  # paused; tasks in flight still finish
    PAUSED = "paused"  # no task in flight; resumable
    CANCELLING = "cancelling"  # tasks in flight finish or are stopped; all others are cancelled
    SUCCEEDED = "succeeded"  # every task succeeded, or there were none
    PARTIALLY_SUCCEEDED = "partially_succeeded"  # some tasks succeeded
    FAILED = "failed"  # no task succeeded, or the run could not start
    CANCELLED = "cancelled"  # by a person, the API, a step or an abort rule
    REPLACED = "replaced"  # a newer run took over


class TaskStatus(StrEnum):
    SCHEDULED = "scheduled"  # not started, waiting for its turn
    OFFERED = "offered"  # sent to its gateway until the gateway reports it
    ACCEPTED = "accepted"  # in the gateway's journal; no step has begun
    RUNNING = "running"  # a step has begun
    AWAITING = "awaiting"  # steps done, an explicit acknowledgment is outstanding
    RESCHEDULED = "rescheduled"  # an attempt failed or timed out; another is due later
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


R, T, S = RunStatus, TaskStatus, StepStatus

RUN_ENDS: Final = frozenset({R.SUCCEEDED, R.PARTIALLY_SUCCEEDED, R.FAILED, R.CANCELLED, R.REPLACED})
RUN_MOVES: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    R.SCHEDULED: frozenset({R.RUNNING, R.PAUSED, R.CANCELLED, R.REPLACED, R.FAILED}),
    R.RUNNING: frozenset(
        {R.PAUSING, R.PAUSED, R.CANCELLING, R.SUCCEEDED, R.PARTIALLY_SUCCEEDED, R.FAILED}
    ),
    R.PAUSING: frozenset(
        {R.PAUSED, R.RUNNING, R.CANCELLING, R.SUCCEEDED, R.PARTIALLY_SUCCEEDED, R.FAILED}
    ),
    # One paused before its start goes back to waiting for it, or ends without having begun.
    R.PAUSED: frozenset(
        {
            R.RUNNING,
            R.SCHEDULED,
            R.CANCELLING,
            R.CANCELLED,
            R.REPLACED,
            R.SUCCEEDED,
            R.PARTIALLY_SUCCEEDED,
            R.FAILED,
        }
    ),
    R.CANCELLING: frozenset({R.CANCELLED, R.REPLACED}),
    # "retry failed" opens an ended run again; nothing else does.
    R.SUCCEEDED: frozenset({R.RUNNING}),
    R.PARTIALLY_SUCCEEDED: frozenset({R.RUNNING}),
    R.FAILED: frozenset({R.RUNNING}),
    R.CANCELLED: frozenset({R.RUNNING}),
    R.REPLACED: frozenset(),
}

TASK_ENDS: Final = frozenset({T.SUCCEEDED, T.FAILED, T.TIMED_OUT, T.CANCELLED})
# An attempt is open in these: it is bound to one gateway and journal, and may still report.
TASK_OPEN: Final = frozenset({T.OFFERED, T.ACCEPTED, T.RUNNING, T.AWAITING})
# What a gateway may say about an attempt. `scheduled` hands it back: it never began.
REPORTABLE: Final = frozenset({T.ACCEPTED, T.RUNNING, T.AWAITING, T.SCHEDULED, *TASK_ENDS})

CLOUD_TASK_MOVES: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = {
    T.SCHEDULED: frozenset({T.OFFERED, T.CANCELLED, T.FAILED}),
    # Ended by the cloud itself: lost gateway, deadline, expiry, an unconfirmed cancel; or taken
    # back, because the offer is older than its start-by and nobody accepted it.
    T.OFFERED: frozenset({T.SCHEDULED, T.RESCHEDULED, T.FAILED, T.TIMED_OUT, T.CANCELLED}),
    T.ACCEPTED: frozenset({T.RESCHEDULED, T.FAILED, T.TIMED_OUT, T.CANCELLED}),
    T.RUNNING: frozenset({T.RESCHEDULED, T.FAILED, T.TIMED_OUT, T.CANCELLED}),
    # An explicit acknowledgment arrives at the cloud, which closes the task either way.
    T.AWAITING: frozenset({T.RESCHEDULED, T.SUCCEEDED, T.FAILED, T.TIMED_OUT, T.CANCELLED}),
    T.RESCHEDULED: frozenset({T.OFFERED, T.CANCELLED, T.FAILED, T.SUCCEEDED}),
    # Only an operator's "retry failed" leaves these.
    T.FAILED: frozenset({T.RESCHEDULED}),
    T.TIMED_OUT: frozenset({T.RESCHEDULED}),
    T.SUCCEEDED: frozenset(),
    T.CANCELLED: frozenset(),
}
# A report of the open attempt may go from any open status to any later one: reports may be lost,
# so one may be the first and the last. `rescheduled` is the cloud's answer to a failed attempt.
REPORT_TASK_MOVES: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = {
    T.OFFERED: frozenset(
        {T.ACCEPTED, T.RUNNING, T.AWAITING, T.SCHEDULED, T.RESCHEDULED, *TASK_ENDS}
    ),
    T.ACCEPTED: frozenset({T.RUNNING, T.AWAITING, T.SCHEDULED, T.RESCHEDULED, *TASK_ENDS}),
    T.RUNNING: frozenset({T.AWAITING, T.RESCHEDULED, *TASK_ENDS}),
    T.AWAITING: frozenset({T.RESCHEDULED, *TASK_ENDS}),
}
TASK_MOVES: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = {
    status: CLOUD_TASK_MOVES[status] | REPORT_TASK_MOVES.get(status, frozenset())
    for status in TaskStatus
}

STEP_ENDS: Final = frozenset({S.SUCCEEDED, S.FAILED, S.SKIPPED})
STEP_MOVES: Final[Mapping[StepStatus, frozenset[StepStatus]]] = {
    S.PENDING: frozenset({S.RUNNING, S.SKIPPED, S.FAILED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.FAILED, S.SKIPPED}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.SKIPPED: frozenset(),
}

# The second seed's names for run statuses, for filters and `wait`.
RUN_STATUS_ALIASES: Final[Mapping[str, frozenset[RunStatus]]] = {
    "PENDING": frozenset({R.SCHEDULED}),
    "RUNNING": frozenset({R.RUNNING}),
    "FINISHED": frozenset({R.SUCCEEDED, R.PARTIALLY_SUCCEEDED, R.FAILED}),
    "STOPPING": frozenset({R.PAUSING}),
    "STOPPED": frozenset({R.PAUSED}),
    "CANCELING": frozenset({R.CANCELLING}),
    "CANCELED": frozenset({R.CANCELLED, R.REPLACED}),
}


def run_statuses(name: str) -> frozenset[RunStatus]:
    """The statuses a word stands for: one of ours, or a seed's name. Raises ValueError."""
    if name in RUN_STATUS_ALIASES:
        return RUN_STATUS_ALIASES[name]
    try:
        return frozenset({RunStatus(name)})
    except ValueError:
        known = ", ".join([*RunStatus, *RUN_STATUS_ALIASES])
        raise ValueError(f"`{name}` is no run status; known are {known}") from None


def can_reach(current: RunStatus, wanted: Iterable[RunStatus]) -> bool:
    """Whether a run may still come to one of these by itself; being there counts."""
    goals, seen, ahead = frozenset(wanted), {current}, [current]
    while ahead:
        status = ahead.pop()
        if status in goals:
            return True
        # Out of an end leads only an operator's "retry failed".
        for follower in RUN_MOVES[status] if status not in RUN_ENDS else ():
            if follower not in seen:
                seen.add(follower)
                ahead.append(follower)
    return False


def report_may_move(current: TaskStatus, reported: TaskStatus) -> bool:
    """Whether a newer report of the open attempt may be taken; staying where one is may be."""
    return reported is current or reported in REPORT_TASK_MOVES.get(current, frozenset())
