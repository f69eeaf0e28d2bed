"""An execution as the journal keeps it: time limits as what is left of them.

The monotonic clock begins anew with each process, so time in which the gateway was down is not
counted against a device.
"""

from typing import Any, Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from gateway.domain.aws_jobs import Execution
from gateway.domain.facts import Instant

_EXECUTION: Final = TypeAdapter(Execution)
_LIMITS: Final = ("work_by", "step_by")


def to_record(execution: Execution, now: Instant) -> dict[str, JsonValue]:
    record: dict[str, Any] = _EXECUTION.dump_python(execution, mode="json")
    return {**record, **{name: _less(record[name], now.mono) for name in _LIMITS}}


def from_record(record: dict[str, Any], now: Instant) -> Execution | None:
    """None for what this version cannot read."""
    try:
        moved = {name: _less(record.get(name), -now.mono) for name in _LIMITS}
        return _EXECUTION.validate_python({**record, **moved})
    except (ValidationError, TypeError):
        return None


def _less(value: int | None, by: int) -> int | None:
    return None if value is None else value - by
