"""The tables of run, task and step: complete, and with the promises DESIGN makes of them."""

import pytest

from contract.lifecycle import (
    CLOUD_TASK_MOVES,
    REPORT_TASK_MOVES,
    REPORTABLE,
    RUN_ENDS,
    RUN_MOVES,
    RUN_STATUS_ALIASES,
    STEP_ENDS,
    STEP_MOVES,
    TASK_ENDS,
    TASK_MOVES,
    TASK_OPEN,
    RunStatus,
    StepStatus,
    TaskStatus,
    report_may_move,
    run_statuses,
)


def test_every_status_has_its_row() -> None:
    assert set(RUN_MOVES) == set(RunStatus)
    assert set(CLOUD_TASK_MOVES) == set(TASK_MOVES) == set(TaskStatus)
    assert set(STEP_MOVES) == set(StepStatus)


def test_a_report_moves_only_open_attempts() -> None:
    assert set(REPORT_TASK_MOVES) == TASK_OPEN


def test_every_status_is_reached_and_every_open_one_can_end() -> None:
    assert {s for moves in TASK_MOVES.values() for s in moves} == set(TaskStatus)
    for status in TASK_OPEN:
        assert TASK_MOVES[status] >= TASK_ENDS - {TaskStatus.SUCCEEDED}
        assert REPORT_TASK_MOVES[status] >= TASK_ENDS


def test_one_report_may_be_the_first_and_the_last() -> None:
    assert REPORT_TASK_MOVES[TaskStatus.OFFERED] >= REPORTABLE


def test_an_attempt_that_began_is_never_handed_back() -> None:
    assert not report_may_move(TaskStatus.RUNNING, TaskStatus.SCHEDULED)
    assert not report_may_move(TaskStatus.AWAITING, TaskStatus.SCHEDULED)
    assert report_may_move(TaskStatus.ACCEPTED, TaskStatus.SCHEDULED)


def test_a_report_never_goes_back() -> None:
    assert not report_may_move(TaskStatus.RUNNING, TaskStatus.ACCEPTED)
    assert report_may_move(TaskStatus.RUNNING, TaskStatus.RUNNING)


def test_only_retry_failed_leaves_an_end() -> None:
    assert TASK_MOVES[TaskStatus.SUCCEEDED] == TASK_MOVES[TaskStatus.CANCELLED] == frozenset()
    for status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT):
        assert TASK_MOVES[status] == {TaskStatus.RESCHEDULED}
    for end in RUN_ENDS:
        assert RUN_MOVES[end] <= {RunStatus.RUNNING}
    for step in STEP_ENDS:
        assert STEP_MOVES[step] == frozenset()


@pytest.mark.parametrize("name", list(RUN_STATUS_ALIASES))
def test_the_seeds_names_stand_for_statuses(name: str) -> None:
    assert run_statuses(name) <= set(RunStatus)


def test_together_the_seeds_names_cover_every_status() -> None:
    assert frozenset().union(*RUN_STATUS_ALIASES.values()) == set(RunStatus)


def test_an_unknown_status_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="`done` is no run status; known are scheduled, running"):
        run_statuses("done")
