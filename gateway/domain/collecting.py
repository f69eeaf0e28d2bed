"""When a device is asked for its state, and which of what it says is worth keeping.

Pure: times are milliseconds of a clock that only grows. A lane is what shares a line: one of its
items is asked at a time, the one that was asked longest ago among those that are due.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue

from gateway.domain.backoff import backoff_ms

FIRST_PAUSE_MS: Final = 5_000
LONGEST_PAUSE_MS: Final = 600_000
# Items begin one after the other, so that a thousand devices are not asked at once.
SPREAD_MS: Final = 20
# To a task on the same line an item gives way for so long; then it takes its turn like others.
GIVES_WAY_MS: Final = 2_000
# A device that says ever new words must not fill our memory.
MAX_KEYS: Final = 500


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to ask a device, every so often. `asked_at` is None before the first time."""

    device: str
    every_ms: int
    due_at: int
    asked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Away:
    """A device that did not answer: so often in a row, and not asked again before `until`."""

    times: int
    until: int


@dataclass(frozen=True, slots=True)
class Lane:
    """What shares a line, by its number in the lane."""

    items: tuple[Item, ...]
    away: Mapping[str, Away] = field(default_factory=dict)

    def next_at(self) -> int:
        """When the first item may be asked."""
        return min(self._due(item) for item in self.items)

    def choose(self, now: int, is_free: Callable[[str], bool]) -> int | None:
        """The item to ask now, of a device that no task is at work on; None: there is none."""
        due = [
            number
            for number, item in enumerate(self.items)
            if self._due(item) <= now and is_free(item.device)
        ]
        if not due:
            return None
        never = -1
        return min(due, key=lambda n: (self._asked_at(n, never), self.items[n].due_at))

    def asked(self, number: int, now: int, *, answered: bool) -> "Lane":
        """The lane after one was asked. What was missed is not made up for.

        A silent device is asked ever more seldom, and never sooner than its item says.
        """
        item = self.items[number]
        missed = max(now - item.due_at, 0) // item.every_ms
        asked = replace(item, due_at=item.due_at + (missed + 1) * item.every_ms, asked_at=now)
        items = (*self.items[:number], asked, *self.items[number + 1 :])
        away = {name: each for name, each in self.away.items() if name != item.device}
        if not answered:
            before = self.away.get(item.device)
            times = 1 if before is None else before.times + 1
            away[item.device] = Away(
                times, now + backoff_ms(times, FIRST_PAUSE_MS, LONGEST_PAUSE_MS)
            )
        return Lane(items, away)

    def _due(self, item: Item) -> int:
        away = self.away.get(item.device)
        return item.due_at if away is None else max(item.due_at, away.until)

    def _asked_at(self, number: int, never: int) -> int:
        asked = self.items[number].asked_at
        return never if asked is None else asked


def lane(asks: Iterable[tuple[str, int]], now: int) -> Lane:
    """A lane of (device, every so many ms), the first of them due at once."""
    return Lane(
        tuple(
            Item(device, every, now + (place * SPREAD_MS) % every)
            for place, (device, every) in enumerate(asks)
        )
    )


@dataclass(frozen=True, slots=True)
class Worth:
    """Which values are kept: those that changed by more than `deadband`, and those that are old.

    `deadbands` are those of single keys. `at_least_ms` without a change a value is kept again.
    """

    deadband: float = 0.0
    deadbands: Mapping[str, float] = field(default_factory=dict)
    at_least_ms: int = 3_600_000

    def band(self, key: str) -> float:
        return self.deadbands.get(key, self.deadband)


@dataclass(frozen=True, slots=True)
class Kept:
    value: JsonValue
    at: int


def worth_keeping(
    worth: Worth, last: Mapping[str, Kept], values: Mapping[str, JsonValue], now: int
) -> dict[str, Kept]:
    """Of the values those that are to be kept, given what was kept last."""
    found: dict[str, Kept] = {}
    for key, value in values.items():
        before = last.get(key)
        if before is None:
            if len(last) + len(found) < MAX_KEYS:
                found[key] = Kept(value, now)
        elif now - before.at >= worth.at_least_ms or _differs(before.value, value, worth.band(key)):
            found[key] = Kept(value, now)
    return found


def _differs(before: JsonValue, now: JsonValue, band: float) -> bool:
    if _is_number(before) and _is_number(now):
        assert isinstance(before, int | float) and isinstance(now, int | float)
        return abs(now - before) > band
    # In Python True is 1; to a device they are not the same.
    return before != now or isinstance(before, bool) != isinstance(now, bool)


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def named(result: JsonValue, name: str | None, otherwise: str) -> dict[str, JsonValue]:
    """A result as values by name: under `name`, else its own keys, else under `otherwise`."""
    if name is not None:
        return {name: result}
    return dict(result) if isinstance(result, dict) else {otherwise: result}
