"""Where a run stands, and who may lift a pause."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cloud.domain.control import (
    PAUSERS,
    RetryAsked,
    both,
    may_reopen,
    paused_by,
    pausers,
    resumed_by,
    retry_asked,
    standing,
)
from contract.lifecycle import RUN_ENDS, RUN_MOVES, RunStatus, TaskStatus

FACTS = st.fixed_dictionaries(
    {
        "started": st.just(True),
        "cancelling": st.booleans(),
        "paused": st.booleans(),
        "in_flight": st.integers(0, 2),
    }
)
ASKED = st.builds(
    RetryAsked,
    st.lists(st.sampled_from(["a", "b", "c"]), unique=True).map(tuple),
    st.lists(st.integers(0, 5), unique=True).map(tuple),
)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(PAUSERS))))
def test_nobody_lifts_anothers_pause(moves: list[tuple[bool, str]]):
    text = ""
    model: set[str] = set()
    for pauses, who in moves:
        text = (paused_by if pauses else resumed_by)(text, who)  # type: ignore[arg-type]
        (model.add if pauses else model.discard)(who)
        assert pausers(text) == model


@given(FACTS, FACTS)
def test_every_change_of_a_live_run_is_a_legal_move(before: dict[str, Any], after: dict[str, Any]):
    was, is_now = standing(**before), standing(**after)
    assert was not in RUN_ENDS
    if was is RunStatus.CANCELLING or was is is_now:
        return
    if (was, is_now) == (RunStatus.PAUSED, RunStatus.PAUSING):
        return  # nothing starts while it is paused
    assert is_now in RUN_MOVES[was]


@given(ASKED)
def test_what_was_asked_for_is_read_back(asked: RetryAsked):
    assert retry_asked(asked.to_text()) == asked


@given(ASKED, ASKED, st.sampled_from(["a", "b", "d"]), st.integers(0, 6))
def test_two_wishes_are_one_or_none(first: RetryAsked, second: RetryAsked, code: str, number: int):
    one = both(first, second)
    if one is not None:
        wanted = [w.covers(TaskStatus.FAILED, code, number) for w in (first, second)]
        assert one.covers(TaskStatus.FAILED, code, number) == any(wanted)


def test_only_failures_are_retried():
    assert not RetryAsked().covers(TaskStatus.SUCCEEDED, None, 1)
    assert may_reopen(RunStatus.REPLACED, []) == "run_replaced"
    assert may_reopen(RunStatus.FAILED, ["other"]) == "run_in_flight"
    assert may_reopen(RunStatus.FAILED, []) is None
