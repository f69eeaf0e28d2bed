"""Jobs: save, read, delete, and start a run."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body, read_document
from cloud.api.etags import etag, expected_revision, is_known
from cloud.coordinator import deletions, history, jobs
from cloud.errors import Invalid, NotFound
from cloud.storage.views import jobs as views
from contract.http import Page
from contract.http.history import DeletedJob, JobReferences, Origin
from contract.http.jobs import DuplicateJob, Job
from contract.http.problems import ProblemItem
from contract.http.runs import Run, StartRun
from contract.ids import is_id
from contract.job_document import JobDocument

router = APIRouter(tags=["jobs"])
DOCUMENT = body_schema(JobDocument, "application/yaml", "application/json")
DUPLICATE = body_schema(DuplicateJob, required=False)
START = body_schema(StartRun, required=False)


@router.post("/jobs", status_code=201, operation_id="create_job", openapi_extra=DOCUMENT)
async def create_job(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Job:
    """Save a new job, from YAML or JSON; its id is the document's, else made from its name."""
    document = await read_document(request, JobDocument)
    job = await services.database.run(
        jobs.save_job, caller, document, services.clock(), create=True
    )
    response.headers["location"] = f"/api/v1/jobs/{job.id}"
    response.headers["etag"] = etag(job.revision)
    return job


@router.put("/jobs/{job_id}", operation_id="save_job", openapi_extra=DOCUMENT)
async def save_job(
    job_id: str, request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Job:
    """Save a job under this id. With `If-Match`, only if that is still its revision."""
    revision = expected_revision(request)
    document = await read_document(request, JobDocument)
    if not is_id(job_id):
        raise NotFound(f"job `{job_id[:80]}`")
    if document.id is not None and document.id != job_id:
        message = f"the document is about job `{document.id}`, the address about `{job_id}`"
        raise Invalid("document_invalid", message, [ProblemItem(message=message, key="id")])
    named = document.model_copy(update={"id": job_id})
    job = await services.database.run(
        jobs.save_job, caller, named, services.clock(), revision=revision, create=False
    )
    response.headers["etag"] = etag(job.revision)
    return job


@router.get("/jobs", operation_id="list_jobs")
async def list_jobs(
    services: ServicesOf,
    caller: CallerOf,
    type: str | None = None,
    system: Annotated[bool, Query(description="Also the jobs of the system.")] = False,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Job]:
    """Jobs by name, each with its current, else latest run."""
    return await services.database.read(
        views.list_jobs,
        caller.org,
        services.clock(),
        type=type,
        system=system,
        cursor=cursor,
        limit=limit,
    )


@router.get("/jobs/{job_id}", operation_id="get_job", response_model=Job)
async def get_job(
    job_id: str, request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Job | Response:
    job = await services.database.read(views.get_job, caller.org, job_id, services.clock())
    # The tag is the document's; the run in the answer changes without it, so only PUT compares it.
    tag = etag(job.revision)
    if is_known(request, tag) and job.run is None:
        return Response(status_code=304, headers={"etag": tag})
    response.headers["etag"] = tag
    return job


@router.post(
    "/jobs/{job_id}/duplicate",
    status_code=201,
    operation_id="duplicate_job",
    openapi_extra=DUPLICATE,
)
async def duplicate_job(
    job_id: str, request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Job:
    """Save a copy of a job under another name and id, without its runs."""
    asked = await read_body(request, DuplicateJob)
    job = await services.database.run(jobs.duplicate_job, caller, job_id, asked, services.clock())
    response.headers["location"] = f"/api/v1/jobs/{job.id}"
    response.headers["etag"] = etag(job.revision)
    return job


@router.delete("/jobs/{job_id}", operation_id="delete_job")
async def delete_job(
    job_id: str,
    services: ServicesOf,
    caller: CallerOf,
    with_triggered: Annotated[
        bool, Query(description="Also the jobs that only triggers of this one start.")
    ] = False,
) -> DeletedJob:
    """Delete a job. What is in flight completes; its runs, logs and reports are gone (410)."""
    deleted = await services.database.run(
        deletions.delete_job, caller, job_id, services.clock(), with_triggered=with_triggered
    )
    services.changes.touched(runs={deleted.run} if deleted.run else ())
    services.changes.to_send()
    return deleted


@router.get("/jobs/{job_id}/references", operation_id="get_job_references")
async def get_references(job_id: str, services: ServicesOf, caller: CallerOf) -> JobReferences:
    """Jobs with a trigger on this one, and apart from them those that merely run it."""
    return await services.database.read(deletions.job_references, caller.org, job_id)


@router.post("/jobs/{job_id}/runs", status_code=201, operation_id="start_run", openapi_extra=START)
async def start_run(
    job_id: str, request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Run:
    """Start a run.

    With an `id` of its own, or an `Idempotency-Key` that is one, a repeated start answers with the
    run as it is.
    """
    start = await read_body(request, StartRun)
    run_id = start.id or request.headers.get("idempotency-key") or services.new_id()
    if not _is_uuid(run_id):
        raise Invalid("invalid", "the id of a run is a UUID in lower case, best a UUIDv7")
    run = await services.database.run(
        history.start_from, caller, job_id, start, run_id, services.clock(), _origin(request)
    )
    services.changes.touched(runs={run.id})
    response.headers["location"] = f"/api/v1/runs/{run.id}"
    return run


def _origin(request: Request) -> Origin | None:
    """The run that a step's request was made in, as whoever it called hands it on."""
    run = request.headers.get("x-roundsman-run", "")[:128]
    if not run:
        return None
    return Origin(kind="step", run=run, task=request.headers.get("x-roundsman-task", "")[:128])


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
