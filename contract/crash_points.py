"""Where a program may be told to end at once, for tests: the words of `ROUNDSMAN_CRASH_AT`.

`journal.before_commit:3` ends it when it comes there the third time, `...@take_offers:1` when it
is about that, `...:0.02` by chance; several are separated by `;`. Each program ends itself.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

CRASH_AT: Final = "ROUNDSMAN_CRASH_AT"
CRASH_SEED: Final = "ROUNDSMAN_CRASH_SEED"
# A file that gets a line for each place that was come to, and `! place` where the process ended.
CRASH_LOG: Final = "ROUNDSMAN_CRASH_LOG"


@dataclass(frozen=True)
class CrashRule:
    """End at `name`, for anything or only for `about`: at the `nth` time, or by `chance`."""

    name: str
    about: str | None = None
    nth: int | None = None
    chance: float = 0.0


def parse_rules(text: str, known: Collection[str]) -> tuple[CrashRule, ...]:
    """The rules of a text. Raises ValueError for what is none, or names an unknown place."""
    return tuple(_rule(part.strip(), known) for part in text.split(";") if part.strip())


def _rule(text: str, known: Collection[str]) -> CrashRule:
    place, colon, when = text.rpartition(":")
    name, at, about = place.partition("@")
    if not colon or name not in known:
        places = ", ".join(sorted(known))
        raise ValueError(f"`{text}` is not `place:when` or `place@what:when` (places: {places})")
    whom = about if at else None
    try:
        if when.isdecimal() and int(when) > 0:
            return CrashRule(name, whom, nth=int(when))
        chance = float(when)
    except ValueError:
        chance = -1.0
    if not 0 < chance < 1:
        raise ValueError(f"`{text}`: `{when}` is neither a count nor a chance below 1")
    return CrashRule(name, whom, chance=chance)


@dataclass
class CrashPlan:
    """Counts how often each rule was met; the same seed decides alike."""

    rules: tuple[CrashRule, ...]
    seed: str = ""
    _met: dict[CrashRule, int] = field(default_factory=dict)

    def ends_here(self, name: str, about: str) -> bool:
        """Whether the process ends now. To be asked by one thread at a time."""
        ends = False
        for rule in self.rules:
            if rule.name != name or rule.about not in (None, about):
                continue
            count = self._met[rule] = self._met.get(rule, 0) + 1
            ends |= count == rule.nth or (rule.nth is None and self._draw(rule, count))
        return ends

    def _draw(self, rule: CrashRule, count: int) -> bool:
        digest = hashlib.sha256(f"{self.seed}/{rule.name}/{rule.about}/{count}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56 < rule.chance
