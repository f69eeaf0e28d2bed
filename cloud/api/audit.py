"""The audit log."""

from typing import Annotated

from fastapi import APIRouter, Query

from cloud.api.access import CallerOf, ServicesOf
from cloud.storage.views import audit as views
from contract.http import Page
from contract.http.audit import AuditLine

router = APIRouter(tags=["audit"])


@router.get("/audit", operation_id="list_audit")
async def list_audit(
    services: ServicesOf,
    caller: CallerOf,
    subject: Annotated[
        str | None, Query(max_length=256, description="Only what was done to this.")
    ] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[AuditLine]:
    """Who did what: secrets, holds, deletions, retries, forced cancels; the newest first."""
    return await services.database.read(
        views.list_audit, caller.org, subject=subject, cursor=cursor, limit=limit
    )
