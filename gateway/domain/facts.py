"""What can happen to an attempt, and what it may ask for: the vocabulary of `attempt.advance`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pydantic import JsonValue

CancelMode = Literal["recall", "soft", "force"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class Instant(NamedTuple):
    """A moment in milliseconds: `wall` is shown, `mono` only measures, within one process."""

    wall: int
    mono: int


@dataclass(frozen=True)
class Started:
    """A worker takes the attempt up: for the first time, or after a restart in its middle.

    `boot` counts the starts of the process; `device` and `gateway` are what expressions may read;
    `cancel` is what has been asked for meanwhile.
    """

    boot: int
    device: Mapping[str, JsonValue] = field(default_factory=dict)
    gateway: Mapping[str, JsonValue] = field(default_factory=dict)
    cancel: "CancelAsked | None" = None


@dataclass(frozen=True)
class Held:
    """It may not begin yet; `code` is one of `contract.waiting.WAITS`."""

    code: str


@dataclass(frozen=True)
class Begin:
    """Nothing is in its way any more: begin the first step."""


@dataclass(frozen=True)
class Hopeless:
    """It cannot even begin; `code` is one of `contract.failures.FAILURES`."""

    code: str
    text: str


@dataclass(frozen=True)
class Acknowledgment:
    """How somebody says that the task ends; `by` names who, for people."""

    success: bool
    result: JsonValue = None
    accumulator: JsonValue = None
    text: str = ""
    by: str = ""


@dataclass(frozen=True)
class Done:
    """The step was performed. `memory` is for later steps of the attempt."""

    result: JsonValue = None
    memory: Mapping[str, JsonValue] = field(default_factory=dict)
    note: str = ""
    acknowledgment: Acknowledgment | None = None


@dataclass(frozen=True)
class Acknowledged:
    """Somebody outside has acknowledged the attempt, while it runs or awaits that."""

    acknowledgment: Acknowledgment


@dataclass(frozen=True)
class Denied:
    """The step was definitely not performed."""

    code: str
    text: str
    result: JsonValue = None


@dataclass(frozen=True)
class Unanswered:
    """The step may or may not have happened."""

    code: str
    text: str


@dataclass(frozen=True)
class LineLost:
    """The device did not answer. `sent` says that the request may have reached it."""

    text: str
    sent: bool


@dataclass(frozen=True)
class TimedOut:
    """The time that the step was given is over; it has been stopped. `result`: what it has."""

    result: JsonValue = None


@dataclass(frozen=True)
class Stopped:
    """The step was interrupted because the attempt asked for it. `result`: what it has."""

    result: JsonValue = None


@dataclass(frozen=True)
class Progress:
    """The step came forward: percent, and a note such as `41 of 93 KiB`."""

    percent: float
    note: str = ""


@dataclass(frozen=True)
class Due:
    """The moment that WaitUntil named has come, or start-by may have."""


@dataclass(frozen=True)
class CancelAsked:
    mode: CancelMode
    reason: str = ""


@dataclass(frozen=True)
class ProcessEnds:
    """The process ends in good order: what it leaves in the middle is no crash.

    `sent`: something of the step under way may have happened.
    """

    sent: bool = True


Outcome = Done | Denied | Unanswered | LineLost | TimedOut | Stopped
Fact = (
    Started
    | Held
    | Begin
    | Hopeless
    | Outcome
    | Progress
    | Due
    | CancelAsked
    | Acknowledged
    | ProcessEnds
)


@dataclass(frozen=True)
class Perform:
    """Perform a step, once the attempt is saved; its outcome is the next fact."""

    step: str
    uses: str
    parameters: Mapping[str, JsonValue]
    timeout_ms: int
    resumed: bool
    scope: Mapping[str, JsonValue]
    memory: Mapping[str, JsonValue]
    key: str | None = None


@dataclass(frozen=True)
class WaitUntil:
    """Say `Due` after so many milliseconds."""

    delay_ms: int


@dataclass(frozen=True)
class Interrupt:
    """Stop the step that is being performed, and say `Stopped`, or its outcome if it has one."""


@dataclass(frozen=True)
class AskToStop:
    """Tell the step that is being performed of a cancel: it may end by itself, or go on."""


@dataclass(frozen=True)
class Say:
    """A line of the task's log, kept in the same commit as the attempt."""

    level: Level
    text: str
    data: Mapping[str, JsonValue] = field(default_factory=dict)


Effect = Perform | WaitUntil | Interrupt | AskToStop | Say
