"""Saving jobs. What a run of one would refuse is refused here already."""

import json
from collections.abc import Iterable
from typing import Final

from cloud.coordinator.access import Caller
from cloud.coordinator.contexts import schema_problems
from cloud.domain.references import named_jobs
from cloud.domain.runs import START_NAMES, ArtifactNameInvalid, artifact_texts, check_artifact_text
from cloud.errors import Conflict, Invalid, NotFound, NotPermitted
from cloud.storage import deletions, jobs
from cloud.storage.database import Session
from cloud.storage.json_text import to_json
from cloud.storage.schema import JobRow
from cloud.storage.views import jobs as views
from contract.http.jobs import DuplicateJob, Job
from contract.http.problems import ProblemItem
from contract.ids import slug
from contract.job_document import JobDocument, not_performed, problems
from contract.query import QueryInvalid, read_with_templates
from contract.query_fields import check_fields
from contract.query_text import query_of
from contract.template_dialect import TemplateError, check

MAX_COPIES: Final = 1_000
MAX_COPIED_NAME: Final = 240


def check_document(document: JobDocument) -> None:
    """Raise Invalid with every place that is wrong, or that this release does not perform."""
    found = [ProblemItem(key=str(place), message=text) for place, text in problems(document)]
    found.extend(_query_problems(document))
    if document.context_schema is not None:
        found.extend(schema_problems(document.context_schema))
    if not found:
        found.extend(_artifact_problems(document))
    if found:
        raise Invalid("document_invalid", "the job document is not valid", found)
    places = not_performed(document)
    if places:
        items = [
            ProblemItem(key=str(place), message="is read, but not performed by this release")
            for place in places
        ]
        raise Invalid("not_performed", "the job asks for what this release does not do", items)


def _query_problems(document: JobDocument) -> list[ProblemItem]:
    targets, found = document.targets, []
    if targets.table is not None and targets.resource != "row":
        message = "only targets of resource `row` have a table"
        found.append(ProblemItem(key="targets.table", message=message))
    if targets.table is not None:
        found.extend(_not_known_at_start("targets.table", "a table", check(targets.table)))
    if targets.query is None:
        return found
    try:
        query, names = read_with_templates(query_of(targets.query))
        # The columns of a table are known only when the run starts.
        check_fields(query, targets.resource)
    except QueryInvalid as error:
        key = f"targets.query.{error.path}" if error.path else "targets.query"
        return [*found, ProblemItem(key=key, message=error.reason)]
    return [*found, *_not_known_at_start("targets.query", "a query", names)]


def _not_known_at_start(key: str, what: str, names: Iterable[str]) -> list[ProblemItem]:
    others = sorted(set(names) - START_NAMES)
    if not others:
        return []
    message = f"{what} can use ctx and run, which are known at the start, not {', '.join(others)}"
    return [ProblemItem(key=key, message=message)]


def _artifact_problems(document: JobDocument) -> list[ProblemItem]:
    found = []
    for key, text, _ in artifact_texts(document):
        try:
            check_artifact_text(key, text)
        except ArtifactNameInvalid as error:
            found.append(ProblemItem(key=error.key, message=str(error)))
        except TemplateError as error:
            found.append(ProblemItem(key=key, message=str(error)))
    return found


def save_job(
    session: Session,
    caller: Caller,
    document: JobDocument,
    now: int,
    *,
    revision: int | None = None,
    create: bool = False,
    system: bool = False,
) -> Job:
    """Create a job, or save a new revision of it.

    `revision` is the one the caller has seen; None overwrites. With `create` an existing job is a
    Conflict("exists"). One of the `system` is saved by the system alone. Raises Invalid, NotFound,
    Conflict("changed" | "exists"), NotPermitted("protected").
    """
    check_document(document)
    job_id = document.id or slug(document.name)
    row = jobs.get_job(session, caller.org, job_id, lock=True)
    if row is None:
        if not create and revision is not None:
            raise NotFound(f"job `{job_id}`")
        row = JobRow(org=caller.org, id=job_id, name="", revision=0, created_at=now, updated_at=now)
        row.created_by = caller.name
        if not jobs.insert(session, row):
            raise Conflict("exists", f"there is a job `{job_id}`")
    elif create:
        raise Conflict("exists", f"there is a job `{job_id}`; save it instead of creating it")
    elif revision is not None and revision != row.revision:
        raise Conflict("changed", f"job `{job_id}` is at revision {row.revision}, not {revision}")
    if row.system and not system:
        raise NotPermitted("protected", f"job `{job_id}` belongs to the system")
    if row.revision and row.resource != document.targets.resource:
        message = f"the job is about resource `{row.resource}`; that cannot change"
        items = [ProblemItem(key="targets.resource", message=message)]
        raise Invalid("document_invalid", message, items)
    row.system = system
    row.name = document.name
    row.description = document.description
    row.type = document.type
    row.resource = document.targets.resource
    row.document = to_json(document.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    row.revision += 1
    row.updated_at = now
    session.add(row)
    session.flush()
    named = [(found.place, found.kind, found.job) for found in named_jobs(document)]
    deletions.save_references(session, caller.org, job_id, named)
    return views.get_job(session, caller.org, job_id, now)


def duplicate_job(
    session: Session, caller: Caller, job_id: str, asked: DuplicateJob, now: int
) -> Job:
    """Save a copy of a job's document under another name and id; it has no runs.

    What names other jobs goes on naming them. An id that is not given is made from the name, with
    a number where that is taken. Raises NotFound, Conflict("exists"), and Invalid for a document
    that would not be saved today.
    """
    row = jobs.get_job(session, caller.org, job_id)
    if row is None:
        raise NotFound(f"job `{job_id}`")
    name = asked.name or f"{row.name[:MAX_COPIED_NAME]} (copy)"
    new_id = asked.id or _free_id(session, caller.org, slug(name))
    document = JobDocument.model_validate(json.loads(row.document))
    copied = document.model_copy(update={"name": name, "id": new_id})
    return save_job(session, caller, copied, now, create=True)


def _free_id(session: Session, org: str, wanted: str) -> str:
    tries = [wanted, *(f"{wanted[:58].rstrip('-')}-{number}" for number in range(2, MAX_COPIES))]
    for name in tries:
        if jobs.get_job(session, org, name) is None:
            return name
    raise Conflict("exists", f"there are too many jobs `{wanted}`; give the copy an id")
