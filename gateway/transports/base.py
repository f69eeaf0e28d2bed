"""The seams of drivers to the world: bytes on a line, messages on a broker, turns on a bus."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class ByteLink(Protocol):
    """A line to one device, or to one bus. It may be opened again after it was closed or lost."""

    @property
    def is_open(self) -> bool: ...

    async def open(self) -> None:
        """Raises PortUnavailable: no such port, in use, or not ours to open."""
        ...

    async def read(self) -> bytes:
        """The next bytes, at least one. Raises PortUnavailable once the line is gone."""
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


class Turns(Protocol):
    """Whose turn it is on a bus, and whether the line is fit to be used at all."""

    def hold(
        self, bus: str, within_s: float, device: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """The turn, for one exchange. Raises DeviceUnreachable: busy for so long, or shut."""
        ...

    def shut(self, bus: str) -> str | None:
        """Why the line is left alone now; None where it may be used."""
        ...

    def failed(self, bus: str, why: str) -> None:
        """The port could not be opened, or was lost."""
        ...

    def garbage(self, bus: str, line_s: float) -> None:
        """Bytes that were no frame took `line_s` seconds of the line."""
        ...

    def worked(self, bus: str) -> None:
        """Something that was meant for us came over the line."""
        ...
