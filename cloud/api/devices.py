"""Devices, as their gateways last described them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import devices, moving
from cloud.storage.views import devices as views
from contract.http import Page
from contract.http.fleet import Device, MoveDevice
from contract.http.targets import EditDevice

router = APIRouter(tags=["devices"])


@router.get("/devices", operation_id="list_devices")
async def list_devices(
    services: ServicesOf,
    caller: CallerOf,
    gateway: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Device]:
    return await services.database.read(
        views.list_devices, caller.org, gateway=gateway, cursor=cursor, limit=limit
    )


@router.get("/devices/{device}", operation_id="get_device")
async def get_device(device: str, services: ServicesOf, caller: CallerOf) -> Device:
    return await services.database.read(views.get_device, caller.org, device)


@router.patch(
    "/devices/{device}", operation_id="edit_device", openapi_extra=body_schema(EditDevice)
)
async def edit_device(
    device: str, request: Request, services: ServicesOf, caller: CallerOf
) -> Device:
    """Set tags and attributes over those its gateway gives, for good; a null takes one away."""
    edit = await read_body(request, EditDevice)
    return await services.database.run(devices.edit_device, caller, device, edit)


@router.post(
    "/devices/{device}/move", operation_id="move_device", openapi_extra=body_schema(MoveDevice)
)
async def move_device(
    device: str, request: Request, services: ServicesOf, caller: CallerOf
) -> Device:
    """Decide which of the gateways that have it in their configuration is to own a device."""
    asked = await read_body(request, MoveDevice)
    shown, runs = await services.database.run(
        moving.move_device, caller, device, asked, services.clock()
    )
    services.changes.touched(runs, ended=True)
    services.changes.to_send()
    return shown
