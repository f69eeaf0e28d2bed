from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from contract.durations import LONGEST, Duration, format_duration, parse_duration

ADAPTER: TypeAdapter[timedelta] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2h 30m", 9000),
        ("2 days", 172_800),
        ("1w", 604_800),
        ("500ms", 0.5),
        ("0s", 0),
        (" 10 Minutes ", 600),
        ("PT15M", 900),
        ("P1DT2H", 93_600),
        ("PT0,5S", 0.5),
        ("P2W", 1_209_600),
        (1500, 1.5),
        (0.5, 0.0005),
        (timedelta(hours=1), 3600),
    ],
)
def test_a_duration_is_read_from_every_form_people_write(written, seconds):
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    [
        "", "soon", "-5s", "5", "5 parsecs", "1h1h", "P", "PT", "P1M", "P1Y", "1..5h", "s", "1e3s",
        "٣s", "99999d", "9" * 70 + "s", -1, -0.001, float("nan"), float("inf"), 10**400, True,
        None, [], timedelta(days=-1), timedelta.max,
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_a_reason(written):
    with pytest.raises(ValueError, match=r"duration|out of bounds|without a unit"):
        parse_duration(written)


def test_a_number_in_quotes_is_told_to_bring_its_unit():
    with pytest.raises(ValueError, match=r"without a unit: write one of 90s, 15m"):
        parse_duration("90")


@given(st.timedeltas(min_value=timedelta(0), max_value=LONGEST))
def test_a_duration_survives_being_written_and_read(value):
    assert parse_duration(format_duration(value)) == value
    assert ADAPTER.validate_json(ADAPTER.dump_json(value)) == value


@given(st.text(max_size=80) | st.from_regex(r"\A[Pp0-9.,hmsdwT ]{1,20}\Z"))
def test_any_text_is_read_or_refused(text):
    try:
        assert timedelta(0) <= parse_duration(text) <= LONGEST
    except ValueError as error:
        assert str(error)


def test_a_model_takes_and_gives_compact_text():
    class Limits(BaseModel):
        timeout: Duration = timedelta(minutes=1)

    assert Limits.model_validate({"timeout": "1h30m"}).timeout == timedelta(minutes=90)
    assert Limits().model_dump(mode="json") == {"timeout": "1m"}
    assert Limits().model_dump() == {"timeout": timedelta(minutes=1)}
    kinds = Limits.model_json_schema()["properties"]["timeout"]["anyOf"]
    assert [kind["type"] for kind in kinds] == ["string", "integer"]
    with pytest.raises(ValidationError, match="such as 90s"):
        Limits.model_validate({"timeout": True})
