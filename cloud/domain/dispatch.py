"""Who may start now, and the one reason why each other one waits."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

# Online means: a message of the current session within three heartbeats of 10 s.
SILENCE_MS: Final = 30_000
# Two processes under one name show as hellos in turn; so long after the last of them it is over.
CONFLICT_MS: Final = 90_000


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """A gateway as dispatch sees it."""

    id: str
    journal: str | None
    session: str | None
    last_heard_at: int | None
    conflict_at: int | None
    verbs: frozenset[str]

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

    `place` is where it waits while its gateway is not known.
    """

    run: str
    ordinal: int
    id: str
    device: str | None
    held_by: str | None
    gateway: GatewayFacts | None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run allows."""

    verbs: frozenset[str]
    per_gateway: int | None


@dataclass
class Taken:
    """What this tick has given away already, over all runs."""

    devices: set[str] = field(default_factory=set)
    in_flight: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True, slots=True)
class Choice:
    """Tasks to offer, and tasks to park, each with the place where it waits."""

    offer: Sequence[DueTask]
    park: Sequence[tuple[DueTask, str]]


def reason(
    task: DueTask, rules: Rules, in_flight: int, now: int, silence: int
) -> tuple[str, str] | None:
    """Why a due task may not start: the code of its wait and where to park it; None if it may.

    `in_flight` counts the run's open tasks on the task's gateway.
    """
    gateway = task.gateway
    if gateway is None:
        return "gateway_unknown", task.place or f"device:{task.device}"
    if gateway.in_conflict(now):
        return "in_conflict", f"gateway:{gateway.id}"
    if not gateway.is_online(now, silence) or gateway.journal is None:
        return "gateway_offline", f"gateway:{gateway.id}"
    if not rules.verbs <= gateway.verbs:
        return "gateway_too_old", f"gateway:{gateway.id}"
    if task.held_by is not None and task.held_by != task.id:
        return "device_held", f"device:{task.device}"
    if rules.per_gateway is not None and in_flight >= rules.per_gateway:
        return "per_gateway", f"slots:{gateway.id}"
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
        gateway = task.gateway.id if task.gateway else ""
        why = reason(task, rules, taken.in_flight[task.run, gateway], now, silence)
        if why is None and task.device in taken.devices:
            why = "device_held", f"device:{task.device}"
        if why is not None:
            park.append((task, why[1]))
            continue
        if len(offer) == free:
            break
        offer.append(task)
        taken.in_flight[task.run, gateway] += 1
        if task.device is not None:
            taken.devices.add(task.device)
    return Choice(offer, park)
