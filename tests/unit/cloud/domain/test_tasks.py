"""What a snapshot means for a task, case by case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.domain.tasks import (
    GRACE_MS,
    ClosedAttempt,
    Decision,
    Late,
    Old,
    Refused,
    RetryPolicy,
    RunFacts,
    Taken,
    TaskFacts,
    close,
    receive,
)
from contract.lifecycle import REPORTABLE, TASK_ENDS, TASK_MOVES, TASK_OPEN, TaskStatus
from contract.messages import Failure, TaskSnapshot

T = TaskStatus
NOW = 1_000_000
SENDER = ("berlin", "journal")
RUN = RunFacts(
    retry=RetryPolicy(delay=1_000, backoff=2, max_delay=3_000),
    timeout=60_000,
    start_by=900_000,
    expires_at=NOW * 10,
)


def task(status: TaskStatus = T.RUNNING, **changes: object) -> TaskFacts:
    facts: dict[str, object] = {
        "status": status,
        "attempt": 2,
        "revision": 5,
        "begun": status in (T.RUNNING, T.AWAITING),
        "tries": 1 if status in (T.RUNNING, T.AWAITING) else 0,
        "attempts": 3,
        "gateway": "berlin",
        "journal": "journal",
    }
    return TaskFacts(**{**facts, **changes})  # type: ignore[arg-type]


def told(
    facts: TaskFacts,
    status: TaskStatus,
    revision: int = 6,
    run: RunFacts = RUN,
    sender: tuple[str, str | None] = SENDER,
    closed: ClosedAttempt | None = None,
    **fields: object,
) -> Decision:
    attempt = fields.pop("attempt", 2)
    snapshot = TaskSnapshot.model_validate(
        {"task": "run-1", "attempt": attempt, "revision": revision, "status": status, **fields}
    )
    return receive(facts, run, snapshot, sender, closed, NOW)


@pytest.mark.parametrize(("retry", "wait"), [(0, 1_000), (1, 2_000), (2, 3_000), (5_000, 3_000)])
def test_retries_wait_longer_up_to_a_ceiling(retry: int, wait: int):
    assert RUN.retry.wait_before(retry) == wait


def test_a_failed_attempt_is_followed_by_another_one():
    found = told(task(), T.FAILED, failure={"code": "device_refused"})
    assert isinstance(found, Taken)
    assert (found.status, found.attempt_status, found.tries) == (T.RESCHEDULED, T.FAILED, 1)
    assert found.due_at == NOW + 1_000
    assert found.closes


def test_the_last_try_is_final():
    found = told(task(tries=3), T.TIMED_OUT)
    assert isinstance(found, Taken)
    assert (found.status, found.ended_at) == (T.TIMED_OUT, NOW)


@pytest.mark.parametrize(
    "policy", [RetryPolicy(on_timeout=False), RetryPolicy(on_timeout=False, on_failure=False)]
)
def test_what_the_policy_does_not_cover_is_final(policy: RetryPolicy):
    run = RunFacts(policy, 1, 1, NOW * 10)
    found = told(task(), T.TIMED_OUT, run=run)
    assert isinstance(found, Taken)
    assert found.status is T.TIMED_OUT


@pytest.mark.parametrize(
    "run",
    [RunFacts(RUN.retry, 1, 1, NOW * 10, cancelled=True), RunFacts(RUN.retry, 1, 1, NOW - 1)],
)
def test_nothing_follows_in_a_cancelled_or_expired_run(run: RunFacts):
    failed, handed_back = (
        told(task(), T.FAILED, run=run),
        told(task(T.OFFERED), T.SCHEDULED, run=run),
    )
    assert isinstance(failed, Taken)
    assert isinstance(handed_back, Taken)
    assert (failed.status, handed_back.status) == (T.FAILED, T.CANCELLED)


def test_a_failure_before_the_first_step_is_a_try_too():
    found = told(task(T.OFFERED), T.FAILED)
    assert isinstance(found, Taken)
    assert found.tries == 1


def test_deadlines_follow_what_is_left_of_the_limits():
    accepted, running = told(task(T.OFFERED), T.ACCEPTED), told(task(), T.RUNNING, elapsed=20_000)
    assert isinstance(accepted, Taken)
    assert isinstance(running, Taken)
    assert accepted.deadline == NOW + 900_000 + GRACE_MS
    assert running.deadline == NOW + 40_000 + GRACE_MS


@pytest.mark.parametrize("revision", [5, 4, 0])
def test_what_is_not_newer_is_old(revision: int):
    assert told(task(), T.SUCCEEDED, revision) == Old()


@pytest.mark.parametrize("sender", [("paris", "journal"), ("berlin", "wiped"), ("berlin", None)])
def test_another_gateway_or_journal_is_foreign(sender: tuple[str, str | None]):
    found = told(task(), T.SUCCEEDED, sender=sender)
    assert isinstance(found, Refused)
    assert found.code == "foreign_task"


def test_an_attempt_nobody_offered_is_unknown():
    found = told(task(), T.SUCCEEDED, attempt=3)
    assert isinstance(found, Refused)
    assert found.code == "unknown_attempt"


@pytest.mark.parametrize(("status", "ends"), [(T.RUNNING, False), (T.SUCCEEDED, True)])
def test_news_of_an_ended_attempt_is_late(status: TaskStatus, ends: bool):
    closed = ClosedAttempt("berlin", "journal", 7)
    ended = task(T.RESCHEDULED)
    assert told(ended, status, 8, closed=closed) == Late(ends)
    assert told(ended, status, 7, closed=closed) == Old()
    assert told(task(attempt=3), status, 8, closed=closed) == Late(ends)


def test_begun_work_is_never_handed_back():
    found = told(task(T.ACCEPTED), T.SCHEDULED, begun=True)
    assert isinstance(found, Refused)
    assert found.code == "illegal_move"


@given(
    st.sampled_from(sorted(TASK_OPEN)),
    st.sampled_from(sorted(REPORTABLE)),
    st.booleans(),
    st.integers(0, 4),
)
def test_every_move_taken_is_one_of_the_table(
    status: TaskStatus, reported: TaskStatus, begun: bool, tries: int
):
    found = told(task(status, tries=tries), reported, begun=begun)
    if isinstance(found, Taken):
        assert found.status is status or found.status in TASK_MOVES[status]
        assert (found.ended_at is not None) == (found.status in TASK_ENDS)
        assert found.tries - tries in (0, 1)
    else:
        assert isinstance(found, Refused)


def test_a_lost_gateway_costs_what_had_begun_and_nothing_else():
    lost = Failure(code="gateway_lost")
    begun = close(task(), RUN, T.FAILED, lost, NOW)
    unbegun = close(task(T.OFFERED), RUN, T.FAILED, lost, NOW)
    assert (begun.status, begun.tries) == (T.RESCHEDULED, 1)
    assert (unbegun.status, unbegun.tries) == (T.RESCHEDULED, 0)
