"""The plan of what goes wrong: seeded, so that a failure can be played again."""

from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.faults import Faults, Silence, Unplug


@given(st.text(max_size=10), st.integers(0, 10**6))
def test_chance_is_repeatable_and_between_zero_and_one(seed, count):
    chance = Faults(seed=seed).chance("lost", count)
    assert 0 <= chance < 1
    assert chance == Faults(seed=seed).chance("lost", count)


def test_chance_is_about_as_frequent_as_asked():
    faults = Faults(seed="7")
    happened = sum(faults.happens("late", 0.2, count) for count in range(5000))
    assert 850 < happened < 1150
    assert not any(faults.happens("late", 0, count) for count in range(100))
    assert all(faults.happens("late", 1, count) for count in range(100))


def test_seeds_and_kinds_are_independent():
    one = [Faults(seed="1").chance("lost", count) for count in range(5)]
    assert one != [Faults(seed="2").chance("lost", count) for count in range(5)]
    assert one != [Faults(seed="1").chance("late", count) for count in range(5)]


@given(st.binary(min_size=1, max_size=130), st.integers(0, 1000))
def test_a_corrupted_line_differs_in_one_byte(line, count):
    spoiled = Faults(corrupted_lines=1).spoil_line("in", line, count)
    assert spoiled is not None
    assert len(spoiled) == len(line)
    assert sum(a != b for a, b in zip(line, spoiled, strict=True)) == 1


def test_lost_and_whole_lines():
    assert Faults(lost_lines=1).spoil_line("in", b"x", 1) is None
    assert Faults().spoil_line("in", b"x", 1) == b"x"


def test_silence_by_requests_by_time_and_for_ever():
    by_requests = Silence(after_requests=3, requests=2)
    assert [by_requests.covers(n, 0) for n in range(1, 7)] == [
        False, False, True, True, False, False,
    ]  # fmt: skip
    by_time = Silence(after_s=1.0, for_s=2.0)
    assert [by_time.covers(1, s) for s in (0.5, 1.0, 2.9, 3.0)] == [False, True, True, False]
    assert Silence(after_requests=2).covers(10**6, 0)
    assert not Silence().covers(1, 1)


def test_an_unplug_belongs_to_its_chunk():
    unplug = Unplug(2.0, after_chunks=40)
    assert Faults(unplugs=(unplug,)).unplug_at_chunk(40) is unplug
    assert Faults(unplugs=(unplug,)).unplug_at_chunk(41) is None
