"""Named secrets: set, listed by name, deleted; no value ever comes back."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import secrets
from cloud.storage.views import targets as views
from contract.http import Page
from contract.http.targets import Secret, SetSecret

router = APIRouter(tags=["secrets"])


@router.put("/secrets/{name}", operation_id="set_secret", openapi_extra=body_schema(SetSecret))
async def set_secret(name: str, request: Request, services: ServicesOf, caller: CallerOf) -> Secret:
    """Set a secret for `{{ secrets.NAME }}` in steps, new or not."""
    asked = await read_body(request, SetSecret)
    return await services.database.run(
        secrets.set_secret, caller, services.vault, name, asked.value, services.clock()
    )


@router.get("/secrets", operation_id="list_secrets")
async def list_secrets(
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Secret]:
    """Their names, never their values."""
    return await services.database.read(views.list_secrets, caller.org, cursor=cursor, limit=limit)


@router.delete("/secrets/{name}", status_code=204, operation_id="delete_secret")
async def delete_secret(name: str, services: ServicesOf, caller: CallerOf) -> None:
    """Delete a secret; a job that names it no longer starts."""
    await services.database.run(secrets.delete_secret, caller, name, services.clock())
