"""CSV that other programs read back, and that no spreadsheet runs."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.api.tables import csv_cell, csv_chunk, csv_stream, ndjson_stream


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"])
def test_no_cell_is_a_formula(text):
    assert csv_cell(text) == "'" + text


def test_values_have_one_form():
    assert csv_cell(None) == ""
    assert csv_cell(True) == "true"
    assert csv_cell(-1) == "-1"
    assert csv_cell({"a": ["ü"]}) == '{"a": ["ü"]}'
    assert csv_cell(datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)) == "2026-01-02T03:04:05.678Z"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_what_is_written_is_read_back(row):
    text = csv_chunk([row]).decode()
    assert text.endswith("\r\n")
    (read,) = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert read == [csv_cell(value) for value in row]


async def pages():
    yield [["a", 1]]
    yield [["b", None], ["=c", datetime(2026, 1, 1, tzinfo=UTC)]]


async def test_a_stream_begins_with_its_header():
    chunks = [chunk async for chunk in csv_stream(["name", "x"], pages())]
    assert chunks == [b"name,x\r\n", b"a,1\r\n", b"b,\r\n'=c,2026-01-01T00:00:00.000Z\r\n"]


async def test_ndjson_holds_the_same_rows_unchanged():
    text = b"".join([chunk async for chunk in ndjson_stream(["name", "x"], pages())]).decode()
    assert [json.loads(line) for line in text.splitlines()] == [
        {"name": "a", "x": 1},
        {"name": "b", "x": None},
        {"name": "=c", "x": "2026-01-01T00:00:00.000Z"},
    ]
