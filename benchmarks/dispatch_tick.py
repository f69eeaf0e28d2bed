"""What does a tick of dispatch cost in a run of 1,000,000 tasks, against one of 1,000?

A tick offers 200 tasks of one run to 100 gateways. The reference is the same tick in the small run.
Beside it: how long until 10,000 tasks of one run are in flight at once.
"""

import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.answers import Figure
from benchmarks.fleets import KINDS, NOW, add_fleet, caller_of, fresh_database, save_job
from cloud.coordinator import dispatch, runs
from cloud.storage.database import Database, Session
from cloud.storage.dialect import change
from contract.http.runs import StartRun
from tests.kit.postgres import PostgresServer

SMALL: Final = 1_000
LARGE: Final = 1_000_000
OFFERED: Final = 200
GATEWAYS: Final = 100
TICKS: Final = 20
WIDE: Final = 10_000
ROUNDS: Final = 1


def ask(rounds: int = ROUNDS) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder, PostgresServer(durable=True) as postgres:
        for kind in KINDS:
            found: dict[int, list[float]] = {SMALL: [], LARGE: []}
            for number in range(rounds):
                for size in (SMALL, LARGE):
                    place = Path(folder) / f"{kind}-{number}-{size}"
                    with fresh_database(kind, place, postgres) as database:
                        found[size].extend(ticks(database, size))
            figures.append(
                Figure(
                    f"a tick that offers {OFFERED} of {LARGE:,}, {kind}", "ms", found[LARGE],
                    f"of {SMALL:,}", found[SMALL],
                )
            )  # fmt: skip
            with fresh_database(kind, Path(folder) / f"{kind}-wide", postgres) as database:
                figures.append(Figure(f"{WIDE:,} in flight, {kind}", "s", [wide(database)]))
    return figures


def wide(database: Database) -> float:
    """Seconds until a run with a concurrency of 10,000 has as many tasks offered."""
    database.run_now(add_fleet, WIDE, GATEWAYS)
    job = save_job(database, caller_of(database), iteration={"concurrency": WIDE})
    database.run_now(runs.start_run, caller_of(database), job, StartRun(), "run-1", NOW)
    while database.run_now(runs.create_tasks, "run-1", NOW, 5_000):
        pass
    began, offered = time.perf_counter(), 0
    while offered < WIDE:
        offered += database.run_now(dispatch.offer_due, NOW).offered
    return time.perf_counter() - began


def ticks(database: Database, size: int) -> list[float]:
    """Milliseconds of each tick; what it offered is taken back untimed."""
    database.run_now(add_fleet, size, GATEWAYS)
    caller = caller_of(database)
    job = save_job(database, caller, iteration={"concurrency": OFFERED})
    database.run_now(runs.start_run, caller, job, StartRun(), "run-1", NOW)
    while database.run_now(runs.create_tasks, "run-1", NOW, 5_000):
        pass
    took = []
    for number in range(TICKS):
        began = time.perf_counter()
        done = database.run_now(dispatch.offer_due, NOW + number)
        took.append((time.perf_counter() - began) * 1000)
        assert done.offered == OFFERED, done
        database.run_now(_end_offered)
        if size == SMALL and (number + 1) * OFFERED % SMALL == 0:
            database.run_now(_begin_anew)
    return took[2:]


def _end_offered(session: Session) -> None:
    """Everything offered has succeeded."""
    change(session, "UPDATE devices SET held_by = NULL WHERE held_by IS NOT NULL")
    change(session, "UPDATE tasks SET status = 'succeeded' WHERE status = 'offered'")
    change(
        session,
        "UPDATE run_counts SET succeeded = succeeded + :n, offered = offered - :n WHERE shard = 0",
        n=OFFERED,
    )


def _begin_anew(session: Session) -> None:
    """A small run is never empty."""
    change(session, "DELETE FROM attempts")
    change(session, "UPDATE tasks SET status = 'scheduled', attempt = 0")
    change(
        session,
        "UPDATE run_counts SET scheduled = scheduled + succeeded, succeeded = 0 WHERE shard = 0",
    )
