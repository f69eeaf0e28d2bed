"""What a trigger means: when it fires, how deep jobs may start jobs, what the handler is told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import JsonValue

from contract.job_document import CompletionTrigger, JobDocument, Trigger
from contract.lifecycle import RunStatus

Kind = Literal["on_timeout", "on_complete"]
# A job that starts itself through others is stopped here; nobody builds longer chains by hand.
MAX_DEPTH: Final = 10
AT_COMPLETION: Final = frozenset(
    {RunStatus.SUCCEEDED, RunStatus.PARTIALLY_SUCCEEDED, RunStatus.FAILED}
)


@dataclass(frozen=True, slots=True)
class Armed:
    """A trigger as a run froze it. `conditions` are the ends at which a completion fires."""

    kind: Kind
    position: int
    job: str
    context: Mapping[str, JsonValue]
    conditions: frozenset[RunStatus]


def armed(document: JobDocument) -> list[Armed]:
    """The triggers of a job, in the order they are written."""
    found = [_armed("on_timeout", n, trigger) for n, trigger in enumerate(document.on_timeout)]
    found.extend(_armed("on_complete", n, t) for n, t in enumerate(document.on_complete))
    return found


def _armed(kind: Kind, position: int, trigger: Trigger) -> Armed:
    conditions = AT_COMPLETION
    if isinstance(trigger, CompletionTrigger) and trigger.when is not None:
        conditions = frozenset(RunStatus(end) for end in trigger.when)
    return Armed(kind, position, trigger.run, trigger.context, conditions)


def fires(conditions: Iterable[RunStatus], status: RunStatus) -> bool:
    """Whether a completion trigger fires at this end of its run."""
    return status in frozenset(conditions)


def refusal(depth: int) -> str | None:
    """Why a run of this depth starts no other one; None when it may."""
    if depth < MAX_DEPTH:
        return None
    return f"{depth} triggers in a row led here, and {MAX_DEPTH} are the most: is it a circle?"


def handler_context(
    own: Mapping[str, JsonValue],
    rendered: Mapping[str, JsonValue],
    told: Mapping[str, JsonValue],
) -> dict[str, JsonValue]:
    """The handler's context: its job's own, the trigger's over it, and `trigger` with the facts."""
    return {**own, **rendered, "trigger": dict(told)}
