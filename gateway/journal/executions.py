"""Job executions of devices that run whole jobs themselves, one row each."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

from pydantic import JsonValue


@dataclass(frozen=True)
class Row:
    """`record` is the execution whole; the rest is what it is found by."""

    thing: str
    job: str
    number: int
    task: str
    attempt: int
    is_ended: bool
    record: dict[str, JsonValue]


def load(db: Connection, things: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """Every execution of these things, as pairs of thing and record."""
    sql = "SELECT thing, record FROM executions WHERE thing = ?"
    rows = [row for thing in things for row in db.execute(sql, (thing,)).fetchall()]
    return [(thing, json.loads(record)) for thing, record in rows]


def save(db: Connection, rows: Sequence[Row], gone: Sequence[tuple[str, str, int]]) -> None:
    """Keep these, and forget those that are `gone` (thing, job, number)."""
    db.executemany("DELETE FROM executions WHERE thing = ? AND job = ? AND number = ?", gone)
    db.executemany(
        "INSERT INTO executions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (thing, job, number)"
        " DO UPDATE SET ended = excluded.ended, record = excluded.record",
        [
            (r.thing, r.job, r.number, r.task, r.attempt, r.is_ended, json.dumps(r.record))
            for r in rows
        ],
    )


def owners_gone(db: Connection, owners: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of these (task, attempt)s that have ended, or are not known any more."""
    sql = "SELECT 1 FROM tasks WHERE task = ? AND attempt = ? AND ended_at IS NULL"
    return {owner for owner in owners if db.execute(sql, owner).fetchone() is None}
