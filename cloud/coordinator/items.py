"""Explicit payloads: listed items instead of a query, each with what to run and its parameters."""

import json
from collections.abc import Sequence
from typing import Final

from cloud.domain import runs as rules
from cloud.domain.counts import Deltas
from cloud.errors import Invalid
from cloud.storage import counts, extensions, reports, target_documents
from cloud.storage.database import Session
from cloud.storage.schema import RunBodyRow, RunRow
from cloud.storage.targets import SHAPES
from contract.http.problems import ProblemItem
from contract.ids import CENTRAL
from contract.job_document import Item, JobDocument, step_lists
from contract.lifecycle import TaskStatus
from contract.messages import JobBody

CHUNK: Final = 1_000


def check(session: Session, org: str, document: JobDocument) -> None:
    """Raise Invalid("document_invalid") with every item whose target is not there."""
    items = document.targets.items or []
    shape = SHAPES[document.targets.resource]
    wanted = [item.target for item in items if item.target is not None]
    if shape.counts or not wanted:
        return
    known = target_documents.of_ids(session, org, shape, wanted)
    found = [
        ProblemItem(
            key=f"targets.items[{index}].target",
            message=f"there is no {shape.resource} `{item.target}`",
        )
        for index, item in enumerate(items)
        if item.target is not None and item.target not in known
    ]
    if found:
        raise Invalid("document_invalid", "the job names targets that do not exist", found)


def save_bodies(session: Session, run: RunRow, document: JobDocument) -> None:
    """Freeze every step list of a job that has several; the run itself holds the first."""
    if len(step_lists(document)) < 2:
        return
    first = JobBody.model_validate_json(run.body)
    for name in step_lists(document):
        body = rules.hashed(first.model_copy(update={"steps": rules.offered_steps(document, name)}))
        session.add(
            RunBodyRow(
                run=run.id,
                name=name,
                hash=body.hash,
                body=body.model_dump_json(by_alias=True, exclude_defaults=True),
            )
        )


def create_tasks(session: Session, run: RunRow, now: int, limit: int = CHUNK) -> bool:
    """Create the tasks of the next items of a locked run; says whether there are more."""
    document = JobDocument.model_validate(json.loads(run.document))
    items = document.targets.items or []
    done = int(run.created_to or 0)
    chunk = items[done : done + limit]
    _append(session, run, chunk, len(step_lists(document)) > 1, now)
    run.total += len(chunk)
    run.created_to = str(done + len(chunk))
    run.creating = done + len(chunk) < len(items)
    run.has_parameters |= any(item.parameters for item in chunk)
    session.add(run)
    deltas = Deltas()
    deltas.added(run.id, TaskStatus.SCHEDULED, len(chunk))
    counts.move(session, deltas, counts.SWEEP_SHARD)
    if not run.creating:
        reports.log(session, run.org, run.id, now, "tasks created", data={"total": run.total})
    return run.creating


def _append(session: Session, run: RunRow, chunk: Sequence[Item], named: bool, now: int) -> None:
    owners: dict[str, str | None] = {}
    if run.resource == "device":
        ids = (item.target for item in chunk if item.target is not None)
        owners = extensions.gateways_of_devices(session, run.org, ids)
    rows = []
    for item in chunk:
        gateway: str | None = CENTRAL
        if item.target is not None and run.resource == "device":
            gateway = owners.get(item.target)
        elif item.target is not None and run.resource == "gateway":
            gateway = item.target
        rows.append((item.target, gateway, item.attempts, item.parameters))
    lists = [item.steps for item in chunk] if named else []
    extensions.append(session, run, rows, 0 if run.serial else now, lists)
