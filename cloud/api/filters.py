"""Times, periods and statuses as they stand in addresses, read once for all lists."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cloud.errors import Invalid
from contract.http.problems import ProblemItem
from contract.lifecycle import RunStatus, run_statuses
from contract.periods import Period, parse_moment, parse_period


def statuses_of(words: Sequence[str], key: str = "status") -> frozenset[RunStatus]:
    """Several, also with commas; names of the seeds too. Raises Invalid."""
    try:
        return frozenset(
            status
            for word in ",".join(words).split(",")
            if word.strip()
            for status in run_statuses(word.strip())
        )
    except ValueError as error:
        raise _invalid(key, error) from None


def moment_of(text: str | None, key: str) -> int | None:
    """Milliseconds or RFC 3339. Raises Invalid."""
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise _invalid(key, error) from None


def between(start: str | None, end: str | None, name: str) -> Period:
    """`{name}_from` and `{name}_to`, either of them. Raises Invalid."""
    return Period(moment_of(start, f"{name}_from"), moment_of(end, f"{name}_to"))


def period_of(
    period: str | None, start: str | None, end: str | None, zone: str, now: int
) -> Period:
    """A period by its name, with `from` and `to` over it. Raises Invalid."""
    found = Period()
    if period is not None:
        try:
            at = datetime.fromtimestamp(now / 1000, UTC)
            found = parse_period(period, at, ZoneInfo(zone))
        except (ZoneInfoNotFoundError, OSError) as error:
            raise Invalid("invalid", f"`{zone[:64]}` is no time zone") from error
        except ValueError as error:
            raise _invalid("period", error) from None
    return found.overridden(moment_of(start, "from"), moment_of(end, "to"))


def _invalid(key: str, error: ValueError) -> Invalid:
    return Invalid("invalid", str(error), [ProblemItem(key=key, message=str(error))])
