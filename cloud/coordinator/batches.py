"""Tasks about several targets each: created, looked after before an offer, and filled for one."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import JsonValue

from cloud.coordinator import armed
from cloud.domain import batches as rules
from cloud.domain import tasks as task_rules
from cloud.domain.counts import Deltas
from cloud.storage import batches, counts, reports, runs, target_documents, tasks
from cloud.storage.database import Session
from cloud.storage.dialect import is_sqlite
from cloud.storage.schema import RunRow
from cloud.storage.targets import SHAPES, compile_query
from cloud.storage.tasks import Key, Move
from contract import query as queries
from contract.lifecycle import RunStatus, TaskStatus
from contract.messages import MAX_MESSAGE_BYTES, Failure, JobBody, OfferedTask

# What one look for offers reads of targets: about 50 ms, and 1 MB of messages.
READ_AT_ONCE: Final = 2_000
# The message around a task and its body, and the signature that will stand behind it.
_ENVELOPE: Final = 2_048


def create_tasks(session: Session, run: RunRow, now: int, limit: int) -> bool:
    """Gather the next `limit` targets into tasks; says whether there are more.

    A task is made once its last target is known. If all targets are to be in one task and do not
    fit, the run fails.
    """
    query = queries.parse(json.loads(run.query))
    condition = compile_query(query, sqlite=is_sqlite(session), shape=SHAPES[run.resource])
    added, cursor = batches.add_targets(session, run, condition, rules.size_of(run.batch), limit)
    run.targets += added
    if rules.is_too_many(run.batch, run.targets):
        _fail(session, run, now)
        return False
    upto = rules.whole_tasks(run.batch, run.targets, more=cursor is not None)
    # In serial mode the order is the ordinals', and what was handed back keeps its place.
    batches.create_tasks(session, run, upto, 0 if run.serial else now)
    deltas = Deltas()
    deltas.added(run.id, TaskStatus.SCHEDULED, upto - run.total)
    counts.move(session, deltas, counts.SWEEP_SHARD)
    run.total, run.creating = upto, cursor is not None
    run.created_to = run.created_to if cursor is None else cursor
    session.add(run)
    if not run.creating:
        data: dict[str, JsonValue] = {"total": run.total, "targets": run.targets}
        reports.log(session, run.org, run.id, now, "tasks created", data=data)
    return run.creating


def _fail(session: Session, run: RunRow, now: int) -> None:
    batches.drop_targets(session, run.id)
    run.status, run.ended_at, run.reason = RunStatus.FAILED, now, rules.TOO_MANY
    run.creating, run.has_errors, run.targets = False, True, 0
    session.add(run)
    session.flush()
    said = f"could not start: {rules.TOO_MANY}"
    reports.log(session, run.org, run.id, now, said, level="ERROR")
    armed.note_end(session, run, now)


def weight(run: Any) -> int:
    """What looking at one of a run's tasks costs, in tasks about one target."""
    return 1 if run.batch == 1 else rules.size_of(run.batch)


def is_batch(run: Any) -> bool:
    return bool(run.batch != 1)


def within_reach(rows: Sequence[Any]) -> list[Any]:
    """The offers whose targets are read in one look; the others come with the next."""
    kept, left = [], READ_AT_ONCE
    for row in rows:
        if is_batch(row):
            if left < row.targets:
                continue
            left -= row.targets
        kept.append(row)
    return kept


def documents(session: Session, rows: Sequence[Any]) -> dict[Key, list[dict[str, JsonValue]]]:
    """The documents of the targets of these offers as they are now; one that is gone says so."""
    by_run: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        if is_batch(row):
            by_run[row.run].append(row)
    found: dict[Key, list[dict[str, JsonValue]]] = {}
    for run, of_run in sorted(by_run.items()):
        first = of_run[0]
        shape = SHAPES[first.resource]
        ids = batches.targets_of(session, run, [row.ordinal for row in of_run])
        known = target_documents.of_ids(
            session, first.org, shape, {name for names in ids.values() for name in names},
            first.target_table, members=False,
        )  # fmt: skip
        for ordinal, names in ids.items():
            found[run, ordinal] = [
                known.get(name) or {"id": int(name) if shape.counts else name, "deleted": True}
                for name in names
            ]
    return found


def bytes_of(offered: OfferedTask, body: JobBody) -> int:
    """What an offer of this task alone takes."""
    task = offered.model_dump_json(exclude_defaults=True).encode()
    return len(task) + len(body.model_dump_json(by_alias=True, exclude_defaults=True)) + _ENVELOPE


def fits(offered: OfferedTask, body: JobBody) -> bool:
    return bytes_of(offered, body) <= MAX_MESSAGE_BYTES


def fail_too_large(session: Session, offered: Iterable[OfferedTask], now: int) -> set[str]:
    """End tasks whose offers would never arrive; a retry would not fit either. Their runs."""
    given = {}
    for task in offered:
        run, _, ordinal = task.task.rpartition("-")
        given[run, int(ordinal)] = task
    found = tasks.load(session, given)
    facts = runs.load_facts(session, {run for run, _ in found})
    moves = []
    for key, stored in found.items():
        task = given[key]
        if stored.facts.status is TaskStatus.OFFERED and stored.facts.attempt == task.attempt:
            failure = Failure(code="batch_too_large", text=_too_large(task))
            taken = task_rules.give_up(
                stored.facts, facts[stored.run], TaskStatus.FAILED, failure, now
            )
            moves.append(Move(stored, taken))
    tasks.save_moves(session, moves, now, counts.SWEEP_SHARD)
    return {move.task.run for move in moves}


def _too_large(task: OfferedTask) -> str:
    size = len(task.model_dump_json(exclude_defaults=True).encode()) // 1024
    return (
        f"the {len(task.targets)} targets take {size} KiB; one message holds "
        f"{MAX_MESSAGE_BYTES // 1024} KiB, the job's steps and context among them"
    )
