"""Artifacts: push, list, look at. Their bytes: `downloads.py`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import UNSAID, media_type_of
from cloud.artifacts.base import ImageFacts, inspect_image
from cloud.coordinator.artifacts import add_artifact, check_artifact_name
from cloud.errors import Invalid
from cloud.storage.views import artifacts as views
from contract.http import Page
from contract.http.fleet import Artifact

router = APIRouter(tags=["artifacts"])
BYTES = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/artifacts", status_code=201, operation_id="push_artifact", openapi_extra=BYTES)
async def push_artifact(
    request: Request,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    name: Annotated[str, Query(description="1 to 128 letters, digits, `.`, `_`, `+` and `-`.")],
    kind: Annotated[
        Literal["image", "file"] | None,
        Query(description="`image` has it checked as MCUboot image even if it does not look so."),
    ] = None,
) -> Artifact:
    """Store the body under a name. The same bytes again change nothing (200)."""
    check_artifact_name(name)
    limit = services.limits.max_artifact_bytes
    if int(request.headers.get("content-length", 0)) > limit:
        raise Invalid("too_large", f"an artifact has at most {limit} bytes")

    def inspect(path: Path) -> ImageFacts | None:
        return None if kind == "file" else inspect_image(path, must_be_image=kind == "image")

    stored, image = await services.artifacts.save(_chunks(request), limit, inspect)
    said = media_type_of(request)
    media_type = "application/octet-stream" if said in UNSAID else said[:128]
    is_new = await services.database.run(
        add_artifact, caller, name, stored, image, media_type, services.clock()
    )
    if not is_new:
        response.status_code = 200
    response.headers["location"] = f"/api/v1/artifacts/{name}"
    return await services.database.read(views.get_artifact, caller.org, name)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise Invalid("invalid", "the upload broke off") from None


@router.get("/artifacts", operation_id="list_artifacts")
async def list_artifacts(
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Artifact]:
    return await services.database.read(
        views.list_artifacts, caller.org, cursor=cursor, limit=limit
    )


@router.get("/artifacts/{name}", operation_id="get_artifact")
async def get_artifact(name: str, services: ServicesOf, caller: CallerOf) -> Artifact:
    return await services.database.read(views.get_artifact, caller.org, name)
