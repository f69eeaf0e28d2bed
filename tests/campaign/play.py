"""Plays many stories, several stages at a time, and makes a failed one as small as it can."""

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final

from tests.campaign.oracle import judge
from tests.campaign.stage import Stage
from tests.campaign.story import Story, make_story
from tests.kit.rig import BrokerKind
from tests.kit.warm_starts import WarmStarts

STORIES_A_STAGE: Final = 20
SHRINKING_RUNS: Final = 10
# Faults are where a clock says, not where a program is: a story that failed once may pass.
TRIES_TO_FAIL: Final = 2

MakeDatabase = Callable[[], str]


@dataclass(frozen=True)
class Played:
    """What came of one story. `problems` are empty when all promises were kept."""

    story: Story
    problems: tuple[str, ...]
    took_s: float
    folder: Path
    statuses: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    late: int = 0
    doubled: int = 0
    places: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Setting:
    """Where stories are played. Every fourth stage has a database made by `make_database`."""

    folder: Path
    make_database: MakeDatabase | None = None
    warm_starts: WarmStarts | None = None

    def stage(self, number: int, name: str = "") -> Stage:
        brokers: tuple[BrokerKind, ...] = ("nats", "mosquitto")
        database = None
        if self.make_database is not None and number % 4 == 3:
            database = self.make_database()
        folder = self.folder / (name or f"stage-{number}")
        return Stage(folder, number, brokers[number % 2], database, self.warm_starts)


def play_one(stage: Stage, story: Story) -> Played:
    """Play and judge; whatever goes wrong is a problem of the story."""
    began = monotonic()
    try:
        evidence = stage.play(story)
    except Exception as error:  # noqa: BLE001 (told, with the seed that shows it again)
        lines = traceback.format_exception(error)
        return Played(story, ("".join(lines),), monotonic() - began, stage.folder)
    return Played(
        story,
        tuple(judge(evidence)),
        monotonic() - began,
        stage.folder,
        Counter(task["status"] for task in evidence.books.tasks),
        evidence.deaths,
        evidence.late,
        evidence.doubled,
        stage.places_come_to(),
    )


def play_all(
    seeds: Iterable[int],
    setting: Setting,
    workers: int,
    on_played: Callable[[Played], None],
    a_stage: int = STORIES_A_STAGE,
) -> list[Played]:
    """Play the stories of all seeds; a stage ends after `a_stage` of them, or with a failure."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    played: list[Played] = []
    lock = threading.Lock()
    numbers = iter(range(1_000_000))

    def work() -> None:
        while not waiting.empty():
            with lock:
                number = next(numbers)
            stage = setting.stage(number)
            failed = False
            with stage:
                for _ in range(a_stage):
                    try:
                        seed = waiting.get_nowait()
                    except Empty:
                        break
                    one = play_one(stage, make_story(seed))
                    with lock:
                        played.append(one)
                        on_played(one)
                    failed = bool(one.problems)
                    if failed:
                        break
            if not failed:
                stage.forget()

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
    return sorted(played, key=lambda one: one.story.seed)


def shrink(failed: Played, setting: Setting) -> Played:
    """Leave out jobs and faults one by one, as long as it still fails, within bounded runs."""
    whole = make_story(failed.story.seed)
    smallest, kept = failed, set(range(len(whole.jobs) + len(whole.faults)))
    runs_left = SHRINKING_RUNS
    # Never the first job: without it there is nothing to go wrong.
    for part in range(len(whole.jobs) + len(whole.faults) - 1, 0, -1):
        for _ in range(TRIES_TO_FAIL):
            if not runs_left:
                return smallest
            runs_left -= 1
            with setting.stage(0, f"shrink-{whole.seed}-{runs_left}") as stage:
                found = play_one(stage, part_of(whole.seed, kept - {part}))
            if found.problems:
                smallest, kept = found, kept - {part}
                break
            stage.forget()
    return smallest


def part_of(seed: int, kept: set[int]) -> Story:
    """The story of a seed with only those of its jobs and faults, numbered through."""
    whole = make_story(seed)
    jobs = [job for number, job in enumerate(whole.jobs) if number in kept]
    first = len(whole.jobs)
    faults = [fault for number, fault in enumerate(whole.faults, start=first) if number in kept]
    return replace(whole, jobs=tuple(jobs), faults=tuple(faults))
