"""A story: which jobs run on which devices, and what goes wrong meanwhile. All from its seed."""

import random
from dataclasses import dataclass
from typing import Any, Final, Literal

from cloud.crash_points import NAMES as CLOUD_PLACES
from gateway.crash_points import NAMES as GATEWAY_PLACES
from tests.kit.rig_jobs import ask, command_job, delay, firmware_job

GATEWAYS: Final = ("north", "south")
METERS: Final = 3  # of each gateway; they speak MQTT
PUMPS: Final = 1  # of each gateway; they speak SMP
LASTS_S: Final = 1.8
# Places that come by seldom, or not in the jobs of a story: targeted tests go there.
_SELDOM: Final = frozenset({"artifacts.before_keep", "artifacts.after_keep"})
_FREQUENT: Final = frozenset(
    {"serial.before_write", "serial.after_write", "gateway_link.before_store",
     "gateway_link.after_store", "journal.before_commit", "journal.after_commit",
     "database.before_commit", "database.after_commit"}
)  # fmt: skip

Kind = Literal[
    "crash_gateway", "crash_cloud", "kill_gateway", "kill_cloud", "kill_broker", "cut",
    "half_open", "mess", "cancel",
]  # fmt: skip
_WEIGHTS: Final[dict[Kind, int]] = {
    "crash_gateway": 14, "crash_cloud": 4, "kill_gateway": 6, "kill_cloud": 2, "kill_broker": 3,
    "cut": 4, "half_open": 4, "mess": 6, "cancel": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong `at_s` after the jobs have started, for `lasts_s`.

    `detail`: the crash rule; how a half-open link ends; how a cancel is meant.
    """

    kind: Kind
    at_s: float
    whom: str = ""
    lasts_s: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        what = " ".join(word for word in (self.kind, self.whom, self.detail) if word)
        return f"{what} at {self.at_s:.2f} s for {self.lasts_s:.2f} s"


@dataclass(frozen=True)
class Story:
    """What is done, as job documents by name, and what goes wrong. `version` is the firmware's."""

    seed: int
    jobs: tuple[dict[str, Any], ...]
    faults: tuple[Fault, ...]
    version: str

    def __str__(self) -> str:
        jobs = [f"  job {job['id']}: {_steps(job)}" for job in self.jobs]
        return "\n".join([f"story {self.seed}", *jobs, *(f"  {fault}" for fault in self.faults)])


def meters(gateway: str) -> list[str]:
    return [f"meter-{gateway}-{number}" for number in range(1, METERS + 1)]


def pumps(gateway: str) -> list[str]:
    return [f"pump-{gateway}-{number}" for number in range(1, PUMPS + 1)]


def make_story(seed: int) -> Story:
    """The story of a seed, always the same."""
    chance = random.Random(f"story/{seed}")
    version = f"{seed % 200 + 2}.{seed // 200 % 200}.0"
    gateways = chance.sample(GATEWAYS, chance.choice((1, 2, 2)))
    jobs = [_commands(seed, gateways, chance)]
    if chance.random() < 0.4:
        jobs.append(_firmware(seed, gateways, version, chance))
    wanted = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=chance.choice((1, 2, 3, 4)))
    faults = sorted((_fault(kind, gateways, chance) for kind in wanted), key=lambda f: f.at_s)
    return Story(seed, tuple(jobs), tuple(faults), version)


def _commands(seed: int, gateways: list[str], chance: random.Random) -> dict[str, Any]:
    """Several steps, most of which may not be done twice: a pulse happens anew each time."""
    steps: list[dict[str, Any]] = []
    for number in range(chance.randint(3, 7)):
        kind = chance.choice(("pulse", "pulse", "pulse", "ask", "delay", "delay", "tag"))
        name = f"s{number}"
        if kind == "pulse":
            step = ask("pulse", name, tag="{{ task.id }}/{{ task.attempt }}/" + name)
        elif kind == "ask":
            step = ask("version", name)
        elif kind == "tag":
            step = {"id": name, "uses": "fleet.tag", "with": {"tags": {"seen": "{{ task.id }}"}}}
        else:
            step = {**delay(f"{chance.randint(20, 500)}ms"), "id": name}
        steps.append(step)
    return command_job(
        f"commands-{seed}",
        steps,
        {"id": {"$in": [device for gateway in gateways for device in meters(gateway)]}},
        attempts=chance.choice((1, 2, 4)),
        concurrency=chance.choice((2, 50)),
        timeout="30s",
    )


def _firmware(
    seed: int, gateways: list[str], version: str, chance: random.Random
) -> dict[str, Any]:
    devices = [device for gateway in gateways for device in pumps(gateway)]
    if chance.random() < 0.3:
        devices += [meters(gateway)[0] for gateway in gateways]
    return firmware_job(
        f"firmware-{seed}",
        version,
        query={"id": {"$in": devices}},
        attempts=chance.choice((2, 4)),
    )


def _fault(kind: Kind, gateways: list[str], chance: random.Random) -> Fault:
    at_s, lasts_s = chance.uniform(0, LASTS_S), chance.uniform(0.05, 1.2)
    gateway = chance.choice(gateways)
    match kind:
        case "crash_gateway":
            return Fault(kind, 0.0, gateway, lasts_s / 3, _rule(GATEWAY_PLACES, chance))
        case "crash_cloud":
            return Fault(kind, 0.0, "cloud", lasts_s / 3, _rule(CLOUD_PLACES, chance))
        case "kill_gateway":
            return Fault(kind, at_s, gateway, lasts_s)
        case "kill_cloud" | "kill_broker":
            return Fault(kind, at_s, kind.removeprefix("kill_"), lasts_s)
        case "cut":
            return Fault(kind, at_s, gateway, lasts_s)
        case "half_open":
            return Fault(kind, at_s, gateway, lasts_s, chance.choice(("restored", "reset")))
        case "mess":
            return Fault(kind, 0.0, gateway, LASTS_S, str(chance.randrange(1000)))
        case "cancel":
            return Fault(kind, at_s, "", 0.0, chance.choice(("soft", "force")))


def _rule(places: Any, chance: random.Random) -> str:
    place = chance.choice(sorted(set(places) - _SELDOM))
    most = 40 if place in _FREQUENT else 9
    return f"{place}:{chance.randint(1, most)}"


def _steps(job: dict[str, Any]) -> str:
    return ", ".join(
        step["with"].get("name", step["uses"]) if "with" in step else step["uses"]
        for step in job["steps"]
    )
