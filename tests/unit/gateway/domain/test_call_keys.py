"""Names of calls: the same for the same request, different for any other."""

from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from gateway.domain.call_keys import call_key

WORDS = st.text("ab-1", min_size=1, max_size=4)
BODIES = st.dictionaries(WORDS, st.none() | st.integers(0, 3) | WORDS, max_size=3)
ASKED = st.tuples(WORDS, WORDS, WORDS, st.none() | st.integers(0, 2), BODIES)

Asked = tuple[str, str, str, int | None, dict[str, JsonValue]]


@given(ASKED, ASKED)
def test_two_requests_share_a_key_only_if_they_are_the_same(one, other):
    same = one[1:] == other[1:]  # the task's id holds the run's
    assert (call_key(*one) == call_key(*other)) is same


@given(ASKED, ASKED, WORDS, WORDS)
def test_a_key_of_the_jobs_own_counts_for_its_run_alone(
    one: Asked, other: Asked, mine: str, yours: str
):
    same = (one[0], mine) == (other[0], yours)
    assert (call_key(*one, mine) == call_key(*other, yours)) is same
