"""Where a run stands that people pause, cancel and replace, and what "retry failed" asks for."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from contract.lifecycle import RunStatus, TaskStatus

Pauser = Literal["person", "job", "window"]
PAUSERS: Final[tuple[Pauser, ...]] = ("job", "person", "window")
RETRYABLE: Final = frozenset({TaskStatus.FAILED, TaskStatus.TIMED_OUT})


def pausers(text: str) -> frozenset[str]:
    """Who keeps a run paused, from the text that is stored."""
    return frozenset(text.split())


def paused_by(text: str, who: Pauser) -> str:
    """The text with one more pauser."""
    return " ".join(sorted(pausers(text) | {who}))


def resumed_by(text: str, who: Pauser) -> str:
    """The text without this pauser: nobody lifts another's pause."""
    return " ".join(sorted(pausers(text) - {who}))


def standing(*, started: bool, cancelling: bool, paused: bool, in_flight: int) -> RunStatus:
    """The status of a run that has not ended."""
    if cancelling:
        return RunStatus.CANCELLING
    if paused:
        return RunStatus.PAUSING if in_flight else RunStatus.PAUSED
    return RunStatus.RUNNING if started else RunStatus.SCHEDULED


@dataclass(frozen=True)
class RetryAsked:
    """Which ended tasks get another attempt: of these failure codes, of these ordinals, or all."""

    codes: tuple[str, ...] = ()
    ordinals: tuple[int, ...] = ()

    def to_text(self) -> str:
        return json.dumps({"codes": self.codes, "ordinals": self.ordinals})

    def covers(self, status: TaskStatus, code: str | None, ordinal: int) -> bool:
        return (
            status in RETRYABLE
            and (not self.codes or code in self.codes)
            and (not self.ordinals or ordinal in self.ordinals)
        )


def retry_asked(text: str) -> RetryAsked:
    """What `RetryAsked.to_text` wrote."""
    fields = json.loads(text)
    return RetryAsked(tuple(fields["codes"]), tuple(fields["ordinals"]))


def both(old: RetryAsked, new: RetryAsked) -> RetryAsked | None:
    """One wish for two; None when they cannot be said as one."""
    if old == new:
        return new
    if not old.codes and not new.codes and old.ordinals and new.ordinals:
        return RetryAsked((), tuple(sorted({*old.ordinals, *new.ordinals})))
    if not old.ordinals and not new.ordinals:
        codes = sorted({*old.codes, *new.codes}) if old.codes and new.codes else []
        return RetryAsked(tuple(codes))
    return None


def may_reopen(status: RunStatus, another: Collection[str]) -> str | None:
    """Why a run cannot be retried, as a code; None when it can. `another`: runs in flight."""
    if status is RunStatus.REPLACED:
        return "run_replaced"
    return "run_in_flight" if another else None
