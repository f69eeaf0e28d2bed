"""What a database gives becomes JSON within bounds."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.plain_json import MAX_RESULT_BYTES, size_of
from gateway.domain.sql_values import Rows, names_of, value_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("7"), 7),
        (Decimal("12.50"), 12.5),
        (Decimal("0.1"), 0.1),
        (Decimal("0.1000000000000000000001"), "0.1000000000000000000001"),
        (Decimal("1e400"), "1E+400"),
        (Decimal("NaN"), "NaN"),
        (2**63, str(2**63)),
        (float("inf"), "inf"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(hours=1, milliseconds=5), 3600.005),
        (b"\x00\xff", "AP8="),
        (memoryview(b"\x00\xff"), "AP8="),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"a": [Decimal("1.5"), None]}, {"a": [1.5, None]}),
        ("half \ud800", "half ?"),
    ],
)
def test_every_kind_of_value_is_defined(value, expected):
    assert value_of(value) == expected


def test_a_name_that_comes_twice_gets_a_number():
    assert names_of(["id", "id", "n", "id", "id_2"]) == ["id", "id_2", "n", "id_3", "id_2_2"]


cells = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(
    rows=st.lists(st.tuples(cells | st.decimals(), st.text(max_size=3000)), max_size=40),
    max_rows=st.integers(1, 30),
)
def test_rows_stay_within_their_bounds_and_say_when_some_are_left_out(rows, max_rows):
    made = Rows(["a", "b"], max_rows)
    taken = [made.take(row) for row in rows]
    result = made.result(sum(taken))
    assert len(made.rows) == sum(taken) <= max_rows
    assert taken == sorted(taken, reverse=True)  # the first ones, without gaps
    assert result["truncated"] == (not all(taken))
    assert size_of(json.loads(json.dumps(result))) <= MAX_RESULT_BYTES
