"""Background operations: each is a run, and the file of an export a download."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import JsonValue
from starlette.requests import ClientDisconnect

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import gateway_stops, operations, selections
from cloud.coordinator.access import Caller
from cloud.coordinator.services import Services
from cloud.errors import Invalid, NotFound
from cloud.storage.views import runs as views
from cloud.storage.views import targets as target_views
from contract.http.operations import ActOnDevices, StopGateways
from contract.http.runs import Run
from contract.http.targets import Selection

router = APIRouter(tags=["operations"])
CSV = {
    "requestBody": {
        "required": True,
        "content": {"text/csv": {"schema": {"type": "string", "format": "binary"}}},
    }
}
SELECTION = body_schema(Selection, required=False)
ACT = body_schema(ActOnDevices)
GATEWAYS = body_schema(StopGateways)
Mode = Annotated[
    Literal["keep_good", "all_or_nothing"],
    Query(description="Store the good lines and report the others, or all lines or none."),
]


@router.post("/tables/{table}/import", status_code=202, operation_id="import_rows",
             openapi_extra=CSV)  # fmt: skip
async def import_rows(
    table: str,
    request: Request,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    mode: Mode = "keep_good",
) -> Run:
    """Add the rows of a CSV file, whose first line names the columns; a column `id` is left out."""
    await services.database.read(target_views.get_table, caller.org, table)
    return await _import(
        request, response, services, caller, "import_rows", {"table": table, "mode": mode}
    )


@router.post("/users/import", status_code=202, operation_id="import_users", openapi_extra=CSV)
async def import_users(
    request: Request,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    mode: Mode = "keep_good",
) -> Run:
    """Add or change users: columns id, name, type, email, phone, tags.NAME, attributes.NAME."""
    return await _import(request, response, services, caller, "import_users", {"mode": mode})


@router.post("/devices/import", status_code=202, operation_id="import_devices", openapi_extra=CSV)
async def import_devices(
    request: Request,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    mode: Mode = "keep_good",
) -> Run:
    """Set tags and attributes of devices: columns id, tags.NAME, attributes.NAME."""
    return await _import(request, response, services, caller, "import_devices", {"mode": mode})


async def _import(
    request: Request,
    response: Response,
    services: Services,
    caller: Caller,
    type: str,
    asked: dict[str, JsonValue],
) -> Run:
    limit = services.limits.max_artifact_bytes
    if int(request.headers.get("content-length", 0)) > limit:
        raise Invalid("too_large", f"a file has at most {limit} bytes")
    stored, _ = await services.artifacts.save(_chunks(request), limit, lambda path: None)
    if not stored.size:
        raise Invalid("invalid", "the file is empty")
    asked |= {"file": stored.sha256, "size": stored.size}
    return await _start(response, services, caller, type, asked)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise Invalid("invalid", "the upload broke off") from None


async def _start(
    response: Response,
    services: Services,
    caller: Caller,
    type: str,
    asked: dict[str, JsonValue],
) -> Run:
    run = await services.database.run(
        operations.start_operation, caller, type, asked, services.new_id(), services.clock()
    )
    return _started(response, services, run)


def _started(response: Response, services: Services, run: Run) -> Run:
    services.changes.touched(runs={run.id})
    response.headers["location"] = f"/api/v1/runs/{run.id}"
    return run


@router.post("/tables/{table}/export", status_code=202, operation_id="export_rows",
             openapi_extra=SELECTION)  # fmt: skip
async def export_rows(
    table: str, request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Run:
    """Write the rows that fit into a CSV file, to be downloaded when the run has ended."""
    asked = await _selection(request) | {"table": table}
    return await _start(response, services, caller, "export_rows", asked)


@router.post("/tables/{table}/delete-rows", status_code=202, operation_id="delete_rows",
             openapi_extra=SELECTION)  # fmt: skip
async def delete_rows(
    table: str, request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Run:
    """Delete the rows that fit."""
    asked = await _selection(request) | {"table": table}
    return await _start(response, services, caller, "delete_rows", asked)


@router.post("/{noun}/export", status_code=202, operation_id="export_targets",
             openapi_extra=SELECTION)  # fmt: skip
async def export_targets(
    noun: Literal["users", "devices"],
    request: Request,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
) -> Run:
    """Write the users or devices that fit into a CSV file."""
    return await _start(response, services, caller, f"export_{noun}", await _selection(request))


@router.post("/{noun}/delete", status_code=202, operation_id="delete_targets",
             openapi_extra=SELECTION)  # fmt: skip
async def delete_targets(
    noun: Literal["users", "devices"],
    request: Request,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
) -> Run:
    """Delete the users that fit, or the devices that no gateway owns."""
    return await _start(response, services, caller, f"delete_{noun}", await _selection(request))


@router.post("/devices/act", status_code=202, operation_id="act_on_devices", openapi_extra=ACT)
async def act_on_devices(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Run:
    """Edit, hold, release or delete the devices that fit, or start one run of a job on them."""
    asked = await read_body(request, ActOnDevices)
    ids = services.new_id(), services.new_id()
    run = await services.database.run(
        selections.act_on_devices, caller, asked, *ids, services.clock()
    )
    return _started(response, services, run)


@router.post("/gateways/{verb}", status_code=202, operation_id="stop_gateways",
             openapi_extra=GATEWAYS)  # fmt: skip
async def stop_gateways(
    verb: Literal["stop", "start"],
    request: Request,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
) -> Run:
    """Stop gateways: nothing more is offered to them, what has begun ends. Or start them again."""
    asked = await read_body(request, StopGateways)
    run = await services.database.run(
        gateway_stops.start, caller, f"{verb}_gateways", asked, services.new_id(), services.clock()
    )
    return _started(response, services, run)


async def _selection(request: Request) -> dict[str, Any]:
    return (await read_body(request, Selection)).model_dump()


@router.get("/runs/{run_id}/download", operation_id="download_results")
async def download(run_id: str, services: ServicesOf, caller: CallerOf) -> Response:
    """The file that an export has written."""
    run = await services.database.read(views.get_run, caller.org, run_id, services.clock())
    sha256 = run.results.get("file")
    size = await services.artifacts.size(sha256) if isinstance(sha256, str) else None
    if not isinstance(sha256, str) or size is None:
        raise NotFound(f"file of run {run_id}")
    name = f"{run.name.replace(' ', '-')}.csv"
    return StreamingResponse(
        services.artifacts.read(sha256, 0, size),
        media_type="text/csv; charset=utf-8",
        headers={
            "content-length": str(size),
            "content-disposition": f'attachment; filename="{name}"',
        },
    )
