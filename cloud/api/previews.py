"""What a run would be about, before anything starts."""

from fastapi import APIRouter, Request

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body, read_document
from cloud.coordinator import previews
from contract.http.targets import Preview, PreviewAsked
from contract.job_document import JobDocument

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs/{job_id}/preview",
    operation_id="preview_job",
    openapi_extra=body_schema(PreviewAsked, required=False),
)
async def preview_job(
    job_id: str, request: Request, services: ServicesOf, caller: CallerOf
) -> Preview:
    """How many targets a run would have now, 20 of them, and who would have to wait and why."""
    asked = await read_body(request, PreviewAsked)
    return await services.database.read(
        previews.preview_job, caller.org, job_id, asked, services.clock()
    )


@router.post(
    "/preview",
    operation_id="preview_document",
    openapi_extra=body_schema(JobDocument, "application/yaml", "application/json"),
)
async def preview_document(request: Request, services: ServicesOf, caller: CallerOf) -> Preview:
    """The same for a document that is not saved; nothing is kept."""
    document = await read_document(request, JobDocument)
    return await services.database.read(
        previews.preview_document, caller.org, document, services.clock()
    )
