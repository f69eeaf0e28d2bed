"""A story: moves against one world, in any order, with a look at everything after each."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any, Final

from pydantic import JsonValue

from cloud.coordinator import control, deletions, dispatch, holds, runs, stranded
from cloud.coordinator.tasks import Received
from cloud.domain.dispatch import stopped_place
from cloud.errors import Conflict, NotFound
from cloud.storage import gateway_stops, tasks
from cloud.storage.schema import OPEN
from cloud.storage.views import runs as run_views
from cloud.storage.views import tasks as task_views
from contract.http.holds import SetHold
from contract.http.runs import CancelRun, ChangeRun, PauseRun, RetryRun
from contract.ids import DEFAULT_ORG
from contract.lifecycle import TaskStatus
from contract.messages import Report, TaskMark, TaskSnapshot
from tests.integration.storage.wait_facts import (
    check_run,
    check_task,
    is_surely_unknown,
    rows_of,
)
from tests.integration.storage.world import World, snapshot

GATEWAYS: Final = ("berlin", "paris")
DEVICES: Final = {name: [f"{name}-{n}" for n in range(4)] for name in GATEWAYS}
MODES: Final[dict[str, dict[str, Any]]] = {
    "parallel": {},
    "serial": {"mode": "serial"},
    "delayed": {"delay": "20s"},
    "skip": {"offline": "skip"},
    "fail": {"offline": "fail"},
}
EXPECTED: Final = {"run_ended", "run_in_flight", "run_replaced", "run_cancelling",
                   "nothing_to_retry", "job_paused", "retry_going_on"}  # fmt: skip
ENDS: Final = {"succeeded", "failed", "timed_out", "cancelled"}
ATTEMPTS: Final = 3


class Story:
    """Plays moves against one world, and looks at everything after each."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.offers: list[tuple[str, Any]] = []
        self.said: list[tuple[str, TaskSnapshot]] = []
        self.runs: list[str] = []
        self.journals = dict.fromkeys(GATEWAYS, 0)
        self.ended: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.holds: set[tuple[Any, str]] = set()
        self.stopped: set[str] = set()
        self.deleted: set[str] = set()
        # Of each serial run: what a task that comes next is to see, as these rules tell it.
        self.handed_on: dict[str, JsonValue] = {}
        for name in GATEWAYS:
            world.join(name, DEVICES[name])

    def play(self, move: tuple[Any, ...]) -> None:
        getattr(self, move[0])(*move[1:])
        self.world.check()
        self._ended_attempts_stay()
        self._runs_wait_for_something()
        self._tries_are_bounded()

    def start(self, job: int, concurrency: int, mode: str, replace: bool, priority: str) -> None:
        name = f"job-{job}"
        self.world.now += 1
        iteration: dict[str, Any] = {
            "concurrency": concurrency,
            "per_gateway": 2,
            "timeout": "30s",
            "offline_after": "1m",
        }
        iteration |= MODES[mode]
        self.world.save(name=name, iteration=iteration, retry={"attempts": ATTEMPTS})
        try:
            self.runs.append(self.world.start(name, replace=replace, priority=priority))
        except Conflict as conflict:
            assert conflict.code == "job_paused" or conflict.run in self.runs

    def dispatch(self) -> None:
        self.world.start_due()
        self.watch()
        before = self._at_stopped()
        while self._tick():
            pass
        assert self._at_stopped() <= before, "a stopped gateway was offered something"
        # Whatever could start has started: what waits has a reason that somebody can end.
        for run in self._shown_runs():
            self._tasks_wait_for_something(run)

    def _tasks_wait_for_something(self, run: dict[str, Any]) -> None:
        page = self.world.database.read_now(
            task_views.list_tasks, DEFAULT_ORG, run["id"], self.world.now, limit=200
        )
        shown = {task.ordinal: task.waiting_for for task in page.items}
        looked_at: Counter[str] = Counter()
        for task in rows_of(self.world, "tasks", "run = :run", run=run["id"]):
            wait = shown[task["ordinal"]]
            if task["status"] in ENDS or task["status"] == "running":
                assert wait is None, (task, wait)
                continue
            assert wait is not None, task
            assert wait.code != "dispatch", task
            looked_at[wait.code] += 1
            if looked_at[wait.code] <= 2:  # of many that wait alike, two tell enough
                check_task(self.world, run, task, wait.code)

    def _tick(self) -> bool:
        """One round of dispatch; whose turn it is and what is handed on are followed by hand."""
        serial = "serial AND ended_at IS NULL"
        before = {run["id"]: run["turn"] for run in rows_of(self.world, "runs", serial)}
        given = {run: self._given(run, turn) for run, turn in before.items()}
        offered = self.world.dispatch().offered
        for run in rows_of(self.world, "runs", serial):
            name = run["id"]
            if run["turn"] == before[name]:
                continue
            self._hand_on(name, given[name])
            assert json.loads(run["accumulator"]) == self.handed_on.get(name), run
            passed = rows_of(
                self.world,
                "tasks",
                "run = :run AND ordinal < :turn AND status = 'scheduled' AND attempt = 0 "
                "AND parked IS NULL AND due_at <= :now",
                run=name,
                turn=run["turn"],
                now=self.world.now,
            )
            assert not passed, ("others come before it", run, passed)
        return offered > 0

    def _hand_on(self, run: str, value: JsonValue) -> None:
        if value is not None:
            self.handed_on[run] = value

    def _given(self, run: str, turn: int) -> JsonValue:
        """What a task has given that has ended; a timeout gives nothing."""
        where = "run = :run AND ordinal = :turn"
        tasks = rows_of(self.world, "tasks", where, run=run, turn=turn)
        if not tasks or tasks[0]["status"] not in ("succeeded", "failed"):
            return None
        newest = where + " AND attempt = :attempt"
        attempt = tasks[0]["attempt"]
        for row in rows_of(self.world, "attempts", newest, run=run, turn=turn, attempt=attempt):
            value: JsonValue = json.loads(row["snapshot"] or "{}").get("accumulator")
            return value
        return None

    def rest(self) -> None:
        """Everything that is due is done; what then waits is stopped by something."""
        for _ in range(4):
            self.settle()
            self.dispatch()
        for run in self._shown_runs():
            wait = self.world.run(run["id"]).waiting_for
            assert wait is None or wait.code != "dispatch", run

    def _shown_runs(self) -> list[dict[str, Any]]:
        return [run for run in rows_of(self.world, "runs") if run["id"] not in self.deleted]

    def _runs_wait_for_something(self) -> None:
        page = self.world.database.read_now(
            run_views.list_runs, DEFAULT_ORG, self.world.now, limit=200
        )
        listed = {run.id: run for run in page.items}
        for run in self._shown_runs():
            shown = self.world.run(run["id"])
            check_run(self.world, run, shown.waiting_for.code if shown.waiting_for else None)
            unknown = is_surely_unknown(self.world, run)
            assert unknown is None or shown.unknown == unknown, run
            assert listed[run["id"]].unknown == shown.unknown, run
        assert not listed.keys() & self.deleted

    def _tries_are_bounded(self) -> None:
        over = rows_of(self.world, "tasks", "tries > :most", most=ATTEMPTS)
        assert not over, over

    def _on_run(self, which: int, function: Any, *arguments: Any) -> None:
        if self.runs:
            run = self.runs[which % len(self.runs)]
            try:
                caller, now = self.world.caller, self.world.now
                self.world.run_now(lambda s: function(s, caller, run, *arguments, now))
            except Conflict as conflict:
                assert conflict.code in EXPECTED, conflict
            except NotFound:
                assert run in self.deleted
            self.world.sweep(run)

    def _on_job(self, which: int, function: Any, *arguments: Any) -> None:
        if self.runs:
            job = self._row(self.runs[which % len(self.runs)])["job"]
            try:
                caller, now = self.world.caller, self.world.now
                self.world.run_now(lambda s: function(s, caller, job, *arguments, now))
            except NotFound:
                assert not rows_of(self.world, "jobs", "id = :job", job=job)

    def _row(self, run: str) -> dict[str, Any]:
        (row,) = rows_of(self.world, "runs", "id = :run", run=run)
        return row

    def delete(self, which: int) -> None:
        """What is in flight completes, and nobody sees its runs any more."""
        if not self.runs:
            return
        job = self._row(self.runs[which % len(self.runs)])["job"]
        self._on_job(which, deletions.delete_job)
        self.deleted |= {run["id"] for run in rows_of(self.world, "runs", "job = :job", job=job)}
        for run in self.deleted:
            self.world.sweep(run)
            left = rows_of(
                self.world,
                "tasks",
                "run = :run AND status IN ('scheduled', 'rescheduled')",
                run=run,
            )
            assert not left, left

    def pause(self, which: int, job: bool) -> None:
        if not job:
            self._on_run(which, control.pause_run, PauseRun())
        else:
            self._on_job(which, control.pause_job, PauseRun())

    def resume(self, which: int, job: bool) -> None:
        if not job:
            self._on_run(which, control.resume_run)
        else:
            self._on_job(which, control.resume_job)

    def retry(self, which: int) -> None:
        if self.runs:
            run = self._row(self.runs[which % len(self.runs)])
            value = self._given(run["id"], run["turn"])
            self._on_run(which, control.retry_run, RetryRun())
            if self._row(run["id"])["retried"] > run["retried"]:
                self._hand_on(run["id"], value)

    def prioritize(self, which: int, priority: Any) -> None:
        self._on_run(which, control.change_run, ChangeRun(priority=priority))

    def hold(self, what: tuple[Any, str], lasts: bool) -> None:
        if what in self.holds:
            self._lift(what)
            return
        self.holds.add(what)
        wanted = SetHold(lasts=timedelta(days=1) if lasts else None)
        self.world.run_now(holds.set_hold, self.world.caller, *what, wanted, self.world.now)

    def _lift(self, what: tuple[Any, str]) -> None:
        self.holds.discard(what)
        try:
            self.world.run_now(holds.lift_hold, self.world.caller, *what, self.world.now)
        except NotFound:
            assert not rows_of(self.world, "holds", "id = :id", id=what[1])

    def stop(self, name: str) -> None:
        """Ask a gateway to drain, or let one that was asked work again."""
        if name in self.stopped:
            self.stopped.discard(name)
            self.world.run_now(gateway_stops.lift, DEFAULT_ORG, [name])
            self.world.run_now(tasks.unpark, [(DEFAULT_ORG, stopped_place(name))])
        else:
            self.stopped.add(name)
            self.world.run_now(gateway_stops.ask, DEFAULT_ORG, [name], "stop")

    def _at_stopped(self) -> set[tuple[Any, ...]]:
        """What is in flight at gateways that were asked to stop."""
        if not self.stopped:
            return set()
        rows = self.world.sql("SELECT run, ordinal, attempt, gateway FROM tasks WHERE " + OPEN)
        return {row for row in rows if row[3] in self.stopped}

    def quiet(self, hours: int) -> None:
        """Nobody is heard."""
        self.world.now += hours * 3_600_000
        self.watch()

    def silent(self, name: str, time: int) -> None:
        """Only the other gateway is heard for a while."""
        self.world.now += time
        for other in GATEWAYS:
            if other != name:
                self._hear(other)
        self.watch()

    def send(self) -> None:
        for name, offered in self.world.send().items():
            self.offers.extend((name, task) for task in offered)
            for task in offered:
                seen = task.accumulator
                assert seen == self.handed_on.get(task.run), (task, self.handed_on)

    def report(self, which: int, status: str, revision: int) -> None:
        if self.offers:
            name, task = self.offers[which % len(self.offers)]
            gives = f"{task.task} {task.attempt} {revision}" if revision % 2 else None
            said = snapshot(
                task, status, revision, progress=min(revision * 10, 100), accumulator=gives
            )
            self.said.append((name, said))
            self._hear(name)
            self.world.report(name, said)

    def work(self, status: str, revision: int) -> None:
        """A round as it is when nothing is in the way: what is offered ends like this."""
        self.dispatch()
        known = len(self.offers)
        self.send()
        for which in range(known, len(self.offers)):
            self.report(which, status, revision)

    def repeat(self, which: int, number: int) -> None:
        again = self.said[which % (len(self.said) or 1) :][:number]
        batch = [Received(self.world.address(n), Report(tasks=[s])) for n, s in reversed(again)]
        self.world.report_all(batch + batch)

    def hello(self, name: str, wiped: bool) -> None:
        self.journals[name] += wiped
        marks = []
        if not wiped:
            rows = self.world.sql(
                "SELECT run, ordinal, attempt, revision, status FROM tasks WHERE gateway = :g "
                "AND status IN ('accepted', 'running')",
                g=name,
            )
            marks = [
                TaskMark(task=f"{run}-{ordinal}", attempt=attempt, revision=revision, status=status)
                for run, ordinal, attempt, revision, status in rows
            ]
        journal = f"journal-{self.journals[name]}" if self.journals[name] else "journal"
        self.world.hello(name, DEVICES[name], journal=journal, marks=marks)

    def later(self, time: int) -> None:
        self.world.now += time
        for name in GATEWAYS:
            self._hear(name)

    def cancel(self, which: int, force: bool) -> None:
        self._on_run(which, runs.cancel_run, CancelRun(force=force))

    def watch(self) -> None:
        self.world.run_now(holds.lift_expired, self.world.now)
        self.world.run_now(dispatch.wake_parked, self.world.now)
        self.world.run_now(stranded.come_back, self.world.now)
        self.world.run_now(dispatch.time_out, self.world.now)
        self.world.run_now(stranded.strand, self.world.now)

    def obey(self) -> None:
        """Gateways hear their cancels: what has not begun is handed back, or ends cancelled."""
        asked = self.world.database.read_now(dispatch.cancels_to_send, self.world.now)
        for cancelling in asked:
            for item in cancelling.items:
                run, _, ordinal = item.task.rpartition("-")
                ((begun, revision),) = self.world.sql(
                    "SELECT begun, revision FROM tasks WHERE run = :r AND ordinal = :o",
                    r=run,
                    o=int(ordinal),
                )
                if begun and item.mode == "recall":
                    continue
                status = "scheduled" if item.mode == "recall" else "cancelled"
                said = TaskSnapshot(
                    task=item.task,
                    attempt=item.attempt,
                    revision=revision + 1,
                    status=TaskStatus(status),
                )
                self._hear(cancelling.address.gateway)
                self.world.report(cancelling.address.gateway, said)

    def settle(self) -> None:
        for run in self.runs:
            self.world.sweep(run)
            was = self._row(run)
            value = self._given(run, was["turn"])
            while self.world.run_now(runs.settle_run, run, self.world.now):
                pass
            ended = self._row(run)
            if ended["serial"] and ended["ended_at"] and not was["ended_at"]:
                if was["status"] in ("running", "pausing", "paused", "cancelling"):
                    self._hand_on(run, value)
                assert json.loads(ended["accumulator"]) == self.handed_on.get(run), ended
        self.world.start_due()

    def _hear(self, name: str) -> None:
        self.world.hear(name)

    def _ended_attempts_stay(self) -> None:
        rows = self.world.sql(
            "SELECT run, ordinal, attempt, status, revision, failure_code, ended_at, snapshot "
            "FROM attempts WHERE ended_at IS NOT NULL"
        )
        found = {row[:3]: row[3:] for row in rows}
        for name, then in self.ended.items():
            assert found[name] == then, f"ended attempt {name} has changed"
        self.ended = found

    def finish(self) -> None:
        """Every story can be brought to an end: nothing is wedged."""
        for what in sorted(self.holds):
            self._lift(what)
        for name in sorted(self.stopped):
            self.stop(name)
        for which, _ in enumerate(self.runs):
            self.resume(which, job=True)
            self.resume(which, job=False)
        for _ in range(60):
            self.later(70_000)
            for name in GATEWAYS:
                # Frees what an unconfirmed cancel still holds: the gateway no longer lists it.
                self.hello(name, wiped=False)
            self.watch()
            self.dispatch()
            self.send()
            self.obey()
            open_tasks = self.world.sql(
                "SELECT run, ordinal, attempt FROM tasks "
                "WHERE status IN ('offered', 'accepted', 'running')"
            )
            latest = {(task.task, task.attempt): (name, task) for name, task in self.offers}
            for run, ordinal, attempt in open_tasks:
                if (f"{run}-{ordinal}", attempt) in latest:
                    name, task = latest[f"{run}-{ordinal}", attempt]
                    self.world.report(name, snapshot(task, "succeeded", 100))
            self.settle()
            self.world.check()
            if not rows_of(self.world, "runs", "ended_at IS NULL"):
                break
        left = rows_of(self.world, "runs", "ended_at IS NULL")
        assert not left, (left, rows_of(self.world, "tasks"))
        assert not [run for run in rows_of(self.world, "runs") if run["status"] == "cancelling"]
        assert self.world.sql("SELECT held_by FROM devices WHERE held_by IS NOT NULL") == []
