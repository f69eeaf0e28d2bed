"""Devices, as their gateways last described them."""

from typing import Annotated

from fastapi import APIRouter, Query

from cloud.api.access import CallerOf, ServicesOf
from cloud.storage.views import devices as views
from contract.http import Page
from contract.http.fleet import Device

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
