"""The two seams between drivers and the world: bytes on a line, messages on a broker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class ByteLink(Protocol):
    """A line to one device, or to one bus. It may be opened again after it was closed or lost."""

    @property
    def is_open(self) -> bool: ...

    async def open(self) -> None:
        """Raises DeviceUnreachable: no such port, in use, or not ours to open."""
        ...

    async def read(self) -> bytes:
        """The next bytes, at least one. Raises DeviceUnreachable once the line is gone."""
        ...

    def write(self, data: bytes) -> None:
        """Hand bytes over. Raises DeviceUnreachable when the line is gone."""
        ...

    async def drain(self, timeout_s: float) -> None:
        """Wait until the line takes more. Raises DeviceUnreachable when it does not in time."""
        ...

    async def close(self) -> None:
        """Let go of the line at once, unsent bytes and all. Never fails, may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a broker. `is_retained`: it was there before we subscribed."""

    topic: str
    payload: bytes
    is_retained: bool = False


# Called from the loop for each message, in order; must be quick and must not raise.
OnMessage = Callable[[Message], None]


class Subscription(Protocol):
    def close(self) -> None:
        """End it; messages on their way are dropped."""
        ...


class MessageLink(Protocol):
    """A broker shared by many devices."""

    @property
    def is_connected(self) -> bool: ...

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        timeout_s: float,
        qos: int = 1,
        is_retained: bool = False,
    ) -> None:
        """Hand a message to the broker, waiting for a connection if there is none.

        Raises DeviceUnreachable when the broker has not taken it in time.
        """
        ...

    async def subscribe(
        self, filters: Sequence[str], on_message: OnMessage, *, timeout_s: float
    ) -> Subscription:
        """Receive what matches; renewed after every reconnect.

        Raises DeviceUnreachable when the broker refuses or does not answer in time.
        """
        ...
