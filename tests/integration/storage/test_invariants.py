"""Whatever happens, in whatever order: counters are true, nobody has two attempts, ends stay."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.coordinator import control, dispatch, holds, stranded
from cloud.coordinator.tasks import Received
from cloud.errors import Conflict
from cloud.storage.database import open_database
from contract.http.holds import SetHold
from contract.http.runs import ChangeRun, PauseRun, RetryRun
from contract.lifecycle import RunStatus, TaskStatus
from contract.messages import Report, TaskMark, TaskSnapshot
from tests.integration.storage.world import World, snapshot

GATEWAYS = ("berlin", "paris")
DEVICES = {name: [f"{name}-{n}" for n in range(4)] for name in GATEWAYS}
MOVES = st.one_of(
    st.tuples(
        st.just("start"),
        st.integers(0, 2),
        st.integers(1, 4),
        st.sampled_from(["parallel", "serial", "delayed", "skip", "fail"]),
        st.booleans(),
        st.sampled_from(["low", "normal", "high"]),
    ),
    st.tuples(st.just("pause"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("resume"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("retry"), st.integers(0, 10)),
    st.tuples(st.just("prioritize"), st.integers(0, 10), st.sampled_from(["low", "high"])),
    st.tuples(
        st.just("hold"),
        st.sampled_from([("gateway", "berlin"), ("device", "paris-1"), ("org", "all")]),
        st.booleans(),
    ),
    st.tuples(st.just("silent"), st.sampled_from(GATEWAYS), st.integers(30_000, 600_000)),
    st.tuples(st.just("dispatch")),
    st.tuples(st.just("send")),
    st.tuples(
        st.just("report"),
        st.integers(0, 50),
        st.sampled_from(["accepted", "running", "succeeded", "failed", "timed_out", "scheduled"]),
        st.integers(1, 6),
    ),
    st.tuples(st.just("repeat"), st.integers(0, 50), st.integers(1, 5)),
    st.tuples(st.just("hello"), st.sampled_from(GATEWAYS), st.booleans()),
    st.tuples(st.just("later"), st.sampled_from([500, 20_000, 70_000, 400_000])),
    st.tuples(st.just("cancel"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("watch")),
    st.tuples(st.just("settle")),
    st.tuples(st.just("obey")),
)

MODES: dict[str, dict[str, Any]] = {
    "parallel": {},
    "serial": {"mode": "serial"},
    "delayed": {"delay": "20s"},
    "skip": {"offline": "skip"},
    "fail": {"offline": "fail"},
}
EXPECTED = {"run_ended", "run_in_flight", "run_replaced", "run_cancelling", "nothing_to_retry",
            "job_paused", "retry_going_on"}  # fmt: skip


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
        for name in GATEWAYS:
            world.join(name, DEVICES[name])

    def play(self, move: tuple[Any, ...]) -> None:
        getattr(self, move[0])(*move[1:])
        self.world.check()
        self._ended_attempts_stay()

    def start(self, job: int, concurrency: int, mode: str, replace: bool, priority: str) -> None:
        name = f"job-{job}"
        iteration: dict[str, Any] = {
            "concurrency": concurrency,
            "per_gateway": 2,
            "timeout": "30s",
            "offline_after": "1m",
        }
        iteration |= MODES[mode]
        self.world.save(name=name, iteration=iteration)
        try:
            self.runs.append(self.world.start(name, replace=replace, priority=priority))
        except Conflict as conflict:
            assert conflict.code == "job_paused" or conflict.run in self.runs

    def dispatch(self) -> None:
        self.world.start_due()
        self.watch()
        while self.world.dispatch().offered:
            pass
        # Whatever could start has started: what waits has a reason that somebody can end.
        for run, ordinal in self.world.sql(
            "SELECT run, ordinal FROM tasks WHERE status IN ('scheduled', 'rescheduled')"
        ):
            wait = self.world.task(f"{run}-{ordinal}").waiting_for
            assert wait is not None
            assert wait.code != "dispatch", (run, ordinal, self.world.sql("SELECT * FROM tasks"))

    def _on_run(self, which: int, function: Any, *arguments: Any) -> None:
        if self.runs:
            run = self.runs[which % len(self.runs)]
            try:
                caller, now = self.world.caller, self.world.now
                self.world.run_now(lambda s: function(s, caller, run, *arguments, now))
            except Conflict as conflict:
                assert conflict.code in EXPECTED, conflict
            self.world.sweep(run)

    def pause(self, which: int, job: bool) -> None:
        if not job:
            self._on_run(which, control.pause_run, PauseRun())
        elif self.runs:
            name = self.world.run(self.runs[which % len(self.runs)]).job
            self.world.run_now(
                control.pause_job, self.world.caller, name, PauseRun(), self.world.now
            )

    def resume(self, which: int, job: bool) -> None:
        if not job:
            self._on_run(which, control.resume_run)
        elif self.runs:
            name = self.world.run(self.runs[which % len(self.runs)]).job
            self.world.run_now(control.resume_job, self.world.caller, name, self.world.now)

    def retry(self, which: int) -> None:
        self._on_run(which, control.retry_run, RetryRun())

    def prioritize(self, which: int, priority: Any) -> None:
        self._on_run(which, control.change_run, ChangeRun(priority=priority))

    def hold(self, what: tuple[Any, str], lasts: bool) -> None:
        if what in self.holds:
            self.holds.discard(what)
            self.world.run_now(holds.lift_hold, self.world.caller, *what, self.world.now)
            return
        self.holds.add(what)
        wanted = SetHold(lasts=timedelta(days=1) if lasts else None)
        self.world.run_now(holds.set_hold, self.world.caller, *what, wanted, self.world.now)

    def silent(self, name: str, time: int) -> None:
        """Only the other gateway is heard for a while."""
        self.world.now += time
        for other in GATEWAYS:
            if other != name:
                self._hear(other)
        self.watch()

    def send(self) -> None:
        for name, tasks in self.world.send().items():
            self.offers.extend((name, task) for task in tasks)

    def report(self, which: int, status: str, revision: int) -> None:
        if self.offers:
            name, task = self.offers[which % len(self.offers)]
            said = snapshot(task, status, revision, progress=min(revision * 10, 100))
            self.said.append((name, said))
            self._hear(name)
            self.world.report(name, said)

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
        if self.runs:
            try:
                self.world.cancel(self.runs[which % len(self.runs)], force=force)
            except Conflict as conflict:
                assert conflict.code == "run_ended"

    def watch(self) -> None:
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
            self.world.settle(run)
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
            self.world.run_now(holds.lift_hold, self.world.caller, *what, self.world.now)
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
            if all(self.world.run(run).ended_at for run in self.runs):
                break
        for run in self.runs:
            shown = self.world.run(run)
            assert shown.ended_at, (shown, self.world.sql("SELECT * FROM tasks"))
            assert shown.status is not RunStatus.CANCELLING
        assert self.world.sql("SELECT held_by FROM devices WHERE held_by IS NOT NULL") == []


def play(url: str, moves: list[tuple[Any, ...]]) -> None:
    database = open_database(url)
    try:
        database.prepare_now()
        story = Story(World(database))
        for move in moves:
            story.play(move)
        story.finish()
    finally:
        database.close()


STORIES = st.lists(MOVES, min_size=5, max_size=30)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=30, suppress_health_check=QUIET)
@given(moves=STORIES)
def test_invariants_hold_on_sqlite(tmp_path_factory: pytest.TempPathFactory, moves: Any):
    play(f"sqlite:///{tmp_path_factory.mktemp('story') / 'cloud.db'}", moves)


@settings(max_examples=8, suppress_health_check=QUIET)
@given(moves=STORIES)
def test_invariants_hold_on_postgresql(postgres: Any, moves: Any):
    url = postgres.create_database()
    try:
        play(url, moves)
    finally:
        postgres.drop_database(url)
