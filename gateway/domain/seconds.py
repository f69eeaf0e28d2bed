"""Durations of a step's parameters, as seconds."""

from datetime import timedelta

from contract.durations import parse_duration
from gateway.errors import StepInvalid


def seconds_of(value: timedelta | str) -> float:
    """A duration, or the text of one that was a template. Raises StepInvalid."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        return parse_duration(value).total_seconds()
    except ValueError as error:
        raise StepInvalid(str(error)) from error
