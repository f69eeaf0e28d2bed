"""How long does a list take on a database with 10,000 runs and 5 million tasks?

Each list as the API answers it, without HTTP: a page of 50, in the middle of it all, and the rare
ones of a filter. The figure is the p99 of two hundred calls in each round. The reference
is the same list on a database with 10 runs of 50 tasks.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.answers import Figure
from benchmarks.fleets import KINDS, NOW, add_fleet, caller_of, fresh_database, numbers, save_job
from cloud.storage.database import Database, Session
from cloud.storage.dialect import change, is_sqlite
from cloud.storage.views import devices, gateways, jobs, runs, tasks
from contract.lifecycle import RunStatus, TaskStatus
from contract.periods import Period
from tests.kit.postgres import PostgresServer

RUNS: Final = 10_000
TASKS_A_RUN: Final = 490
LARGE_RUN: Final = 100_000
CALLS: Final = 200
ROUNDS: Final = 1
ORG: Final = "default"


def ask(rounds: int = ROUNDS) -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder, PostgresServer(durable=True) as postgres:
        for kind in KINDS:
            large = measured(kind, Path(folder) / f"{kind}-large", postgres, RUNS, rounds)
            small = measured(kind, Path(folder) / f"{kind}-small", postgres, 10, rounds)
            figures.extend(
                Figure(f"{what}, {kind}", "ms", found, "small database", small[what])
                for what, found in large.items()
            )
    return figures


def measured(
    kind: str, folder: Path, postgres: PostgresServer, number: int, rounds: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with fresh_database(kind, folder, postgres) as database:
        build(database, number)
        for what, call in lists().items():
            database.read_now(call)
            found[what] = [p99(database, call) for _ in range(rounds)]
    return found


def p99(database: Database, call: Callable[[Session], object]) -> float:
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        database.read_now(call)
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[CALLS * 99 // 100 - 1]


def lists() -> dict[str, Callable[[Session], object]]:
    largest = "run-0"
    late, now = NOW + 5, NOW + RUNS
    return {
        "runs, the newest": lambda s: runs.list_runs(s, ORG, now),
        "runs of a job": lambda s: runs.list_runs(s, ORG, now, job="job"),
        "runs that failed (rare)": lambda s: runs.list_runs(
            s, ORG, now, statuses=[RunStatus.FAILED]
        ),
        "runs of a time": lambda s: runs.list_runs(s, ORG, now, created=Period(NOW, late)),
        "a run": lambda s: runs.get_run(s, ORG, largest, now),
        "jobs": lambda s: jobs.list_jobs(s, ORG, now),
        "tasks of a run": lambda s: tasks.list_tasks(s, ORG, largest, now),
        "tasks that failed (rare)": lambda s: tasks.list_tasks(
            s, ORG, largest, now, statuses=[TaskStatus.FAILED]
        ),
        "tasks that run (none)": lambda s: tasks.list_tasks(
            s, ORG, largest, now, statuses=[TaskStatus.RUNNING]
        ),
        "a task": lambda s: tasks.get_task(s, ORG, f"{largest}-49", now),
        "devices": lambda s: devices.list_devices(s, ORG),
        "gateways": lambda s: gateways.list_gateways(s, ORG, now),
    }


def build(database: Database, number: int) -> None:
    """Runs that have ended, the first of them a large one, all of one job."""
    large = LARGE_RUN if number == RUNS else 50
    each = TASKS_A_RUN if number == RUNS else 50
    database.run_now(add_fleet, 10_000 if number == RUNS else 50, 100)
    save_job(database, caller_of(database))
    database.run_now(_add_runs, number, large, each)
    database.run_now(_add_tasks, 0, 1, large)
    for first in range(1, number, 500):
        database.run_now(_add_tasks, first, min(first + 500, number), each)
    if not database.run_now(is_sqlite):
        database.run_now(change, "ANALYZE")


def _add_runs(session: Session, number: int, large: int, each: int) -> None:
    total = f"CASE WHEN n = 0 THEN {large} ELSE {each} END"
    status = "CASE WHEN n % 1000 = 7 THEN 'failed' ELSE 'succeeded' END"
    names = {
        "id": "'run-' || n", "org": "'default'", "job": "'job'", "name": "'job'", "type": "''",
        "status": status, "total": total, "created_at": f"{NOW} + n", "started_at": f"{NOW} + n",
        "ended_at": f"{NOW} + n", "expires_at": f"{NOW * 2}", "creating": "FALSE",
        "document": "(SELECT document FROM jobs WHERE id = 'job')", "retry": "'{}'",
        "timeout": "60000", "start_by": "900000", "has_errors": "FALSE",
    }  # fmt: skip
    from cloud.storage.schema import RunRow

    table = RunRow.__table__  # type: ignore[attr-defined]
    for column in table.columns:
        if column.name in names or column.nullable:
            continue
        value = column.default.arg if column.default is not None else ""
        names[column.name] = repr(value) if isinstance(value, str) else str(value).upper()
    change(
        session,
        f"INSERT INTO runs ({', '.join(names)}) SELECT {', '.join(names.values())} "
        f"FROM {numbers(session, number)}",
    )
    change(
        session,
        "INSERT INTO run_counts (run, shard, scheduled, offered, accepted, running, awaiting, "
        "rescheduled, succeeded, failed, timed_out, cancelled, progress, stranded) SELECT "
        "id, 0, 0, 0, 0, 0, 0, 0, total, 0, 0, 0, total * 10000, 0 FROM runs",
    )


def _add_tasks(session: Session, first: int, last: int, each: int) -> None:
    """The tasks of runs `first` to `last`, without it; one in 5,000 has failed."""
    status = "CASE WHEN t.n % 5000 = 4999 THEN 'failed' ELSE 'succeeded' END"
    change(
        session,
        "INSERT INTO tasks (run, ordinal, org, device, target, gateway, status, priority, attempt, "
        "tries, attempts, revision, begun, due_at, progress) SELECT 'run-' || (r.n + :first), t.n, "
        f"'default', 'd-' || t.n, 'd-' || t.n, 'gw-' || (t.n % 100), {status}, 1, 1, 1, 3, 5, "
        f"TRUE, 0, 10000 FROM {_as(numbers(session, last - first), 'r')}, "
        f"{_as(numbers(session, each), 't')}",
        first=first,
    )


def _as(subquery: str, name: str) -> str:
    return subquery.removesuffix(" AS s") + f" AS {name}"
