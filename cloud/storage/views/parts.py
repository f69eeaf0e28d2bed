"""Small pieces that several views share: times, failures and waits as the API shows them."""

from datetime import UTC, datetime
from typing import Final

from contract.failures import FAILURES
from contract.http.runs import Waiting
from contract.http.tasks import TaskFailure
from contract.waiting import WAITS

MAX_LIMIT: Final = 1_000


def time(millis: int | None) -> datetime | None:
    return None if millis is None else moment(millis)


def moment(millis: int) -> datetime:
    # Gateways' clocks may be anything: what no calendar can show is shown as the end of ours.
    return datetime.fromtimestamp(min(max(millis, 0), 253_402_300_799_000) / 1000, UTC)


def failure(code: str | None, text: str | None, step: str | None = None) -> TaskFailure | None:
    if code is None:
        return None
    kind = FAILURES.get(code)
    return TaskFailure(
        code=code,
        sentence=kind.sentence if kind else "",
        text=text or "",
        help=kind.help if kind else "",
        step=step,
    )


def waiting(code: str | None) -> Waiting | None:
    """The wait of a code; one this release does not know is shown as it is."""
    if code is None:
        return None
    kind = WAITS.get(code)
    if kind is None:
        return Waiting(code=code, sentence=code, ends="")
    return Waiting(code=kind.code, sentence=kind.sentence, ends=kind.ends)


def bounded(limit: int) -> int:
    return min(max(limit, 1), MAX_LIMIT)
