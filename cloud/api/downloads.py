"""Artifact bytes by digest, for gateways and people; resumable, and never changing."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from cloud.api.access import ServicesOf, reader_of_artifacts
from cloud.api.etags import etag, is_known
from cloud.api.problems import problem_response
from cloud.api.ranges import Part, RangeInvalid, parse_range
from cloud.coordinator.access import Caller
from cloud.coordinator.artifacts import check_readable
from cloud.errors import NotFound
from contract.topics import Address

router = APIRouter(tags=["artifacts"])


@router.head("/artifacts/{sha256}", include_in_schema=False)
@router.get(
    "/artifacts/{sha256}",
    operation_id="download_artifact",
    response_class=Response,
    responses={206: {"description": "A part"}, 416: {"description": "There is no such part"}},
)
async def download_artifact(
    sha256: str,
    request: Request,
    services: ServicesOf,
    reader: Annotated[Caller | Address, Depends(reader_of_artifacts)],
) -> Response:
    """The bytes of an artifact, by a gateway's own token or a person's. Takes one `Range`."""
    media_type = await services.database.read(check_readable, reader.org, sha256)
    size = await services.artifacts.size(sha256)
    if size is None:
        raise NotFound(f"file of artifact {sha256}; push it again")
    tag = etag(sha256)
    headers = {
        "etag": tag,
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=31536000, immutable",
        "content-disposition": "attachment",
    }
    if is_known(request, tag):
        return Response(status_code=304, headers=headers)
    # If-Range holds the tag of what the caller has the beginning of; another one: all anew.
    is_same = request.headers.get("if-range", tag) == tag
    try:
        part = parse_range(request.headers.get("range"), size) if is_same else None
    except RangeInvalid as error:
        outside = {"content-range": f"bytes */{size}"}
        return problem_response(request, "range_invalid", str(error), headers=outside)
    if part is not None:
        last = part.start + part.length - 1
        headers["content-range"] = f"bytes {part.start}-{last}/{size}"
    wanted = part or Part(0, size)
    headers["content-length"] = str(wanted.length)
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(None, status, headers, media_type)
    body = services.artifacts.read(sha256, wanted.start, wanted.length)
    return StreamingResponse(body, status, headers, media_type)
