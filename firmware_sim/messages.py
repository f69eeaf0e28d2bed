"""A broker as a simulated device sees it: what it publishes, and what else it does to be seen.

A personality is told what happens and answers with timed actions; its endpoint performs them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from firmware_sim.device import Device


@dataclass(frozen=True, slots=True)
class Publish:
    """A message for the broker, `after_s` seconds from now."""

    topic: str
    payload: bytes
    retain: bool = False
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download this; report with `downloading`, then `downloaded` or `download_failed`."""

    url: str
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Reboot:
    """The device resets `after_s` seconds from now: drop the connection, call `boot`, connect.

    `stays_connected`: the connection is another's, such as a bridge's, and goes on.
    """

    after_s: float = 0.0
    stays_connected: bool = False


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The connection breaks without a word (the broker sends the Will) for `for_s` seconds."""

    for_s: float
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Later:
    """Ask `then` what to do in `after_s` seconds; it is given the time. A boot forgets it."""

    after_s: float
    then: "Callable[[float], list[Action]]"


Action = Publish | Fetch | Reboot | Disconnect | Later


class MessagePersonality(Protocol):
    """Speaks for one device on a broker. Call `boot`, then the others as they happen."""

    device: Device

    def topics(self) -> list[str]:
        """The topic filters it listens to."""
        ...

    def presence(self, is_online: bool) -> Publish | None:
        """What it says of its being there; `presence(False)` is also its Will. None: nothing."""
        ...

    def boot(self, now_s: float) -> None: ...

    def connected(self) -> list[Action]: ...

    def received(self, topic: str, payload: bytes, now_s: float) -> list[Action]: ...

    def downloading(self, received: int, total: int | None) -> list[Action]:
        """Progress of a fetch, in bytes."""
        ...

    def downloaded(self, data: bytes) -> list[Action]: ...

    def download_failed(self, text: str) -> list[Action]: ...
