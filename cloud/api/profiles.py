"""Profiles: deployed to gateways and withdrawn, as runs; and what is deployed where."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import profiles
from cloud.errors import NotFound
from cloud.storage.views import profiles as views
from contract.http import Page
from contract.http.fleet import GatewayProfile
from contract.http.operations import DeployProfile, WithdrawProfile
from contract.http.runs import Run

router = APIRouter(tags=["operations"])
DEPLOY = body_schema(DeployProfile)
WITHDRAW = body_schema(WithdrawProfile)


@router.get("/profiles", operation_id="list_profiles")
async def list_profiles(
    services: ServicesOf,
    caller: CallerOf,
    name: Annotated[str | None, Query(max_length=64)] = None,
    gateway: Annotated[str | None, Query(max_length=63)] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[GatewayProfile]:
    """What is deployed where, and what gateways have said of it."""
    return await services.database.read(
        views.list_profiles, caller.org, name=name, gateway=gateway, cursor=cursor, limit=limit
    )


@router.post("/profiles/deploy", status_code=202, operation_id="deploy_profile",
             openapi_extra=DEPLOY)  # fmt: skip
async def deploy_profile(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Run:
    """Have gateways use an artifact as a profile; the run ends when each has answered."""
    asked = await read_body(request, DeployProfile)
    sha256, size = await services.database.read(profiles.find_file, caller.org, asked.artifact)
    if await services.artifacts.size(sha256) != size:
        raise NotFound(f"file of artifact {sha256}; push it again")
    data = b"".join([chunk async for chunk in services.artifacts.read(sha256, 0, size)])
    profiles.check_file(asked.name, data)
    run = await services.database.run(
        profiles.start, caller, asked, (sha256, size), services.new_id(), services.clock()
    )
    services.changes.touched(runs={run.id})
    response.headers["location"] = f"/api/v1/runs/{run.id}"
    return run


@router.post("/profiles/withdraw", status_code=202, operation_id="withdraw_profile",
             openapi_extra=WITHDRAW)  # fmt: skip
async def withdraw_profile(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Run:
    """Have gateways go back to their own profile of a name; one that has none refuses."""
    asked = await read_body(request, WithdrawProfile)
    run = await services.database.run(
        profiles.start, caller, asked, None, services.new_id(), services.clock()
    )
    services.changes.touched(runs={run.id})
    response.headers["location"] = f"/api/v1/runs/{run.id}"
    return run
