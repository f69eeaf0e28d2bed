"""Counts of runs: moved by shard, summed when read."""

from collections.abc import Iterable
from typing import Final

from cloud.domain.counts import Deltas, Totals
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change_many, fetch, listed
from contract.lifecycle import TaskStatus

# One shard for each kind of writer: they never wait for each other's rows.
DISPATCH_SHARD: Final = 0
INGEST_SHARD: Final = 1
SWEEP_SHARD: Final = 2
GATEWAY_SHARD: Final = 3

_COLUMNS: Final = (*(status.value for status in TaskStatus), "progress", "stranded")
_MOVE: Final = (
    f"INSERT INTO run_counts (run, shard, {', '.join(_COLUMNS)}) "
    f"VALUES (:run, :shard, {', '.join(f':{name}' for name in _COLUMNS)}) "
    "ON CONFLICT (run, shard) DO UPDATE SET "
    + ", ".join(f"{name} = run_counts.{name} + excluded.{name}" for name in _COLUMNS)
)
SUMS: Final = ", ".join(f"CAST(sum({name}) AS bigint) AS {name}" for name in _COLUMNS)


def move(session: Session, deltas: Deltas, shard: int) -> None:
    """Add what moved; runs in order of their ids, so that two writers never wait in a circle."""
    rows = []
    for run, counts in sorted(deltas.by_run.items()):
        if any(counts.values()):
            rows.append(
                {"run": run, "shard": shard, **{name: counts.get(name, 0) for name in _COLUMNS}}
            )
    change_many(session, _MOVE, rows)


def totals(session: Session, runs: Iterable[str]) -> dict[str, Totals]:
    """The sums of each run; a run without counts has an empty one."""
    wanted = list(runs)
    if not wanted:
        return {}
    rows = fetch(
        session,
        f"SELECT run, {SUMS} FROM run_counts WHERE {any_of(session, 'run', 'runs')} GROUP BY run",
        runs=listed(session, wanted),
    )
    found = {
        row.run: Totals(
            {status: getattr(row, status.value) or 0 for status in TaskStatus},
            row.progress or 0,
            row.stranded or 0,
        )
        for row in rows
    }
    return {run: found.get(run, Totals()) for run in wanted}
