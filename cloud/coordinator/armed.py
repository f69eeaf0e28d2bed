"""Triggers as runs carry them: frozen when a run starts, noted as due when it ends."""

import json

from cloud.domain import triggers as rules
from cloud.storage import triggers as stored
from cloud.storage.database import Session
from cloud.storage.schema import RunRow
from contract.job_document import JobDocument
from contract.lifecycle import RunStatus


def arm(session: Session, run: RunRow, document: JobDocument) -> None:
    """Freeze the job's triggers with its run; called in the transaction that creates it."""
    stored.arm(session, run.org, run.id, rules.armed(document))


def note_end(session: Session, run: RunRow, now: int) -> None:
    """The run has ended: have its completion triggers fire; called in that transaction."""
    due: dict[int, str] = {}
    skipped: dict[int, str] = {}
    for row in stored.of_run(session, run.id, "on_complete"):
        conditions = [RunStatus(word) for word in json.loads(row.conditions)]
        fires = rules.fires(conditions, RunStatus(run.status))
        (due if fires else skipped)[row.position] = row.job
    if due or skipped:
        stored.note_completion(session, run.org, run.id, due, skipped, now)
