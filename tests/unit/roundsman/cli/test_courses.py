"""Numbers over time as bars."""

from datetime import UTC, datetime

import pytest

from contract.http.state import Sample
from roundsman.cli.courses import WIDTH, bars, courses

pytestmark = pytest.mark.row("E2")
AT = datetime(2027, 1, 1, tzinfo=UTC)


def test_each_number_has_a_line_and_nothing_else_has():
    seen = [{"bar": 1, "on": True, "name": "x"}, {"bar": 3, "rpm": 5}, {"bar": 2, "on": False}]
    samples = [Sample.model_validate({"at": AT, "values": values}) for values in seen]
    assert courses(samples) == ["bar  ▁█▅  1 to 3"]


def test_many_values_make_no_more_than_a_line():
    assert len(bars(list(range(1000)))) == WIDTH
    assert bars([5.0, 5.0]) == "▁▁"
    assert courses([]) == []
