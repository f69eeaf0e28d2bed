"""An updater may say anything: it is understood, or it is our own error, within bounds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.updater import (
    UpdaterUnreadable,
    is_restart_needed,
    parse_progress,
    parse_status,
)

pytestmark = pytest.mark.row("E6")

HASH = "ab" * 32
RUNS = {"running": {"version": "1.4.0", "sha256": HASH}, "confirmed": True}
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.just(HASH),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["running", "staged", "confirmed", "version", "sha256", "progress", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


def test_the_least_and_the_most_that_it_says():
    least = parse_status(json.dumps(RUNS).encode())
    assert (least.running.version, least.staged, least.pending) == ("1.4.0", None, False)
    staged = {"version": "1.5.0", "sha256": "cd" * 32}
    most = {**RUNS, "staged": staged, "pending": True, "can_roll_back": True, "more": [1]}
    assert parse_status(json.dumps(most, indent=1).encode()).staged.version == "1.5.0"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {**RUNS, "confirmed": "yes"},
        {**RUNS, "running": None},
        {**RUNS, "running": {"version": "1 4", "sha256": HASH}},
        {**RUNS, "running": {"version": "1.4", "sha256": HASH[1:]}},
        {**RUNS, "staged": {"version": "v" * 65, "sha256": HASH}},
    ],
)
def test_what_could_be_misunderstood_is_not_understood(wrong):
    with pytest.raises(UpdaterUnreadable):
        parse_status(json.dumps(wrong).encode())


@given(st.binary(max_size=300) | anything.map(lambda value: json.dumps(value).encode()))
def test_whatever_it_says_is_read_or_refused(said):
    try:
        status = parse_status(said)
    except UpdaterUnreadable as error:
        assert len(str(error)) < 500
    else:
        assert len(status.running.sha256) == 64
    progress = parse_progress(said)
    assert progress is None or (0 <= progress[0] <= 100 and len(progress[1]) <= 200)
    assert is_restart_needed(said) in (True, False)


def test_deep_nesting_costs_nothing():
    with pytest.raises(UpdaterUnreadable):
        parse_status(b"[" * 60_000)
    assert parse_progress(b'{"progress":' * 5_000) is None


def test_progress_is_a_percentage():
    assert parse_progress(b'{"progress": 41.5, "note": "unpacking"}') == (41.5, "unpacking")
    for wrong in (b'{"progress": NaN}', b'{"progress": 101}', b'{"progress": "5"}', b"41"):
        assert parse_progress(wrong) is None
