"""Whatever happens, in whatever order: counters are true, nobody has two attempts, ends stay.

Nor does anything wait without one true reason, or see another accumulator than was handed on.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cloud.storage.database import open_database
from tests.integration.storage.story import GATEWAYS, MODES, Story
from tests.integration.storage.world import World

START = st.tuples(
    st.just("start"),
    st.integers(0, 2),
    st.integers(1, 4),
    st.sampled_from(["serial", *MODES]),
    st.booleans(),
    st.sampled_from(["low", "normal", "high"]),
)
WORK = st.tuples(
    st.just("work"),
    st.sampled_from(["accepted", "running", "succeeded", "failed", "timed_out"]),
    st.integers(1, 4),
)
HANDS = st.one_of(
    st.tuples(st.just("pause"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("resume"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("retry"), st.integers(0, 10)),
    st.tuples(st.just("prioritize"), st.integers(0, 10), st.sampled_from(["low", "high"])),
    st.tuples(
        st.just("hold"),
        st.sampled_from([("gateway", "berlin"), ("device", "paris-1"), ("org", "all")]),
        st.booleans(),
    ),
    st.tuples(st.just("stop"), st.sampled_from(GATEWAYS)),
    st.tuples(st.just("silent"), st.sampled_from(GATEWAYS), st.integers(30_000, 600_000)),
    st.tuples(st.just("dispatch")),
    st.tuples(st.just("send")),
    st.tuples(
        st.just("report"),
        st.integers(0, 50),
        st.sampled_from(["accepted", "running", "succeeded", "failed", "timed_out", "scheduled"]),
        st.integers(1, 6),
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
        story = Story(World(database))
        for move in moves:
            story.play(move)
        story.finish()
    finally:
        database.close()


# A third of all moves are work, so that hands find something to do.
STORIES = st.tuples(
    START, st.lists(st.one_of(WORK, st.one_of(START, HANDS), HANDS), min_size=5, max_size=25)
).map(lambda told: [told[0], *told[1]])
# What chance seldom finds: a state nobody knows, ends that are taken back, work that is late.
RARE: list[list[tuple[Any, ...]]] = [
    [("start", 0, 2, "parallel", False, "normal"), ("work", "running", 1), ("quiet", 26),
     ("rest",), ("later", 500), ("work", "succeeded", 5)],
    [("start", 0, 1, "serial", False, "low"), *[("work", "failed", 1)] * 24, ("settle",),
     ("retry", 0), ("settle",), ("work", "succeeded", 3), ("rest",)],
    [("start", 0, 4, "parallel", False, "low"), ("work", "running", 1), ("delete", 0),
     ("report", 0, "failed", 3), ("report", 1, "succeeded", 3), ("settle",),
     ("start", 0, 4, "delayed", False, "high"), ("work", "succeeded", 1)],
    [("start", 0, 4, "parallel", False, "low"), ("work", "running", 1), ("cancel", 0, True),
     ("quiet", 1), ("settle",), ("start", 1, 4, "parallel", False, "high"), ("rest",),
     ("report", 0, "succeeded", 5), ("hello", "berlin", False), ("rest",)],
    [("start", 0, 1, "serial", False, "low"), ("work", "running", 1),
     ("silent", "berlin", 600_000), ("rest",), ("work", "succeeded", 3), ("later", 500),
     ("report", 0, "succeeded", 3), ("rest",)],
]  # fmt: skip


def rare(test: Any) -> Any:
    for moves in RARE:
        test = example(moves=moves)(test)
    return test


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=20, suppress_health_check=QUIET)
@given(moves=STORIES)
@rare
def test_invariants_hold_on_sqlite(
    prepared_sqlite: Any, tmp_path_factory: pytest.TempPathFactory, moves: Any
):
    play(prepared_sqlite.copy_to(tmp_path_factory.mktemp("story") / "cloud.db"), moves)


@settings(max_examples=5, suppress_health_check=QUIET)
@given(moves=STORIES)
@rare
def test_invariants_hold_on_postgresql(postgres: Any, prepared_postgres: Any, moves: Any):
    url = prepared_postgres.copy()
    try:
        play(url, moves)
    finally:
        postgres.drop_database(url)
