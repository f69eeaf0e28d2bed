"""Whole runs played with the pure rules alone: choose, receive, strand, hand on; time is a number.

Only bookkeeping is done here: whoever holds a slot, a device or the turn is told by the rules.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cloud.domain.dispatch import (
    SILENCE_MS,
    DueTask,
    GatewayFacts,
    Rules,
    Taken,
    Waiter,
    choose,
    in_turn,
    slots,
)
from cloud.domain.serial import Turn, choose_turn, handed_on, is_over
from cloud.domain.tasks import (
    RetryPolicy,
    RunFacts,
    TaskFacts,
    close,
    give_up,
    receive,
    stranding,
)
from cloud.domain.tasks import Taken as Moved
from contract.lifecycle import TASK_ENDS, TASK_OPEN, TaskStatus
from contract.messages import Failure, TaskSnapshot

T = TaskStatus
TICK: Final = 10_000
VERBS: Final = frozenset({"flow.log"})
NEVER: Final = 10**15
DUE: Final = (T.SCHEDULED, T.RESCHEDULED)


@dataclass
class Job:
    """A task as it is played. `outcomes` says how its attempts end, the last one for good."""

    run: str
    ordinal: int
    device: str
    gateway: str
    bus: str
    site: str
    outcomes: Sequence[TaskStatus]
    takes: int
    facts: TaskFacts
    due_at: int = 0
    ends_at: int | None = None
    is_stranded: bool = False
    is_parked: bool = False
    saw: object = None

    @property
    def id(self) -> str:
        return f"{self.run}-{self.ordinal}"


@dataclass
class Play:
    """A run. `log` holds `(time, what, ordinal)` of everything that happened to its tasks."""

    id: str
    tasks: list[Job]
    rules: Rules
    concurrency: int
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    serial: bool = False
    priority: int = 1
    offline: str = "wait"
    offline_after: int = 60_000
    turn: Job | None = None
    turn_since: int = 0
    accumulator: str = "null"
    folded: bool = True
    since: int = 0
    log: list[tuple[int, str, int]] = field(default_factory=list)

    @property
    def facts(self) -> RunFacts:
        return RunFacts(self.retry, timeout=60_000, start_by=900_000, expires_at=NEVER)

    def open(self) -> list[Job]:
        return [task for task in self.tasks if task.facts.status in TASK_OPEN]

    @property
    def is_over(self) -> bool:
        return all(task.facts.status in TASK_ENDS for task in self.tasks)


class Stage:
    """Runs, gateways and devices; `silent` gateways are not heard from the given time on."""

    def __init__(self, runs: Sequence[Play], silent: Mapping[str, int]) -> None:
        self.runs = {run.id: run for run in runs}
        self.silent = silent
        self.now = 0
        self.held: dict[str, Job] = {}

    def gateway(self, name: str) -> GatewayFacts:
        heard = min(self.now, self.silent.get(name, self.now))
        return GatewayFacts(name, "journal", "session", heard, None, VERBS)

    def is_silent(self, name: str) -> bool:
        return self.now >= self.silent.get(name, NEVER)

    def ticks(self, number: int) -> Iterator[None]:
        """Play so many ticks, one a step, until every run is over."""
        for _ in range(number):
            self._gateways_report()
            self._strand()
            self._dispatch()
            yield
            if all(run.is_over for run in self.runs.values()):
                return
            self.now += TICK

    # -- what happens to open tasks

    def _gateways_report(self) -> None:
        for run in self.runs.values():
            for task in run.open():
                if self.is_silent(task.gateway):
                    continue
                task.is_stranded = False
                if task.ends_at is not None and task.ends_at <= self.now:
                    tries = min(task.facts.attempt, len(task.outcomes)) - 1
                    self._report(run, task, task.outcomes[tries])

    def _report(self, run: Play, task: Job, status: TaskStatus) -> None:
        gives = f"{task.id}/{task.facts.attempt}"
        snapshot = TaskSnapshot(
            task=task.id, attempt=task.facts.attempt, revision=9, status=status, begun=True
        )
        sender = task.gateway, "journal"
        moved = receive(task.facts, run.facts, snapshot, sender, None, self.now)
        assert isinstance(moved, Moved)
        self._move(run, task, moved)
        if run.serial and run.turn is task and moved.status in TASK_ENDS and not run.folded:
            value = gives if moved.status in (T.SUCCEEDED, T.FAILED) else None
            run.accumulator = handed_on(run.accumulator, value) or run.accumulator
            run.folded = True

    def _move(self, run: Play, task: Job, moved: Moved) -> None:
        task.facts = replace(
            task.facts,
            status=moved.status,
            revision=moved.revision,
            begun=moved.begun and not moved.closes,
            tries=moved.tries,
        )
        task.due_at, task.ends_at, task.is_stranded = moved.due_at, None, False
        run.log.append((self.now, moved.status.value, task.ordinal))
        if moved.closes and self.held.get(task.device) is task:
            del self.held[task.device]

    def _strand(self) -> None:
        for run in self.runs.values():
            for task in run.tasks:
                heard = self.gateway(task.gateway).last_heard_at or 0
                if task.facts.status in TASK_ENDS or self.now - heard < run.offline_after:
                    continue
                if task.facts.status in TASK_OPEN:
                    self._strand_open(run, task)
                elif task.is_parked and run.offline != "wait":
                    end = T.FAILED if run.offline == "fail" else T.CANCELLED
                    task.facts = replace(task.facts, status=end)
                    run.log.append((self.now, end.value, task.ordinal))

    def _strand_open(self, run: Play, task: Job) -> None:
        end = stranding(task.facts, run.offline, (task.ends_at or 0) + 120_000, self.now)
        if end is None:
            task.is_stranded = True
        elif end is T.FAILED:
            self._move(run, task, give_up(task.facts, run.facts, end, Failure(code="x"), self.now))
        else:
            self._move(run, task, close(task.facts, run.facts, end, None, self.now))

    # -- who starts

    def _dispatch(self) -> None:
        given = Taken()
        waiters = [
            Waiter(run.id, "org", run.priority, run.since, 0)
            for run in self.runs.values()
            if not run.is_over
        ]
        for waiter in in_turn(waiters, self.now):
            run = self.runs[waiter.run]
            for task in run.open():
                for place, _, _ in slots(self._due(task), run.rules):
                    given.in_flight[run.id, place] += 1
            self._dispatch_run(run, given)

    def _dispatch_run(self, run: Play, given: Taken) -> None:
        free = run.concurrency - len([task for task in run.open() if not task.is_stranded])
        due = [t for t in run.tasks if t.facts.status in DUE and t.due_at <= self.now]
        due.sort(key=lambda task: (task.due_at, task.ordinal))
        if free <= 0 or (run.serial and not self._may_look(run, due)):
            return
        rows = [self._due(task) for task in due]
        if run.serial:
            choice = choose_turn(rows, run.rules, run.offline_after, given, self.now, SILENCE_MS)
        else:
            choice = choose(rows, run.rules, free, given, self.now, SILENCE_MS)
        by_ordinal = {task.ordinal: task for task in due}
        for row, _ in choice.park:
            by_ordinal[row.ordinal].is_parked = True
        for row in [*choice.offer, *(row for row, _ in choice.park[-1:])] if run.serial else []:
            if run.turn is not by_ordinal[row.ordinal]:
                run.turn, run.folded = by_ordinal[row.ordinal], False
            run.turn_since = self.now
        for row in choice.offer:
            self._offer(run, by_ordinal[row.ordinal])

    def _may_look(self, run: Play, due: list[Job]) -> bool:
        """Whether somebody may have the turn; the one who has it stands before the others."""
        task = run.turn
        turn = task and Turn(
            task.facts.status, task.is_parked, task.is_stranded, task.due_at, run.turn_since
        )
        if is_over(turn or None, self.now, run.offline_after):
            return True
        if task is None or task.is_parked or task not in due:
            if task is not None and task.is_parked and task in due:
                # Its gateway may be back: that is what wakes it.
                task.is_parked = self.is_silent(task.gateway)
            return task is not None and not task.is_parked and task in due
        due.sort(key=lambda other: other is not task)
        return True

    def _offer(self, run: Play, task: Job) -> None:
        facts = task.facts
        # One that is silent, and not known to be yet, never takes what it is offered.
        begins = not self.is_silent(task.gateway)
        task.facts = replace(
            facts,
            status=T.RUNNING if begins else T.OFFERED,
            attempt=facts.attempt + 1,
            revision=1,
            begun=begins,
            tries=facts.tries + begins,
            gateway=task.gateway,
            journal="journal",
        )
        task.ends_at, task.is_parked = self.now + task.takes, False
        task.saw = json.loads(run.accumulator)
        self.held[task.device] = task
        run.since = self.now
        run.log.append((self.now, "offered", task.ordinal))

    def _due(self, task: Job) -> DueTask:
        holder = self.held.get(task.device)
        return DueTask(
            task.run,
            task.ordinal,
            task.id,
            task.device,
            None if holder is None else holder.id,
            self.gateway(task.gateway),
            org="org",
            bus=task.bus,
            site=task.site,
        )
