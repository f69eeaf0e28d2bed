"""The cloud's engine without its doors: gateways that say hello, jobs that run, reports."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from cloud.coordinator import access, control, dispatch, gateways, instance, jobs, runs, tasks
from cloud.coordinator.access import Caller
from cloud.coordinator.dispatch import Dispatched
from cloud.coordinator.tasks import Outcome, Received
from cloud.storage import runs as stored_runs
from cloud.storage.database import Database, Session
from cloud.storage.dialect import fetch
from cloud.storage.schema import ArtifactRow
from cloud.storage.views import runs as run_views
from cloud.storage.views import tasks as task_views
from contract.http.fleet import NewGateway
from contract.http.runs import CancelRun, PauseRun, RetryRun, Run, StartRun
from contract.http.tasks import TaskDetail
from contract.ids import DEFAULT_ORG, GatewayId
from contract.job_document import JobDocument
from contract.lifecycle import TaskStatus
from contract.messages import (
    Hello,
    InventoryDevice,
    OfferedTask,
    Report,
    TaskMark,
    TaskSnapshot,
    Welcome,
)
from contract.topics import Address

P = ParamSpec("P")
R = TypeVar("R")
TOKEN = "the administrator's"
VERBS = ["flow.log", "flow.delay", "firmware.upload"]
JOB: dict[str, Any] = {"name": "greet", "steps": [{"uses": "flow.log", "with": {"text": "hello"}}]}
START = 1_700_000_000_000


class World:
    """Time is a number that tests move; nothing happens unless a test says so."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = START
        self.numbers = itertools.count(1)
        self.had_stranded: set[str] = set()
        self.run_now(instance.first_start, self.now, TOKEN)
        self.caller: Caller = self.run_now(access.authenticate, TOKEN, self.now)

    def run_now(
        self, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return self.database.run_now(function, *args, **kwargs)

    def sql(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.database.run_now(fetch, sql, **parameters)]

    # -- gateways

    def address(self, gateway: str) -> Address:
        return Address(DEFAULT_ORG, GatewayId(gateway))

    def create_gateway(self, gateway: str) -> None:
        new = NewGateway(id=gateway)
        self.run_now(gateways.create_gateway, self.caller, new, f"{gateway}'s", self.now)

    def hello(
        self,
        gateway: str,
        devices: Sequence[str | InventoryDevice] = (),
        journal: str = "journal",
        instance_id: str = "process",
        marks: Sequence[TaskMark] = (),
        verbs: Sequence[str] = VERBS,
    ) -> Welcome:
        hello = Hello(
            nonce="nonce",
            page=1,
            pages=1,
            journal=f"{gateway}-{journal}",
            instance=f"{gateway}-{instance_id}",
            verbs=list(verbs),
            devices=[
                d if isinstance(d, InventoryDevice) else InventoryDevice(id=d) for d in devices
            ],
            tasks=list(marks),
        )
        session = f"session-{next(self.numbers)}"
        (welcome,) = self.run_now(
            gateways.accept_hello, self.address(gateway), hello, session, self.now
        )
        return welcome

    def join(self, gateway: str, devices: Sequence[str | InventoryDevice] = ()) -> Welcome:
        self.create_gateway(gateway)
        return self.hello(gateway, devices)

    def hear(self, gateway: str) -> None:
        rows = self.sql("SELECT session FROM gateways WHERE id = :id", id=gateway)
        self.run_now(gateways.heard, {(self.address(gateway), rows[0][0])}, self.now)

    # -- jobs and runs

    def save(self, **changes: Any) -> str:
        document = JobDocument.model_validate({**JOB, **changes})
        return self.run_now(jobs.save_job, self.caller, document, self.now).id

    def start(self, job: str, *, create: bool = True, **start: Any) -> str:
        run = f"run-{next(self.numbers)}"
        self.run_now(runs.start_run, self.caller, job, StartRun(**start), run, self.now)
        while create and self.run_now(runs.create_tasks, run, self.now):
            pass
        return run

    def start_new(self, **changes: Any) -> str:
        return self.start(self.save(**changes))

    def cancel(self, run: str, *, force: bool = False) -> Run:
        cancel = CancelRun(force=force)
        found = self.run_now(runs.cancel_run, self.caller, run, cancel, self.now)
        self.sweep(run)
        return found

    def pause(self, run: str) -> Run:
        found = self.run_now(control.pause_run, self.caller, run, PauseRun(), self.now)
        self.sweep(run)
        return found

    def resume(self, run: str) -> Run:
        return self.run_now(control.resume_run, self.caller, run, self.now)

    def retry(self, run: str, **which: Any) -> Run:
        found = self.run_now(control.retry_run, self.caller, run, RetryRun(**which), self.now)
        self.sweep(run)
        return found

    def start_due(self) -> list[str]:
        """Start what is due, with its tasks; returns those runs."""
        found = self.database.read_now(stored_runs.to_start, self.now)
        started = [run for run in found if self.run_now(control.start_due, run, self.now)]
        for run in started:
            while self.run_now(runs.create_tasks, run, self.now):
                pass
        return started

    def play(self, run: str, status: str = "succeeded", rounds: int = 50, **fields: Any) -> Run:
        """Dispatch, and report everything offered as ended like that, until the run has ended."""
        for _ in range(rounds):
            self.dispatch()
            for gateway, offered in self.send().items():
                for task in offered:
                    self.report(gateway, snapshot(task, status, 100, **fields))
            self.check()
            if self.settle(run).ended_at:
                break
        return self.run(run)

    def sweep(self, run: str) -> None:
        while self.run_now(runs.sweep, run, self.now):
            pass

    def settle(self, run: str) -> Run:
        while self.run_now(runs.settle_run, run, self.now):
            pass
        return self.run(run)

    def run(self, run: str) -> Run:
        return self.database.read_now(run_views.get_run, DEFAULT_ORG, run, self.now)

    def task(self, task: str) -> TaskDetail:
        return self.database.read_now(task_views.get_task, DEFAULT_ORG, task, self.now)

    def dispatch(self) -> Dispatched:
        done = self.run_now(dispatch.offer_due, self.now)
        while done.more:
            again = self.run_now(dispatch.offer_due, self.now)
            done.offered += again.offered
            done.more = again.more
        return done

    def send(self) -> dict[str, list[OfferedTask]]:
        """What each gateway is offered now; marked as sent."""
        offers = self.database.read_now(dispatch.offers_to_send, self.now)
        self.run_now(dispatch.mark_sent, [t for o in offers for t in o.tasks], self.now)
        return {offering.address.gateway: offering.tasks for offering in offers}

    # -- reports

    def report(self, gateway: str, *snapshots: TaskSnapshot, **fields: Any) -> Outcome:
        report = Report(tasks=list(snapshots), **fields)
        (outcome,) = self.report_all([Received(self.address(gateway), report)])
        return outcome

    def report_all(self, batch: Sequence[Received]) -> list[Outcome]:
        return self.run_now(tasks.accept_reports, batch, self.now)

    def artifact(self, name: str, sha256: str = "a" * 64, image: bool = True) -> None:
        row = ArtifactRow(
            org=DEFAULT_ORG,
            name=name,
            sha256=sha256,
            size=1000,
            image_hash="b" * 64 if image else None,
            created_at=self.now,
        )
        self.run_now(lambda session: session.add(row))

    # -- invariants

    def check(self) -> None:
        """Counters equal a recount, and nobody has two open attempts."""
        for run, total in self.sql("SELECT id, total FROM runs"):
            assert self._counted(run) == self._recounted(run), f"counters of {run}"
            assert sum(self._recounted(run)[0].values()) == total
            (flags,) = self.sql("SELECT count(*) FROM tasks WHERE run = :r AND stranded", r=run)
            (sums,) = self.sql(
                "SELECT COALESCE(sum(stranded), 0) FROM run_counts WHERE run = :r", r=run
            )
            assert flags == sums, f"stranded tasks of {run}"
            if flags != (0,):
                self.had_stranded.add(run)
        doubled = self.sql(
            "SELECT device, count(*) FROM tasks WHERE status IN ('offered', 'accepted', 'running') "
            "AND device IS NOT NULL GROUP BY org, device HAVING count(*) > 1"
        )
        assert not doubled, f"devices with two open attempts: {doubled}"
        open_here = "('offered', 'accepted', 'running', 'awaiting')"
        attempts = self.sql(
            f"SELECT run, ordinal, count(*) FROM attempts WHERE status IN {open_here} "
            "AND ended_at IS NULL GROUP BY run, ordinal HAVING count(*) > 1"
        )
        assert not attempts, f"tasks with two open attempts: {attempts}"
        over = self.sql(
            "SELECT r.id FROM runs r JOIN tasks t ON t.run = r.id WHERE t.status IN "
            "('offered', 'accepted', 'running') GROUP BY r.id, r.concurrency "
            "HAVING count(*) > r.concurrency"
        )
        # One whose gateway came back after it had lost its slot runs beside the others.
        over = [row for row in over if row[0] not in self.had_stranded]
        assert not over, f"runs above their concurrency: {over}"

    def _counted(self, run: str) -> tuple[Mapping[str, int], int]:
        names = [status.value for status in TaskStatus]
        sums = ", ".join(f"sum({name})" for name in names)
        (row,) = self.sql(f"SELECT {sums}, sum(progress) FROM run_counts WHERE run = :r", r=run)
        found = {name: int(n) for name, n in zip(names, row, strict=False) if n}
        return found, int(row[-1] or 0)

    def _recounted(self, run: str) -> tuple[Mapping[str, int], int]:
        rows = self.sql(
            "SELECT status, count(*), sum(CASE WHEN status IN ('succeeded', 'failed', 'timed_out', "
            "'cancelled') THEN 10000 ELSE progress END) FROM tasks WHERE run = :r GROUP BY status",
            r=run,
        )
        return {row[0]: row[1] for row in rows}, sum(int(row[2]) for row in rows)


def _device(device: str | InventoryDevice) -> InventoryDevice:
    return device if isinstance(device, InventoryDevice) else InventoryDevice(id=device)


def snapshot(offered: OfferedTask, status: str, revision: int, **fields: Any) -> TaskSnapshot:
    """A report of an offered attempt."""
    return TaskSnapshot(
        task=offered.task,
        attempt=offered.attempt,
        revision=revision,
        status=TaskStatus(status),
        begun=fields.pop("begun", status in ("running", "succeeded", "failed", "timed_out")),
        **fields,
    )
