"""What is known at the end of a story: books of the cloud, journals of gateways, lives of devices.

Read from the databases themselves, so that nothing between them and us can tell it otherwise.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, create_engine, text

from contract.ids import run_of
from contract.lifecycle import TASK_ENDS
from tests.campaign.story import Story

Row = dict[str, Any]


@dataclass(frozen=True)
class Books:
    """Rows of the cloud and of the journals, about the runs of one story."""

    tasks: list[Row]
    attempts: list[Row]
    counts: dict[str, Counter[str]]
    held: list[Row]
    refused: list[Row]
    journals: dict[str, list[Row]]


@dataclass(frozen=True)
class Evidence:
    """All that can be known of a story. `strange` are programs that ended by themselves."""

    story: Story
    books: Books
    experiences: list[Row]
    truths: dict[str, Row]
    receipts: list[Row]
    deaths: Counter[str]
    strange: list[str]
    late: int
    doubled: int


class Ledger:
    """Reads the databases of a stage while its programs run. `close` it."""

    def __init__(self, database: str, journals: Mapping[str, Path]) -> None:
        self._engine = create_engine(database)
        self._journals = journals

    def close(self) -> None:
        self._engine.dispose()

    def unsettled(self, runs: Sequence[str]) -> list[str]:
        """What keeps the story from being over: open tasks, untold attempts, held devices."""
        books = self.read(runs)
        found = [f"task {task['run']}-{task['ordinal']} is {task['status']}"
                 for task in books.tasks if task["status"] not in TASK_ENDS]  # fmt: skip
        found += [f"{row['id']} is held by {row['held_by']}" for row in books.held]
        for gateway, rows in books.journals.items():
            for row in rows:
                name = f"{gateway}: {row['task']}/{row['attempt']}"
                if row["ended_at"] is None:
                    found.append(f"{name} is {row['status']}")
                elif row["revision"] > max(row["stored_revision"], row["refused_revision"]):
                    found += [] if row["forgotten"] else [f"{name} is not told"]
        return found

    def read(self, runs: Sequence[str]) -> Books:
        counts: dict[str, Counter[str]] = {run: Counter() for run in runs}
        columns = ("scheduled", "offered", "accepted", "running", "awaiting", "rescheduled",
                   "succeeded", "failed", "timed_out", "cancelled")  # fmt: skip
        for row in self._rows("SELECT * FROM run_counts WHERE run IN :runs", runs):
            counts[row["run"]].update({name: row[name] for name in columns})
        return Books(
            tasks=self._rows("SELECT * FROM tasks WHERE run IN :runs", runs),
            attempts=self._rows("SELECT * FROM attempts WHERE run IN :runs", runs),
            counts=counts,
            held=self._rows("SELECT id, held_by FROM devices WHERE held_by IS NOT NULL"),
            refused=[row for row in self._rows("SELECT task, attempt, code FROM refused")
                     if run_of(row["task"]) in runs],
            journals={name: self._journal(path, runs) for name, path in self._journals.items()},
        )  # fmt: skip

    def _rows(self, statement: str, runs: Sequence[str] = ()) -> list[Row]:
        wanted = text(statement)
        if runs:
            wanted = wanted.bindparams(bindparam("runs", list(runs), expanding=True))
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(wanted).mappings()]

    def _journal(self, data_dir: Path, runs: Sequence[str]) -> list[Row]:
        with closing(sqlite3.connect(data_dir / "journal.db", timeout=20)) as journal:
            journal.row_factory = sqlite3.Row
            marks = ",".join("?" * len(runs))
            found = journal.execute(f"SELECT * FROM tasks WHERE run IN ({marks})", list(runs))
            return [dict(row) for row in found]


def snapshot_of(attempt: Row) -> Row:
    """The last word of an attempt's gateway: its late outcome where there is one."""
    late: Row = json.loads(attempt["late"]) if attempt["late"] else {}
    kept: Row = json.loads(attempt["snapshot"]) if attempt["snapshot"] else {}
    return late or kept
