"""Plays stories with real processes: a broker, a cloud, two gateways and their devices.

One stage plays story after story; each leaves it healed, and what it lived through is evidence.
"""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from contract.crash_points import CRASH_AT, CRASH_LOG
from contract.lifecycle import RUN_ENDS
from roundsman.errors import Conflict, RoundsmanError
from tests.campaign.evidence import Evidence, Ledger
from tests.campaign.story import GATEWAYS, LASTS_S, Fault, Story, meters, pumps
from tests.kit.messy_link import Mess, MessyLink
from tests.kit.processes import Program, Programs
from tests.kit.rig import BrokerKind, Rig
from tests.kit.rig_site import Site, Uplink, mqtt, smp
from tests.kit.waiting import wait_until
from tests.kit.warm_starts import WarmStarts

KILLED: Final = -9
LOOK_EVERY_S: Final = 0.15
ENDS_WITHIN_S: Final = 100.0
SETTLES_WITHIN_S: Final = 60.0


@dataclass(order=True)
class _Due:
    at: float
    act: Callable[[], None] = field(compare=False)


class Stage:
    """Use as a block. `seed` decides how its devices misbehave."""

    def __init__(
        self,
        folder: Path,
        seed: int = 0,
        broker: BrokerKind = "nats",
        database: str | None = None,
        warm_starts: WarmStarts | None = None,
    ) -> None:
        self.folder = folder
        self.places = folder / "places"
        self.programs = Programs(folder / "logs", warm_starts)
        self.rig = Rig(folder, self.programs, broker, database)
        self.database = database or f"sqlite:///{self.rig.data_dir / 'cloud.db'}"
        self._seed = seed
        self._deaths: Counter[str] = Counter()
        self._strange: list[str] = []
        self._start_at: dict[str, float] = {}
        self._rests: dict[str, float] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.rig.__enter__()
            chance = random.Random(f"stage/{self._seed}")
            for gateway in GATEWAYS:
                # The first of each is slow, so that there is time to fall while it works.
                groups = [
                    mqtt(each, faults=_device_faults(chance), turnaround=f"{120 // number}ms")
                    for number, each in enumerate(meters(gateway), start=1)
                ]
                groups += [smp(each, image_size=4096) for each in pumps(gateway)]
                self.rig.add_gateway(
                    gateway, groups, uplink=MessyLink, seed=self._seed, patience="5s"
                )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.rig.__exit__(None, None, None)
        self.programs.close()

    def forget(self) -> None:
        """Remove what lies on the disk, once it is closed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def places_come_to(self) -> frozenset[str]:
        """The crash points that armed programs of this stage have come to, and where they fell."""
        return frozenset(self.places.read_text().splitlines() if self.places.exists() else ())

    # -- a story

    def play(self, story: Story) -> Evidence:
        """Play it to its end, heal everything, and return what is known of it then.

        Raises WaitedTooLong when a run does not end, or what has ended is not told.
        """
        self._deaths.clear()
        self._strange.clear()
        self._rests.clear()
        before = {site.name: len(site.devices.experiences()) for site in self._sites}
        if any(job["type"] == "firmware" for job in story.jobs):
            self.rig.push_image(story.version, 4096)
        self._arm(story)
        runs = [self._start_run(job) for job in story.jobs]
        self._go_wrong(story, runs)
        self._heal()
        wait_until(
            _now_and_then(lambda: self._has_ended(runs)),
            ENDS_WITHIN_S,
            lambda: "\n".join(["the runs to end", *map(self.rig.describe, runs)]),
        )
        ledger = Ledger(self.database, {s.name: s.data_dir for s in self._sites})
        try:
            wait_until(
                _now_and_then(lambda: not self._unsettled(ledger, runs)),
                SETTLES_WITHIN_S,
                lambda: f"all to be told and freed: {ledger.unsettled(runs)}",
            )
            books = ledger.read(runs)
        finally:
            ledger.close()
        links = [_link(site) for site in self._sites]
        evidence = Evidence(
            story=story,
            books=books,
            experiences=[
                each for site in self._sites
                for each in site.devices.experiences()[before[site.name] :]
            ],
            truths={k: v for site in self._sites for k, v in site.devices.status().items()},
            receipts=[item for link in links for item in link.receipts],
            deaths=Counter(self._deaths),
            strange=list(self._strange),
            late=sum(link.late for link in links),
            doubled=sum(link.doubled for link in links),
        )  # fmt: skip
        for link in links:
            link.late = link.doubled = 0
            link.receipts.clear()
        return evidence

    @property
    def _sites(self) -> list[Site]:
        return list(self.rig.sites.values())

    def _program(self, name: str) -> Program:
        if name == "cloud":
            return self.rig.cloud
        if name == "broker":
            assert self.rig.broker is not None
            return self.rig.broker.program
        return self.rig.sites[name].program

    def _arm(self, story: Story) -> None:
        """Start anew, armed, what falls at a crash point in this story."""
        rules: dict[str, list[str]] = {}
        for fault in story.faults:
            if fault.kind.startswith("crash_"):
                rules.setdefault(fault.whom, []).append(fault.detail)
                self._rests[fault.whom] = fault.lasts_s
        for name, words in rules.items():
            program = self._program(name)
            program.env = {CRASH_AT: ";".join(words), CRASH_LOG: str(self.places)}
            program.kill_9()
            self._start(name)
            program.env = {}
        if rules:
            wait_until(_now_and_then(self._is_up), SETTLES_WITHIN_S, "the cloud to answer")

    def _is_up(self) -> bool:
        self._raise_the_fallen()
        with suppress(RoundsmanError):
            self.rig.client.gateways.get(GATEWAYS[0])
            return True
        return False

    def _start_run(self, job: dict[str, Any]) -> str:
        """Start a run of a new job, though the cloud may fall between its commit and its answer."""

        def started() -> str | None:
            self._raise_the_fallen()
            with suppress(RoundsmanError):
                with suppress(Conflict):
                    self.rig.client.jobs.create(json.dumps(job))
                for run in self.rig.client.runs.list(job=job["id"]):
                    return run.id
                return self.rig.client.jobs.run(job["id"]).id
            return None

        run = wait_until(started, SETTLES_WITHIN_S, "a run to start")
        assert run is not None
        return run

    def _go_wrong(self, story: Story, runs: list[str]) -> None:
        """The faults of the story, each when it is due."""
        began = time.monotonic()
        agenda = [due for fault in story.faults for due in self._plan(fault, began, runs)]
        agenda.append(_Due(began + min(LASTS_S, 0.5 + len(story.faults)), lambda: None))
        agenda.sort()

        def is_over() -> bool:
            while agenda and agenda[0].at <= time.monotonic():
                agenda.pop(0).act()
            self._raise_the_fallen()
            return not agenda

        wait_until(is_over, SETTLES_WITHIN_S, "the story to be over")

    def _plan(self, fault: Fault, began: float, runs: list[str]) -> list[_Due]:
        starts, ends = began + fault.at_s, began + fault.at_s + fault.lasts_s
        match fault.kind:
            case "kill_gateway" | "kill_cloud" | "kill_broker":
                return [_Due(starts, lambda: self._kill(fault.whom, fault.lasts_s))]
            case "cut":
                link = self._uplink(fault.whom)
                return [_Due(starts, link.cut), _Due(ends, link.restore)]
            case "half_open":
                mqtt_link = _link(self.rig.sites[fault.whom])
                end = [_Due(ends, mqtt_link.restore)]
                if fault.detail == "reset":
                    end = [_Due(ends, mqtt_link.cut), _Due(ends + 0.05, mqtt_link.restore)]
                return [_Due(starts, mqtt_link.blackhole), *end]
            case "mess":
                mqtt_link = _link(self.rig.sites[fault.whom])
                mess = Mess(late=0.3, doubled=0.3, seed=int(fault.detail))
                return [_Due(starts, lambda: mqtt_link.mess(mess))]
            case "cancel":
                return [_Due(starts, lambda: self._cancel(runs[0], fault.detail == "force"))]
            case "crash_gateway" | "crash_cloud":
                return []

    def _uplink(self, gateway: str) -> Uplink:
        uplink = self.rig.sites[gateway].uplink
        assert uplink is not None
        return uplink

    def _cancel(self, run: str, force: bool) -> None:
        with suppress(RoundsmanError):  # the cloud may be down: then nobody cancels
            self.rig.client.runs.cancel(run, reason="the story says so", force=force)

    def _kill(self, name: str, rests_s: float) -> None:
        program = self._program(name)
        if program.is_running:
            program.kill_9()
            self._deaths[name] += 1
            self._start_at[name] = time.monotonic() + rests_s

    def _start(self, name: str) -> None:
        if name == "cloud":
            self.rig.cloud.start()  # not waited for: the broker may be down, or it falls again
        elif name == "broker":
            assert self.rig.broker is not None
            self.rig.broker.start()
        else:
            self.rig.sites[name].start()

    def _raise_the_fallen(self) -> None:
        """Whoever has fallen at a crash point rests as long as the story says, and starts anew."""
        now = time.monotonic()
        for name in (*GATEWAYS, "cloud", "broker"):
            program = self._program(name)
            if program.is_running:
                continue
            if name not in self._start_at:
                if program.returncode != KILLED:
                    self._strange.append(f"{name} ended: {program.returncode}\n{program.tail(30)}")
                self._deaths[name] += 1
                self._start_at[name] = now + self._rests.get(name, 0.0)
            if now >= self._start_at[name]:
                del self._start_at[name]
                self._start(name)

    def _heal(self) -> None:
        for site in self._sites:
            self._uplink(site.name).restore()
            _link(site).mess(Mess())
        self._start_at = dict.fromkeys(self._start_at, 0.0)
        self._raise_the_fallen()

    def _has_ended(self, runs: list[str]) -> bool:
        self._raise_the_fallen()
        with suppress(RoundsmanError):
            return all(self.rig.client.runs.get(run).status in RUN_ENDS for run in runs)
        return False

    def _unsettled(self, ledger: Ledger, runs: list[str]) -> list[str]:
        self._raise_the_fallen()
        return ledger.unsettled(runs)


def _now_and_then(look: Callable[[], bool]) -> Callable[[], bool]:
    """To look costs those who are looked at: not more often than `LOOK_EVERY_S`."""
    last = 0.0

    def looked() -> bool:
        nonlocal last
        if time.monotonic() - last < LOOK_EVERY_S:
            return False
        found = look()
        last = time.monotonic()
        return found

    return looked


def _link(site: Site) -> MessyLink:
    assert site.uplink is not None and isinstance(site.uplink.mqtt, MessyLink)
    return site.uplink.mqtt


def _device_faults(chance: random.Random) -> dict[str, Any]:
    """Devices that answer twice, late, or go away for a moment: never twice alike."""
    return {
        "doubled_replies": 0.1,
        "late_replies": 0.1,
        "late_by": "300ms",
        "disconnect_after_requests": sorted(chance.sample(range(5, 200), 6)),
        "disconnect_for": "400ms",
    }
