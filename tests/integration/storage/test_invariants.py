"""Whatever happens, in whatever order: counters are true, nobody has two attempts, ends stay.

Nor does anything wait without one true reason, or see another accumulator than was handed on.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.storage.database import open_database
from tests.integration.storage.story import GATEWAYS, MODES, Story
from tests.integration.storage.world import World

MOVES = st.one_of(
    st.tuples(
        st.just("start"),
        st.integers(0, 2),
        st.integers(1, 4),
        st.sampled_from(["serial", *MODES]),
        st.booleans(),
        st.sampled_from(["low", "normal", "high"]),
    ),
    st.tuples(st.just("pause"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("resume"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("retry"), st.integers(0, 10)),
    st.tuples(st.just("prioritize"), st.integers(0, 10), st.sampled_from(["low", "high"])),
    st.tuples(
        st.just("hold"),
        st.sampled_from([("gateway", "berlin"), ("device", "paris-1"), ("org", "all")]),
        st.booleans(),
    ),
    st.tuples(st.just("silent"), st.sampled_from(GATEWAYS), st.integers(30_000, 600_000)),
    st.tuples(st.just("dispatch")),
    st.tuples(st.just("send")),
    st.tuples(
        st.just("report"),
        st.integers(0, 50),
        st.sampled_from(["accepted", "running", "succeeded", "failed", "timed_out", "scheduled"]),
        st.integers(1, 6),
    ),
    st.tuples(
        st.just("work"),
        st.sampled_from(["accepted", "running", "succeeded", "failed", "timed_out"]),
        st.integers(1, 4),
    ),
    st.tuples(st.just("repeat"), st.integers(0, 50), st.integers(1, 5)),
    st.tuples(st.just("hello"), st.sampled_from(GATEWAYS), st.booleans()),
    st.tuples(st.just("later"), st.sampled_from([500, 20_000, 70_000, 400_000])),
    st.tuples(st.just("cancel"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("watch")),
    st.tuples(st.just("settle")),
    st.tuples(st.just("obey")),
    st.tuples(st.just("rest")),
    st.tuples(st.just("delete"), st.integers(0, 10)),
    st.tuples(st.just("quiet"), st.sampled_from([1, 26, 50])),
)


def play(url: str, moves: list[tuple[Any, ...]]) -> None:
    database = open_database(url)
    try:
        database.prepare_now()
        story = Story(World(database))
        for move in moves:
            story.play(move)
        story.finish()
    finally:
        database.close()


STORIES = st.lists(MOVES, min_size=5, max_size=30)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=30, suppress_health_check=QUIET)
@given(moves=STORIES)
def test_invariants_hold_on_sqlite(tmp_path_factory: pytest.TempPathFactory, moves: Any):
    play(f"sqlite:///{tmp_path_factory.mktemp('story') / 'cloud.db'}", moves)


@settings(max_examples=8, suppress_health_check=QUIET)
@given(moves=STORIES)
def test_invariants_hold_on_postgresql(postgres: Any, moves: Any):
    url = postgres.create_database()
    try:
        play(url, moves)
    finally:
        postgres.drop_database(url)
