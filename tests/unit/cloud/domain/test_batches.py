"""Batch iteration: targets make tasks, and a task's result is given out to its targets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.domain.batches import ALL, CUT, Outcome, outcomes, size_of, whole_tasks
from contract.lifecycle import TASK_ENDS, TaskStatus
from contract.messages import Failure

pytestmark = pytest.mark.row("B13")
T = TaskStatus
WHY = Failure(code="http_failed", text="503")
ERROR = {"error": {"code": "device_held", "text": "no"}}


@given(st.integers(1, 1_000), st.lists(st.integers(0, 5_000), max_size=20))
def test_every_target_is_in_one_task_however_the_chunks_fall(size, chunks):
    made, targets = 0, 0
    for chunk in chunks:
        targets += chunk
        whole = whole_tasks(size, targets, more=True)
        assert whole >= made
        assert whole * size <= targets < (whole + 1) * size
        made = whole
    last = whole_tasks(size, targets, more=False)
    assert (last - 1) * size < targets <= last * size if targets else last == 0


@given(st.integers(0, 1_000))
def test_all_targets_make_one_task_once_the_last_is_known(targets):
    assert whole_tasks(ALL, targets, more=True) == 0
    assert whole_tasks(ALL, targets, more=False) == min(targets, 1)
    assert size_of(ALL) == 1_000


results = st.none() | st.text() | st.integers() | st.lists(st.just(ERROR) | st.integers())


@given(st.integers(1, 20), st.sampled_from(sorted(T)), results, st.booleans())
def test_each_target_has_an_outcome_that_the_tasks_status_bears_out(size, status, result, loop):
    snapshot = {"steps": [{"id": "each", "result": result}]} if loop else {"result": result}
    failure = None if status in (T.SUCCEEDED, T.RUNNING) else WHY
    found = outcomes(size, status, failure, snapshot, ["each"])
    assert len(found) == size
    for n, one in enumerate(found):
        if status not in TASK_ENDS:
            assert one.ok is None
        elif isinstance(result, list) and len(result) == size:
            assert one.ok == (status is T.SUCCEEDED and result[n] != ERROR)
            assert one.response == result[n]
        else:
            assert one.ok == (status is T.SUCCEEDED)
            assert one.response == (None if loop else result)


def test_an_element_is_an_error_only_if_it_holds_nothing_else():
    found = outcomes(4, T.SUCCEEDED, None, {"result": [
        ERROR, {"error": "plain"}, {"error": None}, {"error": "x", "value": 1},
    ]})  # fmt: skip
    assert [one.ok for one in found] == [False, False, True, True]
    assert found[0].failure == Failure(code="target_failed", text="device_held: no")
    assert found[1].failure == Failure(code="target_failed", text="plain")


def test_a_result_that_was_cut_says_nothing_about_its_targets():
    text = "[" + "1, " * 200
    snapshot = {"result": text, "steps": [{"id": "a", "truncated": True}]}
    assert (
        outcomes(2, T.SUCCEEDED, None, snapshot)
        == [Outcome(T.SUCCEEDED, None, None, None, CUT)] * 2
    )
    failed = outcomes(2, T.FAILED, WHY, snapshot)
    assert [one.ok for one in failed] == [False, False]
    whole = {**snapshot, "steps": [{"id": "a"}]}
    assert outcomes(1, T.SUCCEEDED, None, whole) == [Outcome(T.SUCCEEDED, True, text)]
    loop = {"result": None, "steps": [{"id": "a", "truncated": True, "result": text}]}
    assert outcomes(1, T.SUCCEEDED, None, loop, ["a"])[0].ok is None
