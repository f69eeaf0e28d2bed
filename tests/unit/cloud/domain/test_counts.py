"""Counts that move with tasks, and how a run ends by them."""

import pytest

from cloud.domain.counts import Deltas, Totals, ended_status
from contract.lifecycle import RunStatus, TaskStatus

T = TaskStatus


def test_a_task_moves_from_one_count_to_another_with_its_progress():
    deltas = Deltas()
    deltas.moved("run", T.RUNNING, 2_500, T.FAILED, 2_500)
    assert deltas.by_run["run"] == {"running": -1, "failed": 1, "progress": 7_500}


def test_an_ended_task_counts_whole():
    totals = Totals({T.SUCCEEDED: 1, T.RUNNING: 1}, 15_000)
    assert (totals.percent, totals.ended, totals.slots_taken) == (75.0, 1, 1)
    assert Totals().percent == 0


@pytest.mark.parametrize(
    ("totals", "cancelled", "status"),
    [
        ({}, None, RunStatus.SUCCEEDED),
        ({T.SUCCEEDED: 2}, None, RunStatus.SUCCEEDED),
        ({T.SUCCEEDED: 1, T.TIMED_OUT: 1}, None, RunStatus.PARTIALLY_SUCCEEDED),
        ({T.FAILED: 2}, None, RunStatus.FAILED),
        ({T.SUCCEEDED: 2}, RunStatus.CANCELLED, RunStatus.CANCELLED),
        ({T.FAILED: 2}, RunStatus.REPLACED, RunStatus.REPLACED),
    ],
)
def test_a_run_ends_by_its_counts(
    totals: dict[TaskStatus, int], cancelled: RunStatus | None, status: RunStatus
):
    assert ended_status(Totals(totals), cancelled) is status
