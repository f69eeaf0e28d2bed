"""Periods and moments of filters."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.durations import format_duration
from contract.periods import Period, millis, parse_moment, parse_period

pytestmark = pytest.mark.row("C11")
BERLIN = ZoneInfo("Europe/Berlin")
NEWFOUNDLAND = ZoneInfo("America/St_Johns")
ZONES = st.sampled_from([UTC, BERLIN, ZoneInfo("Asia/Kolkata"), NEWFOUNDLAND])
FIRST, LAST = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1980, 2090))
TIMES = st.datetimes(FIRST, LAST, timezones=ZONES)
HOUR = 3_600_000


def test_a_day_follows_the_clocks_of_its_zone():
    now = datetime(2026, 3, 29, 10, tzinfo=UTC)  # the day summer time begins in Berlin
    today = parse_period("today", now, BERLIN)
    assert today.start == millis(datetime(2026, 3, 28, 23, tzinfo=UTC))
    assert today.end is not None
    assert today.start is not None
    assert today.end - today.start == 23 * HOUR
    yesterday = parse_period(" Yesterday ", now, BERLIN)
    assert yesterday.end == today.start


def test_clocks_that_go_back_over_midnight_begin_the_day_once():
    # There 00:01 became 23:01 of the day before.
    now = datetime(2000, 10, 29, 2, 45, tzinfo=UTC)
    assert now.astimezone(NEWFOUNDLAND).day == 28
    today = parse_period("today", now, NEWFOUNDLAND)
    first = millis(datetime(2000, 10, 29, 2, 30, tzinfo=UTC))
    assert today == Period(first, first + 25 * HOUR)


@given(TIMES, ZONES)
@example(datetime(2000, 4, 2, 0, 1, fold=1, tzinfo=NEWFOUNDLAND), NEWFOUNDLAND)  # left out
def test_now_lies_in_today_and_yesterday_ends_where_today_begins(now: datetime, zone: ZoneInfo):
    today, yesterday = parse_period("today", now, zone), parse_period("yesterday", now, zone)
    assert today.start is not None
    assert today.end is not None
    assert today.start <= millis(now) < today.end
    assert yesterday.end == today.start
    assert 22 * HOUR <= today.end - today.start <= 26 * HOUR


@given(TIMES, st.integers(0, 10**8))
def test_a_duration_ends_now(now: datetime, seconds: int):
    lasts = timedelta(seconds=seconds)
    period = parse_period(format_duration(lasts), now, UTC)
    assert period == Period(millis(now - lasts), millis(now) + 1)


def test_seed_writing_and_ends_that_override():
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    period = parse_period("2h 30m", now, UTC)
    assert period.start == millis(now) - 9_000_000
    assert period.overridden(5, None) == Period(5, period.end)
    assert period.overridden(None, 7) == Period(period.start, 7)


@given(TIMES)
def test_a_moment_is_the_same_in_every_writing(moment: datetime):
    written = moment.isoformat()
    assert parse_moment(written) == millis(moment)
    assert parse_moment(written.replace("+", " ")) == millis(moment)
    assert parse_moment(str(millis(moment))) == millis(moment)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-03-01T12:00:00", "-5", "9" * 30, "2026-03-01", "١٢٣"]
)
def test_what_is_no_moment(text: str):
    with pytest.raises(ValueError, match=r"is no time|has no zone"):
        parse_moment(text)


@given(st.text())
def test_a_period_is_read_or_refused_and_nothing_else(text: str):
    now = datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=1)))
    try:
        period = parse_period(text, now, UTC)
    except ValueError as error:
        assert "yesterday" in str(error)
    else:
        assert period.start is not None
        assert period.end is not None
        assert period.start < period.end
