"""The state of a device link: unknown until first used, then up or down, with when to try again."""

from dataclasses import dataclass, replace
from typing import Final, Literal

from gateway.domain.backoff import backoff_ms

LinkStatus = Literal["unknown", "up", "down"]
FIRST_TRY_AFTER_MS: Final = 500
LONGEST_WAIT_MS: Final = 10_000


@dataclass(frozen=True)
class DeviceLink:
    """`losses` counts since the link was last up; `since` is when the status began."""

    status: LinkStatus = "unknown"
    since: int = 0
    losses: int = 0

    def came_up(self, now: int) -> "DeviceLink":
        if self.status == "up":
            return replace(self, losses=0)
        return DeviceLink("up", now)

    def was_lost(self, now: int) -> "DeviceLink":
        since = self.since if self.status == "down" else now
        return DeviceLink("down", since, self.losses + 1)

    @property
    def next_try_ms(self) -> int:
        """How long to leave the line alone before it is tried again."""
        if not self.losses:
            return 0
        return backoff_ms(self.losses, FIRST_TRY_AFTER_MS, LONGEST_WAIT_MS)
