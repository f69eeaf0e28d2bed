"""A restored cloud: how it stands, its release, and what gateways hold that it never heard of."""

from typing import Annotated

from fastapi import APIRouter, Query

from cloud.api.access import CallerOf, ServicesOf
from cloud.coordinator import recovery
from cloud.storage.views import orphans as views
from contract.http import Page
from contract.http.fleet import Orphan, Recovery

router = APIRouter(tags=["recovery"])


@router.get("/recovery", operation_id="get_recovery")
async def get_recovery(services: ServicesOf, caller: CallerOf) -> Recovery:
    """Whether a cloud that was restored from a backup still waits, and for which gateways."""
    return await services.database.read(recovery.shown, caller.org)


@router.post("/recovery/release", operation_id="release_recovery")
async def release_recovery(services: ServicesOf, caller: CallerOf) -> Recovery:
    """Fire and offer again, without the gateways that have not said hello yet."""
    return await services.database.run(recovery.release, caller, services.clock())


@router.get("/gateways/{gateway}/orphans", operation_id="list_orphans")
async def list_orphans(
    gateway: str,
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Orphan]:
    """Attempts in its journal whose tasks the cloud has never heard of, with what came of them."""
    return await services.database.read(
        views.list_orphans, caller.org, gateway, cursor=cursor, limit=limit
    )
