"""What a run would be about, without starting it: targets, who would have to wait, warnings."""

from typing import Final

from pydantic import JsonValue

from cloud.coordinator.contexts import check_context
from cloud.coordinator.jobs import check_document
from cloud.coordinator.targets import Resolved, resolve
from cloud.domain import runs as rules
from cloud.domain.batches import TOO_MANY, is_too_many, stored_batch, whole_tasks
from cloud.domain.dispatch import SILENCE_MS
from cloud.errors import NotFound
from cloud.storage import exclusions, jobs, target_documents
from cloud.storage.database import Session
from cloud.storage.dialect import is_sqlite
from cloud.storage.targets import compile_query
from contract import query as queries
from contract.http.targets import Excluded, Preview, PreviewAsked
from contract.job_document import JobDocument
from contract.waiting import WAITS

SAMPLE: Final = 20


def preview_job(session: Session, org: str, job: str, asked: PreviewAsked, now: int) -> Preview:
    """What a run of a job would be about now. Raises NotFound, and Invalid as a start would."""
    row = jobs.get_job(session, org, job)
    if row is None:
        raise NotFound(f"job `{job}`")
    return preview(session, org, JobDocument.model_validate_json(row.document), asked, now)


def preview_document(session: Session, org: str, document: JobDocument, now: int) -> Preview:
    """The same for a document that is not saved."""
    check_document(document)
    return preview(session, org, document, PreviewAsked(), now)


def preview(
    session: Session, org: str, document: JobDocument, asked: PreviewAsked, now: int
) -> Preview:
    context = document.context if asked.context is None else asked.context
    check_context(context, document.context_schema)
    scope: dict[str, JsonValue] = {"ctx": context, "run": {"id": "", "job": document.id or ""}}
    found = resolve(session, org, document.targets, scope, asked.query)
    condition = compile_query(found.query, sqlite=is_sqlite(session), shape=found.shape)
    count = target_documents.count(session, org, found.shape, condition, found.table)
    sample = target_documents.page(
        session, org, found.shape, condition, table=found.table, limit=SAMPLE
    )
    batch = stored_batch(document.iteration.batch)
    warnings = [] if count else ["no target matches: a run would end at once, with 0 tasks"]
    if is_too_many(batch, count):
        warnings.append(f"a run would fail: {TOO_MANY}")
    return Preview(
        resource=found.shape.resource,
        table=found.table,
        count=count,
        tasks=whole_tasks(batch, count, more=False),
        sample=[{**document, "id": document.get("id", key)} for key, document in sample],
        excluded=_excluded(session, org, document, found, now) if count else [],
        warnings=warnings,
        query=queries.to_json(found.query),
    )


def _excluded(
    session: Session, org: str, document: JobDocument, found: Resolved, now: int
) -> list[Excluded]:
    verbs = {step.uses for step in rules.offered_steps(document)}
    return [
        Excluded(
            reason=code,
            sentence=WAITS[code].sentence if code in WAITS else "",
            count=number,
            sample=sample,
        )
        for code, number, sample in exclusions.of_query(
            session,
            org,
            found.shape,
            found.query,
            found.table,
            verbs,
            now - SILENCE_MS,
            central=document.iteration.batch != 1,
        )
    ]
