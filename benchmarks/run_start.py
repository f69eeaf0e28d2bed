"""How long does the start of a run on 1,000,000 targets take, and how much memory?

From the request until every task exists, in chunks as the coordinator makes them; the longest
transaction stands beside it. The reference inserts the same rows with one statement.
"""

import resource
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.answers import Figure
from benchmarks.fleets import KINDS, NOW, add_fleet, caller_of, fresh_database, save_job
from cloud.coordinator import runs
from cloud.domain.counts import next_chunk
from cloud.storage.database import Database
from cloud.storage.dialect import change
from contract.http.runs import StartRun
from tests.kit.postgres import PostgresServer

TARGETS: Final = 1_000_000
GATEWAYS: Final = 100
ROUNDS: Final = 1


def ask(rounds: int = ROUNDS) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder, PostgresServer(durable=True) as postgres:
        for kind in KINDS:
            took, longest, memory, alone = [], [], [], []
            for number in range(rounds):
                place = Path(folder) / f"{kind}-{number}"
                with fresh_database(kind, place, postgres) as database:
                    database.run_now(add_fleet, TARGETS, GATEWAYS)
                    before = _peak_mb()
                    seconds, slowest = start(database)
                    took.append(seconds)
                    longest.append(slowest * 1000)
                    memory.append(max(_peak_mb() - before, 0.0))
                    alone.append(at_once(database))
            figures.append(Figure(f"start on {TARGETS:,}, {kind}", "s", took, "one insert", alone))
            figures.append(Figure(f"longest transaction, {kind}", "ms", longest))
            figures.append(Figure(f"peak memory above what it began with, {kind}", "MB", memory))
    return figures


def start(database: Database) -> tuple[float, float]:
    """Seconds until all tasks exist, and the longest of its transactions."""
    caller = caller_of(database)
    job = save_job(database, caller)
    began = time.perf_counter()
    database.run_now(runs.start_run, caller, job, StartRun(), "run-1", NOW)
    size, slowest, more = 1_000, 0.0, True
    while more:
        at = time.perf_counter()
        more = database.run_now(runs.create_tasks, "run-1", NOW, size)
        seconds = time.perf_counter() - at
        slowest = max(slowest, seconds)
        size = next_chunk(size, seconds * 1000)
    return time.perf_counter() - began, slowest


def at_once(database: Database) -> float:
    began = time.perf_counter()
    database.run_now(
        change,
        "INSERT INTO tasks (run, ordinal, org, device, target, gateway, status, priority, attempt, "
        "tries, attempts, revision, begun, due_at, progress) SELECT 'raw', ordinal, org, device, "
        "target, gateway, status, priority, attempt, tries, attempts, revision, begun, due_at, "
        "progress FROM tasks WHERE run = 'run-1'",
    )
    return time.perf_counter() - began


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
