"""Which statuses a run may still come to by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.lifecycle import RUN_ENDS, RUN_MOVES, RunStatus, can_reach

pytestmark = pytest.mark.row("C12")
STATUSES = st.sampled_from(list(RunStatus))


@given(STATUSES, st.sets(STATUSES))
def test_being_there_counts_and_an_end_leads_nowhere(status: RunStatus, wanted: set[RunStatus]):
    if status in wanted:
        assert can_reach(status, wanted)
    elif status in RUN_ENDS:
        assert not can_reach(status, wanted)
    else:
        assert can_reach(status, wanted) == any(
            next_ in wanted or (next_ not in RUN_ENDS and can_reach(next_, wanted - {status}))
            for next_ in _ahead(status)
        )


def _ahead(status: RunStatus) -> set[RunStatus]:
    seen: set[RunStatus] = set()
    ahead = [status]
    while ahead:
        for follower in RUN_MOVES[ahead.pop()]:
            if follower not in seen:
                seen.add(follower)
                if follower not in RUN_ENDS:
                    ahead.append(follower)
    return seen


def test_every_run_that_has_not_ended_can_end():
    assert all(can_reach(status, RUN_ENDS) for status in RunStatus)
    assert not can_reach(RunStatus.CANCELLING, {RunStatus.SUCCEEDED, RunStatus.RUNNING})
