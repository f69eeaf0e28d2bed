"""What a device's state becomes of samples in any order, twice, and by wrong clocks."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.domain.device_state import (
    CLOCK_BORNE_MS,
    MAX_KEYS,
    Seen,
    State,
    is_newer,
    merge,
    taken_at,
)

EMPTY = State({}, "unknown", {})
NOW = 1_700_000_000_000


def seen(order: int, at: int = NOW, source: str = "journal", link: str = "unknown", **values: int):
    return Seen(at, order, source, values, link)


def test_a_backlog_never_undoes_what_came_before_it_live():
    live = seen(9, bar=9, link="up")
    late = [seen(7, bar=7, rpm=7, link="down"), seen(8, bar=8)]
    found = merge(merge(EMPTY, [live]), late)
    assert found.values == {"bar": 9, "rpm": 7}
    assert found.link == "up"


def test_a_gateway_whose_clock_went_back_is_believed():
    found = merge(merge(EMPTY, [seen(1, at=NOW, bar=1)]), [seen(2, at=NOW - 86_400_000, bar=2)])
    assert found.values == {"bar": 2}


def test_what_a_step_recorded_holds_until_something_later_is_seen():
    recorded = merge(EMPTY, [Seen(NOW, 0, "cloud", {"bar": 5})])
    assert merge(recorded, [seen(3, at=NOW - 1, bar=1)]).values == {"bar": 5}
    assert merge(recorded, [seen(4, at=NOW + 1, bar=2)]).values == {"bar": 2}


def test_a_clock_that_is_far_off_is_put_right_and_a_good_one_left_alone():
    assert taken_at(NOW - 50, NOW, NOW + 900) == NOW - 50
    hour = 3_600_000
    assert taken_at(NOW - hour - 50, NOW - hour, NOW) == NOW - 50
    assert taken_at(1_000, 61_000, NOW) == NOW - 60_000  # a clock of 1970
    assert taken_at(NOW + 7, 0, NOW) == NOW  # nothing is of the future


def test_a_device_that_says_ever_new_words_fills_no_database():
    values = {f"key-{number}": number for number in range(2 * MAX_KEYS)} | {"": 1, "x" * 999: 1}
    found = merge(EMPTY, [Seen(NOW, 1, "journal", values)])
    assert len(found.values) == MAX_KEYS
    assert merge(found, [Seen(NOW, 2, "journal", {"key-0": 99})]).values["key-0"] == 99


def test_a_state_of_before_there_were_marks_is_written_over():
    assert is_newer(None, seen(1, at=1))


samples = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 10**13)),
    max_size=20,
)


@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(found, chance):
    """However often and in whatever order samples of a gateway come, the last taken one holds."""
    all_of_them = [
        Seen(at, order, "journal", {key: value})
        for order, (key, value, at) in enumerate(found, start=1)
    ]
    expected = {key: value for key, value, _ in found}
    arriving = all_of_them * 2
    chance.shuffle(arriving)
    state = EMPTY
    for sample in arriving:
        state = merge(state, [sample])
    assert dict(state.values) == expected


@given(st.integers(0, 2**53), st.integers(0, 2**53), st.integers(0, 2**53))
def test_no_clock_makes_a_sample_of_the_future_or_of_before_1970(at, sent_at, now):
    found = taken_at(at, sent_at, now)
    assert 0 <= found <= now
    if sent_at and abs(now - sent_at) <= CLOCK_BORNE_MS and at <= now:
        assert found == at
