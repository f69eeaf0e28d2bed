"""Who may start now, and the one reason why each other one waits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

# Online means: a message of the current session within three heartbeats of 10 s.
SILENCE_MS: Final = 30_000
# Two processes under one name show as hellos in turn; so long after the last of them it is over.
CONFLICT_MS: Final = 90_000
# A run that has waited so long stands one priority higher: low yields, and never starves.
AGES_MS: Final = 600_000


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """A gateway as dispatch sees it."""

    id: str
    journal: str | None
    session: str | None
    last_heard_at: int | None
    conflict_at: int | None
    verbs: frozenset[str]
    is_stopped: bool = False
    is_retired: bool = False

    def is_online(self, now: int, silence: int) -> bool:
        return (
            self.session is not None
            and self.last_heard_at is not None
            and now - self.last_heard_at <= silence
        )

    def in_conflict(self, now: int) -> bool:
        return self.conflict_at is not None and now - self.conflict_at <= CONFLICT_MS


@dataclass(frozen=True, slots=True)
class DueTask:
    """A task that is due, its device and its gateway as they are now.

    `place` is where it waits while its gateway is not known. `bus` and `site` are the device's.
    """

    run: str
    ordinal: int
    id: str
    device: str | None
    held_by: str | None
    gateway: GatewayFacts | None
    place: str | None = None
    org: str = ""
    bus: str = ""
    site: str = ""
    is_retry: bool = False
    is_down: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run allows, and what its org holds: `(kind, id)` each."""

    verbs: frozenset[str]
    per_gateway: int | None
    per_bus: int | None = None
    per_site: int | None = None
    holds: frozenset[tuple[str, str]] = frozenset()
    retry_online: bool = False

    @property
    def has_places(self) -> bool:
        """Whether the slots of its tasks are counted at other places than their gateway."""
        return self.per_bus is not None or self.per_site is not None


@dataclass
class Taken:
    """What this tick has given away already, over all runs; in flight by run and place."""

    devices: set[tuple[str, str]] = field(default_factory=set)
    in_flight: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True, slots=True)
class Choice:
    """Tasks to offer, and tasks to park, each with the place where it waits."""

    offer: Sequence[DueTask]
    park: Sequence[tuple[DueTask, str]]


def hold_place(kind: str, id: str) -> str:
    """Where tasks wait for a hold to be lifted."""
    return f"hold:{kind}/{id}"


def stopped_place(gateway: str) -> str:
    """Where tasks wait for a gateway to be started by a person."""
    return f"stopped:{gateway}"


def slots(task: DueTask, rules: Rules) -> list[tuple[str, int, str]]:
    """The limited places that a task takes a slot of: place, limit, code of the wait."""
    found = []
    if task.gateway is not None and rules.per_gateway is not None:
        found.append((f"slots:{task.gateway.id}", rules.per_gateway, "per_gateway"))
    if task.gateway is not None and rules.per_bus is not None and task.bus:
        found.append((f"bus:{task.gateway.id}/{task.bus}", rules.per_bus, "per_bus"))
    if rules.per_site is not None and task.site:
        found.append((f"site:{task.site}", rules.per_site, "per_site"))
    return found


def _held(task: DueTask, holds: frozenset[tuple[str, str]]) -> str | None:
    if not holds:
        return None
    gateway = task.gateway.id if task.gateway else ""
    for named in (("gateway", gateway), ("device", task.device or ""), ("site", task.site)):
        if named in holds:
            return hold_place(*named)
    return None


def reason(
    task: DueTask, rules: Rules, in_flight: Mapping[tuple[str, str], int], now: int, silence: int
) -> tuple[str, str] | None:
    """Why a due task may not start: the code of its wait and where to park it; None if it may.

    `in_flight` counts the run's open tasks by run and place.
    """
    held = _held(task, rules.holds)
    if held is not None:
        return "hold", held
    gateway = task.gateway
    if gateway is None:
        return "gateway_unknown", task.place or f"device:{task.device}"
    if gateway.is_retired:
        return "gateway_retired", f"gateway:{gateway.id}"
    if gateway.is_stopped:
        return "gateway_stopped", stopped_place(gateway.id)
    if gateway.in_conflict(now):
        return "in_conflict", f"gateway:{gateway.id}"
    if not gateway.is_online(now, silence) or gateway.journal is None:
        return "gateway_offline", f"gateway:{gateway.id}"
    if not rules.verbs <= gateway.verbs:
        return "gateway_too_old", f"gateway:{gateway.id}"
    if rules.retry_online and task.is_retry and task.is_down:
        return "device_down", f"device:{task.device}"
    if task.held_by is not None and task.held_by != task.id:
        return "device_held", f"device:{task.device}"
    for place, limit, code in slots(task, rules):
        if in_flight.get((task.run, place), 0) >= limit:
            return code, place
    return None


def choose(
    due: Iterable[DueTask], rules: Rules, free: int, taken: Taken, now: int, silence: int
) -> Choice:
    """Choose among due tasks of one run, in their order, at most `free`.

    What is chosen is written into `taken`, so that runs of lower priority find it gone.
    """
    offer: list[DueTask] = []
    park: list[tuple[DueTask, str]] = []
    for task in due:
        why = reason(task, rules, taken.in_flight, now, silence)
        if why is None and task.device and (task.org, task.device) in taken.devices:
            why = "device_held", f"device:{task.device}"
        if why is not None:
            park.append((task, why[1]))
            continue
        if len(offer) == free:
            break
        offer.append(task)
        for place, _, _ in slots(task, rules):
            taken.in_flight[task.run, place] += 1
        if task.device is not None:
            taken.devices.add((task.org, task.device))
    return Choice(offer, park)


@dataclass(frozen=True, slots=True)
class Waiter:
    """A live run in the queue for what several want; `since` it was last given something."""

    run: str
    org: str
    priority: int
    since: int
    created_at: int


def in_turn(waiters: Iterable[Waiter], now: int) -> list[Waiter]:
    """The order in which runs are served: orgs take turns, within one the most urgent first.

    Waiting makes urgent, so that nobody starves.
    """
    by_org: defaultdict[str, list[Waiter]] = defaultdict(list)
    for waiter in waiters:
        by_org[waiter.org].append(waiter)
    lines = []
    for _, found in sorted(by_org.items()):
        lines.append(
            sorted(
                found,
                key=lambda w: (
                    -(w.priority + max(now - w.since, 0) // AGES_MS),
                    w.created_at,
                    w.run,
                ),
            )
        )
    longest = max((len(line) for line in lines), default=0)
    return [line[place] for place in range(longest) for line in lines if place < len(line)]
