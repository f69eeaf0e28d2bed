"""Who is asked when, and what is worth keeping."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.collecting import (
    FIRST_PAUSE_MS,
    LONGEST_PAUSE_MS,
    MAX_KEYS,
    Kept,
    Worth,
    lane,
    named,
    worth_keeping,
)

ALL_FREE = lambda device: True  # noqa: E731


def test_what_is_due_is_asked_once_and_again_after_its_time():
    line = lane([("pump-1", 1_000)], now=0)
    assert line.choose(0, ALL_FREE) == 0
    line = line.asked(0, 10, answered=True)
    assert line.choose(999, ALL_FREE) is None
    assert line.next_at() == 1_000
    assert line.choose(1_000, ALL_FREE) == 0


def test_what_was_missed_is_not_made_up_for():
    line = lane([("pump-1", 1_000)], now=0).asked(0, 7_300, answered=True)
    assert line.next_at() == 8_000


def test_a_device_at_work_is_passed_by():
    line = lane([("pump-1", 1_000), ("pump-2", 1_000)], now=0)
    assert line.choose(50, lambda device: device != "pump-1") == 1
    assert line.choose(50, lambda device: False) is None


def test_a_silent_device_is_asked_ever_more_seldom_and_its_neighbour_is_not():
    line = lane([("pump-1", 100), ("pump-1", 200), ("pump-2", 100)], now=0)
    pauses, now = [], 1_000
    for _ in range(12):
        line = line.asked(0, now, answered=False)
        assert line.choose(now + FIRST_PAUSE_MS - 1, lambda d: d == "pump-1") is None
        assert line.choose(now + 100, ALL_FREE) == 2
        pauses.append(line.away["pump-1"].until - now)
        now = line.away["pump-1"].until
    assert pauses[0] == FIRST_PAUSE_MS
    assert pauses[-1] == LONGEST_PAUSE_MS
    assert not line.asked(1, now, answered=True).away


def test_a_sleepy_device_is_never_asked_more_often_than_its_item_says():
    line = lane([("meter-1", 3_600_000)], now=0)
    for now in (0, 3_600_000):
        line = line.asked(0, now, answered=False)
        assert line.next_at() == now + 3_600_000


lanes = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(10, 500)), min_size=1, max_size=6
)


@settings(max_examples=60)
@given(lanes, st.integers(1, 200), st.integers(0, 2**32))
def test_nobody_is_asked_before_its_time_and_nobody_twice_while_another_waits(asks, takes_ms, seed):
    chance = random.Random(seed)
    line, now = lane(asks, 0), 0
    waiting: dict[int, int] = {}
    asked_at: dict[int, list[int]] = {number: [] for number in range(len(asks))}
    for _ in range(200):
        free = {device for device in "abc" if chance.random() > 0.2}
        number = line.choose(now, free.__contains__)
        due = {n for n, item in enumerate(line.items) if item.due_at <= now and item.device in free}
        assert (number is None) == (not due)
        for n in [n for n in waiting if n not in due]:
            del waiting[n]
        if number is None:
            now += chance.randrange(1, 50)
            continue
        assert line.items[number].due_at <= now
        for n in due - {number}:
            waiting[n] = waiting.get(n, 0) + 1
            # All others, each once: then it is its turn.
            assert waiting[n] <= len(asks)
        waiting.pop(number, None)
        asked_at[number].append(now)
        line = line.asked(number, now, answered=True)
        assert line.items[number].due_at > now
        now += takes_ms
    for number, (_, every) in enumerate(asks):
        if len(asked_at[number]) > 1:
            lasted = asked_at[number][-1] - asked_at[number][0]
            assert len(asked_at[number]) <= lasted // every + 2


def keep(last, values, now, worth):
    found = worth_keeping(worth, last, values, now)
    return {key: one.value for key, one in found.items()}, {**last, **found}


def test_only_what_changed_by_more_than_its_deadband_is_kept_and_what_is_old():
    worth = Worth(deadband=0.5, deadbands={"rpm": 10}, at_least_ms=1_000)
    kept, last = keep({}, {"t": 20.0, "rpm": 100, "on": True}, 0, worth)
    assert kept == {"t": 20.0, "rpm": 100, "on": True}
    kept, last = keep(last, {"t": 20.5, "rpm": 110, "on": True}, 10, worth)
    assert kept == {}
    # It creeps: what counts is what was kept last, not what was seen last.
    kept, last = keep(last, {"t": 20.6, "rpm": 111, "on": 1}, 20, worth)
    assert kept == {"t": 20.6, "rpm": 111, "on": 1}
    kept, last = keep(last, {"t": 20.6, "rpm": 111, "on": 1}, 1_019, worth)
    assert kept == {}
    assert keep(last, {"t": 20.6}, 1_020, worth)[0] == {"t": 20.6}


values = st.one_of(st.integers(-50, 50), st.floats(-50, 50), st.booleans(), st.text(max_size=2))


@given(st.lists(values, max_size=30), st.floats(0, 5))
def test_what_was_kept_is_never_further_from_what_is_than_the_deadband(seen, band):
    worth = Worth(deadband=band, at_least_ms=10**9)
    last: dict[str, Kept] = {}
    for now, value in enumerate(seen):
        last |= worth_keeping(worth, last, {"x": value}, now)
        held = last["x"].value
        if (
            isinstance(held, int | float)
            and not isinstance(held, bool)
            and not isinstance(value, str)
        ):
            assert isinstance(value, bool) or abs(value - held) <= band
        else:
            assert held == value


def test_a_device_that_says_ever_new_words_fills_no_memory():
    found = worth_keeping(Worth(), {}, {f"key-{n}": n for n in range(2 * MAX_KEYS)}, 0)
    assert len(found) == MAX_KEYS


def test_results_are_named_by_the_setting_or_by_themselves():
    assert named({"a": 1}, None, "version") == {"a": 1}
    assert named({"a": 1}, "firmware", "version") == {"firmware": {"a": 1}}
    assert named("1.2", None, "version") == {"version": "1.2"}
