"""What goes first, and how long is waited."""

from gateway.domain.backoff import backoff_ms, jittered_ms
from gateway.domain.device_link import DeviceLink
from gateway.domain.plain_json import cut, plain, size_of
from gateway.domain.retention import Kind, Stream, to_drop


def test_logs_go_before_samples_and_the_backlog_before_what_is_live():
    counts: dict[tuple[Stream, Kind], int] = {
        ("live", "logs"): 5,
        ("live", "states"): 5,
        ("backlog", "logs"): 5,
        ("backlog", "states"): 5,
    }
    assert to_drop(counts, 20) == {}
    assert to_drop(counts, 17) == {("backlog", "logs"): 3}
    assert to_drop(counts, 8) == {
        ("backlog", "logs"): 5,
        ("live", "logs"): 5,
        ("backlog", "states"): 2,
    }


def test_delays_double_up_to_their_cap():
    assert [backoff_ms(n, 500, 3_000) for n in (1, 2, 3, 4, 500)] == [500, 1000, 2000, 3000, 3000]
    assert backoff_ms(64, 1, 10**6, 1e300) == 10**6
    assert (jittered_ms(1000, 0), jittered_ms(1000, 1)) == (500, 1000)


def test_a_link_is_left_alone_longer_the_longer_it_is_down():
    link = DeviceLink().was_lost(5).was_lost(9)
    assert (link.status, link.since, link.next_try_ms) == ("down", 5, 1000)
    assert link.came_up(20) == DeviceLink("up", 20)


def test_anything_becomes_bounded_json():
    nested: list[object] = []
    for _ in range(100):
        nested = [nested]
    value = plain({1: b"\x01", "nan": float("nan"), "deep": nested, "half": "\ud800", "big": 2**70})
    assert isinstance(value, dict)
    assert value["1"] == "01"
    assert value["nan"] is None
    kept, was_cut = cut({"text": "\x01" * 5_000}, 1_000)
    assert was_cut
    assert size_of(kept) <= 1_000
