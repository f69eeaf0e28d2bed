"""The CA of the caller's org, and the certificates it gave to devices."""

from typing import Annotated

from fastapi import APIRouter, Query

from cloud.api.access import CallerOf, ServicesOf
from cloud.coordinator import certificates
from cloud.storage.views import certificates as views
from contract.http import Page
from contract.http.certificates import Authority, Certificate

router = APIRouter(tags=["certificates"])


@router.get("/ca", operation_id="get_authority")
async def get_authority(services: ServicesOf, caller: CallerOf) -> Authority:
    """The CA's certificate, which servers of devices have to trust; made when first asked for."""
    return await services.database.run(
        certificates.authority, caller.org, services.vault, services.clock()
    )


@router.get("/devices/{device}/certificates", operation_id="list_certificates")
async def list_certificates(
    device: str,
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Certificate]:
    """The certificates a device was given, the newest first."""
    return await services.database.read(
        views.list_certificates, caller.org, device, cursor=cursor, limit=limit
    )
