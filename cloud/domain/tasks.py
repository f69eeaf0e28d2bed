"""What a received snapshot, a lost gateway or a deadline means for a task, as the cloud sees it."""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from contract.lifecycle import TASK_ENDS, TASK_OPEN, TaskStatus, report_may_move
from contract.messages import Failure, TaskSnapshot

T = TaskStatus
# How long past its own deadline a gateway in session may stay silent about an attempt.
GRACE_MS: Final = 60_000
# A gateway that hands a task straight back is not asked again at once.
HANDED_BACK_MS: Final = 1_000
WHOLE: Final = 10_000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When another attempt follows. `attempts` counts all tries, times are milliseconds."""

    on_timeout: bool = True
    on_failure: bool = True
    delay: int = 0
    backoff: float = 1.0
    max_delay: int | None = None

    def covers(self, status: TaskStatus) -> bool:
        return self.on_timeout if status is T.TIMED_OUT else self.on_failure

    def wait_before(self, retry: int) -> int:
        """Milliseconds before retry number `retry`, counted from 0."""
        ceiling = self.max_delay if self.max_delay is not None else 3_650 * 86_400_000
        try:
            wait = self.delay * self.backoff**retry
        except OverflowError:
            return ceiling
        return round(min(wait, ceiling))


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run says about all its tasks; times are milliseconds."""

    retry: RetryPolicy
    timeout: int
    start_by: int
    expires_at: int
    cancelled: bool = False
    ended: bool = False
    delay: int = 0

    def is_open(self, now: int) -> bool:
        """Whether another attempt may follow."""
        return not self.cancelled and not self.ended and now < self.expires_at


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A task and the attempt in it. `gateway` and `journal` are those the attempt is bound to."""

    status: TaskStatus
    attempt: int
    revision: int
    begun: bool
    tries: int
    attempts: int
    gateway: str | None
    journal: str | None
    started_at: int | None = None


@dataclass(frozen=True, slots=True)
class ClosedAttempt:
    """An attempt that is no longer the open one, and its newest late revision, if any."""

    gateway: str
    journal: str
    revision: int
    late_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The task's new state. `attempt_status` is the attempt's own, which is what was reported.

    `rests_until`: the slot it gives back is not to be taken before.
    """

    status: TaskStatus
    attempt_status: TaskStatus
    revision: int
    begun: bool
    tries: int
    due_at: int
    deadline: int | None
    progress: int
    current_step: str | None
    waiting_for: str | None
    started_at: int | None
    ended_at: int | None
    failure: Failure | None
    rests_until: int | None = None

    @property
    def closes(self) -> bool:
        """Whether the attempt is over, so that its device and slot are free."""
        return self.status not in TASK_OPEN


@dataclass(frozen=True, slots=True)
class Old:
    """A copy, or older than what is known: stored already."""


@dataclass(frozen=True, slots=True)
class Late:
    """News of an attempt that has ended: kept beside it. `ends`: its gateway is done with it."""

    ends: bool


@dataclass(frozen=True, slots=True)
class Refused:
    code: str
    text: str


Decision: TypeAlias = Taken | Old | Late | Refused
OLD: Final = Old()


def receive(
    task: TaskFacts,
    run: RunFacts,
    snapshot: TaskSnapshot,
    sender: tuple[str, str | None],
    closed: ClosedAttempt | None,
    now: int,
) -> Decision:
    """Decide about one snapshot.

    `sender` is the gateway it came from and that gateway's journal. `closed` is the attempt the
    snapshot names when that is not the task's open one.
    """
    if snapshot.attempt > task.attempt:
        return Refused("unknown_attempt", f"the newest attempt offered is {task.attempt}")
    if task.status not in TASK_OPEN or snapshot.attempt < task.attempt:
        return _receive_late(snapshot, sender, closed)
    if (task.gateway, task.journal) != sender:
        return Refused("foreign_task", "the attempt is bound to another gateway or journal")
    if snapshot.revision <= task.revision:
        return OLD
    if not report_may_move(task.status, snapshot.status) or (
        snapshot.status is T.SCHEDULED and (snapshot.begun or task.begun)
    ):
        return Refused("illegal_move", f"from {task.status} to {snapshot.status}")
    return _taken(task, run, snapshot, now)


def _receive_late(
    snapshot: TaskSnapshot, sender: tuple[str, str | None], closed: ClosedAttempt | None
) -> Decision:
    if closed is None:
        return Refused("unknown_attempt", "the cloud never offered this attempt")
    if (closed.gateway, closed.journal) != sender:
        return Refused("foreign_task", "the attempt is bound to another gateway or journal")
    if snapshot.revision <= max(closed.revision, closed.late_revision or 0):
        return OLD
    return Late(ends=snapshot.status in TASK_ENDS or snapshot.status is T.SCHEDULED)


def _taken(task: TaskFacts, run: RunFacts, snapshot: TaskSnapshot, now: int) -> Taken:
    status = snapshot.status
    begun = task.begun or snapshot.begun or status in (T.FAILED, T.TIMED_OUT)
    tries = task.tries + (begun and not task.begun)
    started_at = task.started_at
    if started_at is None and begun:
        started_at = snapshot.started_at or now
    next_status, due_at = _what_follows(status, run, tries, task.attempts, now)
    ended = next_status in TASK_ENDS
    return Taken(
        status=next_status,
        attempt_status=status,
        revision=snapshot.revision,
        begun=begun,
        tries=tries,
        due_at=due_at,
        deadline=_deadline(next_status, run, snapshot.elapsed, now),
        progress=_progress(next_status, snapshot.progress),
        current_step=snapshot.current_step if next_status in TASK_OPEN else None,
        waiting_for=snapshot.waiting_for if next_status is T.ACCEPTED else None,
        started_at=started_at,
        ended_at=now if ended else None,
        failure=snapshot.failure,
        rests_until=_rests_until(next_status, run, begun, now),
    )


def close(
    task: TaskFacts, run: RunFacts, status: TaskStatus, failure: Failure | None, now: int
) -> Taken:
    """End the open attempt without a report: its gateway is lost or silent, or the run expired.

    `status` is how the attempt ends; what follows is up to the retry policy.
    """
    next_status, due_at = _what_follows(status, run, task.tries, task.attempts, now)
    ended = next_status in TASK_ENDS
    return Taken(
        status=next_status,
        attempt_status=status,
        revision=task.revision,
        begun=task.begun,
        tries=task.tries,
        due_at=due_at,
        deadline=None,
        progress=WHOLE if next_status is T.SUCCEEDED else 0,
        current_step=None,
        waiting_for=None,
        started_at=task.started_at,
        ended_at=now if ended else None,
        failure=failure,
        rests_until=_rests_until(next_status, run, task.begun, now),
    )


def give_up(
    task: TaskFacts, run: RunFacts, status: TaskStatus, failure: Failure, now: int
) -> Taken:
    """End the open attempt and its task without asking the retry policy."""
    return close(replace(task, attempts=task.tries), run, status, failure, now)


def stranding(task: TaskFacts, offline: str, deadline: int | None, now: int) -> TaskStatus | None:
    """How an attempt ends whose gateway is silent for long; None while it merely loses its slot.

    `scheduled` takes it back: nobody has said that it was accepted. `offline` is the job's policy,
    one of wait, skip and fail.
    """
    end = {"skip": T.CANCELLED, "fail": T.FAILED}.get(offline)
    if task.status is T.OFFERED:
        return end or T.SCHEDULED
    return end if deadline is not None and deadline < now else None


def _rests_until(status: TaskStatus, run: RunFacts, begun: bool, now: int) -> int | None:
    return now + run.delay if run.delay and begun and status not in TASK_OPEN else None


def _what_follows(
    status: TaskStatus, run: RunFacts, tries: int, attempts: int, now: int
) -> tuple[TaskStatus, int]:
    if status is T.SCHEDULED:
        # Handed back unstarted: no try is spent. Nobody would offer it again in an ended run.
        return (T.SCHEDULED, now + HANDED_BACK_MS) if run.is_open(now) else (T.CANCELLED, 0)
    if status not in (T.FAILED, T.TIMED_OUT):
        return status, 0
    if run.is_open(now) and tries < attempts and run.retry.covers(status):
        return T.RESCHEDULED, now + max(run.retry.wait_before(max(tries - 1, 0)), run.delay)
    return status, 0


def _deadline(status: TaskStatus, run: RunFacts, elapsed: int, now: int) -> int | None:
    if status is T.ACCEPTED:
        return now + run.start_by + GRACE_MS
    if status is T.RUNNING:
        return now + max(run.timeout - elapsed, 0) + GRACE_MS
    if status is T.AWAITING:  # no gateway is to be waited for
        return now + max(run.timeout - elapsed, 0)
    return None


def _progress(status: TaskStatus, percent: float) -> int:
    if status is T.SUCCEEDED:
        return WHOLE
    if status in (T.SCHEDULED, T.RESCHEDULED):
        return 0
    return round(percent * 100)
