"""The gateway's time: its own clock's while that is plausible, else the cloud's or the last known.

What lasts is measured by the monotonic clock alone; this is for what is shown, and what is kept.
"""

from collections.abc import Callable
from typing import Final

from gateway.domain.facts import Instant

# A clock that is off by less is left as it is.
OFF_MS: Final = 5_000


class Clock:
    """`read` gives the machine's clocks; `floor` is the last time that is known to have been."""

    def __init__(self, read: Callable[[], Instant], floor: int = 0) -> None:
        self._read = read
        self._floor = floor
        self._started = read().mono
        # What the monotonic clock is to be raised by, and by how much that may be wrong.
        self._cloud: tuple[int, int] | None = None
        self._earliest: int | None = None

    @staticmethod
    def of(read: Callable[[], Instant]) -> "Clock":
        return read if isinstance(read, Clock) else Clock(read)

    def __call__(self) -> Instant:
        """This moment, with the right time as far as it is known."""
        wall, mono = self._read()
        if self._cloud is not None:
            offset, slack = self._cloud
            right = mono + offset
            return Instant(wall if abs(wall - right) <= OFF_MS + slack else right, mono)
        floor = self._floor + mono - self._started
        return Instant(floor if wall + OFF_MS < self._floor else wall, mono)

    def learn(self, time: int, asked: int) -> None:
        """The cloud has told its time, in ms, in answer to what was asked at that `mono`."""
        if time <= 0:
            return
        mono = self._read().mono
        slack = max(mono - asked, 0) // 2
        offset = time + slack - mono
        self._cloud = offset, slack
        self._earliest = offset if self._earliest is None else min(offset, self._earliest)

    @property
    def off_ms(self) -> int:
        """How far the machine's clock is ahead of the right time; 0 where that is not known."""
        wall, mono = self._read()
        if self._cloud is None:
            return min(wall - self._floor, 0) if wall + OFF_MS < self._floor else 0
        offset, slack = self._cloud
        off = wall - mono - offset
        return 0 if abs(off) <= slack else off

    @property
    def surely(self) -> int | None:
        """A time that has surely come, for what is deleted by its age; None before the cloud's.

        The earliest of what the cloud has told this process: no clock that jumps ahead makes
        anything older than it is.
        """
        return None if self._earliest is None else self._read().mono + self._earliest
