"""The gateway's time: its own clock's while that is plausible, else the cloud's or the last known.

What lasts is measured by the monotonic clock alone; this is for what is shown, and what is kept.
"""

from collections.abc import Callable
from typing import Final

from gateway.domain.facts import Instant

# A clock that is off by less is left as it is.
OFF_MS: Final = 5_000
# A cloud that is so far ahead of all that is known here is doubted: nothing is deleted by its time
# until another session, so much later, tells the same.
DOUBTED_MS: Final = 86_400_000
CONFIRMED_AFTER_MS: Final = 3_600_000
AGREES_MS: Final = 600_000


class Clock:
    """`read` gives the machine's clocks; `floor` is the last time that is known to have been."""

    def __init__(self, read: Callable[[], Instant], floor: int = 0) -> None:
        self._read = read
        self._floor = floor
        self._started = read().mono
        # What the monotonic clock is to be raised by, and by how much that may be wrong.
        self._cloud: tuple[int, int] | None = None
        self._earliest: int | None = None
        # What the cloud has told and is doubted: the offset, and when it was told first.
        self._doubted: tuple[int, int] | None = None

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
        """A session's welcome tells the cloud's time, in ms; it was asked for at that `mono`."""
        if time <= 0:
            return
        wall, mono = self._read()
        slack = max(mono - asked, 0) // 2
        offset = time + slack - mono
        self._cloud = offset, slack
        if self._earliest is not None:
            self._earliest = min(offset, self._earliest)
        elif mono + offset <= self._latest_known(wall, mono) + DOUBTED_MS:
            self._believe(offset)
        elif self._doubted is None or offset < self._doubted[0] - AGREES_MS:
            self._doubted = offset, mono
        elif (
            offset <= self._doubted[0] + AGREES_MS and mono - self._doubted[1] >= CONFIRMED_AFTER_MS
        ):
            self._believe(min(offset, self._doubted[0]))

    def _latest_known(self, wall: int, mono: int) -> int:
        return max(wall, self._floor + mono - self._started)

    def _believe(self, offset: int) -> None:
        self._earliest, self._doubted = offset, None

    def _look_again(self) -> None:
        """The machine's clock may have been put right meanwhile, and agree."""
        if self._doubted is not None:
            wall, mono = self._read()
            if mono + self._doubted[0] <= self._latest_known(wall, mono) + DOUBTED_MS:
                self._believe(self._doubted[0])

    @property
    def doubted_ms(self) -> int:
        """By how much the cloud is ahead of all that is known here, while it is doubted; else 0."""
        self._look_again()
        if self._doubted is None:
            return 0
        wall, mono = self._read()
        return mono + self._doubted[0] - self._latest_known(wall, mono)

    @property
    def is_to_be_confirmed(self) -> bool:
        """Whether it is time that another session tells what is doubted."""
        since = 0 if self._doubted is None else self._read().mono - self._doubted[1]
        return self.doubted_ms > 0 and since >= CONFIRMED_AFTER_MS

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

        The earliest of what the cloud has told this process, and None while that is doubted: no
        clock that jumps ahead makes anything older than it is.
        """
        self._look_again()
        return None if self._earliest is None else self._read().mono + self._earliest
