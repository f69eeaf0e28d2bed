"""What is collected of a device's state: what it is asked, and what it publishes."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.domain.collecting import Worth
from gateway.drivers.base import Command, Listening, OnValues, ReadPoints


@dataclass(frozen=True)
class Ask:
    """What a device is asked, every so often; `name` is what its result is kept under."""

    request: ReadPoints | Command
    every_ms: int
    timeout_s: float
    worth: Worth
    name: str | None = None


@dataclass(frozen=True)
class Hear:
    """What a device publishes. `listen` begins to hear; it may raise DeviceUnreachable."""

    listen: Callable[[OnValues], Listening]
    worth: Worth
    name: str | None = None


Collects = Ask | Hear
