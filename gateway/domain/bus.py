"""The arbiter of a bus: whose turn it is, and when a line is so bad that it is left alone.

Pure: times are seconds of any clock that only grows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.domain.backoff import backoff_ms

FAILURES_BORNE: Final = 3
GARBAGE_BORNE_S: Final = 3.0
GARBAGE_FORGIVEN_PER_S: Final = 0.1
FIRST_PAUSE_MS: Final = 2_000
LONGEST_PAUSE_MS: Final = 60_000
# A line that goes bad again within this time of being well goes on where its pauses were.
WELL_AFTER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One wish for a turn. Tickets are never used twice."""

    ticket: int
    device: str


@dataclass(frozen=True, slots=True)
class Turns:
    """Who has the turn and who waits. The next one is the device served longest ago.

    So whoever waits sees each neighbour at most once before it, the one at work included.
    """

    holder: Ask | None = None
    waiting: tuple[Ask, ...] = ()
    served: Mapping[str, int] = field(default_factory=dict)
    count: int = 0

    def asked(self, ask: Ask) -> "Turns":
        return replace(self, waiting=(*self.waiting, ask))._granted()

    def left(self, ticket: int) -> "Turns":
        """The turn ends, or the wait is given up."""
        holder = self.holder
        if holder is not None and holder.ticket == ticket:
            return replace(self, holder=None)._granted()
        return replace(self, waiting=tuple(a for a in self.waiting if a.ticket != ticket))

    def _granted(self) -> "Turns":
        if self.holder is not None or not self.waiting:
            return self
        # Ties are never-served devices: min takes the one that asked first.
        chosen = min(self.waiting, key=lambda ask: self.served.get(ask.device, 0))
        count = self.count + 1
        waiting = tuple(ask for ask in self.waiting if ask is not chosen)
        return Turns(chosen, waiting, {**self.served, chosen.device: count}, count)


@dataclass(frozen=True, slots=True)
class LineHealth:
    """How a line has been. Shut until `shut_until_s`: nobody may use it; then it is tried again.

    Garbage is measured in seconds of the line's own speed, and forgotten with every good frame:
    a line through which frames still come is of use.
    """

    failures: int = 0
    garbage_s: float = 0.0
    heard_at_s: float = 0.0
    offences: int = 0
    shut_until_s: float | None = None
    well_since_s: float | None = None
    why: str = ""

    def is_shut(self, now_s: float) -> bool:
        return self.shut_until_s is not None and now_s < self.shut_until_s

    @property
    def is_quarantined(self) -> bool:
        """It went bad, and nothing good has been heard since."""
        return self.shut_until_s is not None

    @property
    def is_spotless(self) -> bool:
        return not (self.failures or self.garbage_s or self.offences or self.is_quarantined)

    def failed(self, now_s: float, why: str) -> "LineHealth":
        """The port could not be opened, or was lost."""
        failures = self.failures + 1
        if failures < FAILURES_BORNE and not self.is_quarantined:
            return replace(self, failures=failures)
        return replace(self, failures=failures)._shut(now_s, why)

    def heard_garbage(self, now_s: float, line_s: float) -> "LineHealth":
        """Bytes that were no frame, which took `line_s` seconds of the line."""
        if self.is_shut(now_s):
            return self
        forgiven_s = max(now_s - self.heard_at_s, 0) * GARBAGE_FORGIVEN_PER_S
        garbage_s = max(self.garbage_s - forgiven_s, 0) + line_s
        heard = replace(self, garbage_s=garbage_s, heard_at_s=now_s)
        borne_s = GARBAGE_BORNE_S / 4 if self.is_quarantined else GARBAGE_BORNE_S
        if garbage_s <= borne_s:
            return heard
        return heard._shut(now_s, "it chatters: more garbage than frames")

    def worked(self, now_s: float) -> "LineHealth":
        """A frame came that was meant for us."""
        since_s = now_s if self.well_since_s is None else self.well_since_s
        is_forgiven = now_s - since_s >= WELL_AFTER_S
        return LineHealth(
            heard_at_s=now_s, offences=0 if is_forgiven else self.offences, well_since_s=since_s
        )

    def _shut(self, now_s: float, why: str) -> "LineHealth":
        offences = self.offences + 1
        pause_s = backoff_ms(offences, FIRST_PAUSE_MS, LONGEST_PAUSE_MS) / 1000
        return LineHealth(
            failures=self.failures,
            heard_at_s=now_s,
            offences=offences,
            shut_until_s=now_s + pause_s,
            why=why,
        )
