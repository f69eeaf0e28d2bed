"""Appending items to a run that has not ended: its totals grow, serial order goes on."""

from typing import Final

from pydantic import JsonValue

from cloud.coordinator.access import Caller
from cloud.domain.counts import Deltas
from cloud.errors import Conflict, Invalid, NotFound
from cloud.storage import counts, extensions, reports, runs, target_documents
from cloud.storage.database import Session
from cloud.storage.schema import RunRow
from cloud.storage.targets import SHAPES
from cloud.storage.views import runs as views
from contract.http.history import ExtendRun, RunItem
from contract.http.problems import ProblemItem
from contract.http.runs import Run
from contract.ids import CENTRAL
from contract.lifecycle import RUN_ENDS, TaskStatus

MAX_TASKS: Final = 10_000_000


def extend_run(session: Session, caller: Caller, run_id: str, asked: ExtendRun, now: int) -> Run:
    """Append items to a run. The same key again appends nothing.

    Raises NotFound, Conflict("run_ended") also while it is being cancelled, Conflict("batch_run")
    where tasks are about several targets, and Invalid with every item whose target is not there.
    """
    run = runs.get(session, run_id, lock=True)
    if run is None or run.org != caller.org:
        raise NotFound(f"run {run_id}")
    views.find(session, caller.org, run_id)
    if asked.key and extensions.of_key(session, run_id, asked.key) is not None:
        return views.get_run(session, caller.org, run_id, now)
    if run.ended_at is not None or run.status in RUN_ENDS or run.cancel is not None:
        raise Conflict("run_ended", f"the run is {run.status}; nothing can be added to it")
    if run.batch != 1:
        text = "its tasks are about several targets each (`iteration.batch`): start another run"
        raise Conflict("batch_run", text)
    if run.total + len(asked.items) > MAX_TASKS:
        raise Invalid("invalid", f"a run has at most {MAX_TASKS} tasks")
    missing = append_items(session, run, asked.items, now, key=asked.key)
    if missing:
        items = [
            ProblemItem(key=f"items[{n}].target", message=f"there is no {run.resource} `{target}`")
            for n, target in missing
        ]
        raise Invalid("invalid", f"{len(missing)} of the items have no target", items)
    data: dict[str, JsonValue] = {"by": caller.name, "items": len(asked.items)}
    reports.log(session, run.org, run_id, now, "run extended", data=data)
    return views.get_run(session, caller.org, run_id, now)


def append_items(
    session: Session, run: RunRow, items: list[RunItem], now: int, *, key: str = ""
) -> list[tuple[int, str]]:
    """Append items to a locked, live run, all or none; returns those whose target is not there."""
    gateways = _gateways(session, run, {item.target for item in items})
    missing = [(n, item.target) for n, item in enumerate(items) if item.target not in gateways]
    if missing:
        return missing
    first = run.total
    extensions.append(
        session,
        run,
        [(i.target, gateways.get(i.target), i.attempts, i.parameters) for i in items],
        now,
    )
    if key:
        extensions.remember(session, run.id, key, first, len(items), now)
    run.total += len(items)
    run.has_parameters |= any(item.parameters for item in items)
    session.add(run)
    session.flush()
    deltas = Deltas()
    deltas.added(run.id, TaskStatus.SCHEDULED, len(items))
    counts.move(session, deltas, counts.SWEEP_SHARD)
    return []


def _gateways(session: Session, run: RunRow, ids: set[str]) -> dict[str, str | None]:
    """Where the tasks of these targets go; a target that is not there is missing."""
    if run.resource == "device":
        return extensions.gateways_of_devices(session, run.org, ids)
    shape = SHAPES[run.resource]
    keys = {key for key in ids if key.isascii() and key.isdecimal()} if shape.counts else ids
    found = target_documents.of_ids(session, run.org, shape, keys, run.target_table)
    return {key: key if run.resource == "gateway" else CENTRAL for key in found}
