"""Gateways: make known, list, look at, replace, retire."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import admissions, devices, gateways
from cloud.storage.views import gateways as views
from contract.http import Page
from contract.http.fleet import Gateway, GatewayWithToken, NewGateway, RetireGateway
from contract.http.targets import EditGateway
from contract.ids import GatewayId
from contract.topics import Address

router = APIRouter(tags=["gateways"])


@router.post(
    "/gateways",
    status_code=201,
    operation_id="create_gateway",
    openapi_extra=body_schema(NewGateway),
)
async def create_gateway(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> GatewayWithToken:
    """Make a gateway known. Its token is in the answer, and never shown again."""
    new = await read_body(request, NewGateway)
    made = await services.database.run(
        gateways.create_gateway, caller, new, services.new_secret(), services.clock()
    )
    response.headers["location"] = f"/api/v1/gateways/{made.id}"
    return made


@router.get("/gateways", operation_id="list_gateways")
async def list_gateways(
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Gateway]:
    return await services.database.read(
        views.list_gateways, caller.org, services.clock(), cursor=cursor, limit=limit
    )


@router.get("/gateways/{gateway}", operation_id="get_gateway")
async def get_gateway(gateway: str, services: ServicesOf, caller: CallerOf) -> Gateway:
    return await services.database.read(views.get_gateway, caller.org, gateway, services.clock())


@router.patch(
    "/gateways/{gateway}", operation_id="edit_gateway", openapi_extra=body_schema(EditGateway)
)
async def edit_gateway(
    gateway: str, request: Request, services: ServicesOf, caller: CallerOf
) -> Gateway:
    """Name it, set its tags and attributes; a null takes one away."""
    edit = await read_body(request, EditGateway)
    return await services.database.run(
        devices.edit_gateway, caller, gateway, edit, services.clock()
    )


@router.post("/gateways/{gateway}/replace", status_code=201, operation_id="replace_gateway")
async def replace_gateway(gateway: str, services: ServicesOf, caller: CallerOf) -> GatewayWithToken:
    """Give out a token for hardware that takes its place; the one before works until its hello."""
    return await services.database.run(
        admissions.replace_gateway, caller, gateway, services.new_secret(), services.clock()
    )


@router.post(
    "/gateways/{gateway}/retire",
    operation_id="retire_gateway",
    openapi_extra=body_schema(RetireGateway, required=False),
)
async def retire_gateway(
    gateway: str, request: Request, services: ServicesOf, caller: CallerOf
) -> Gateway:
    """End it for good: its token is void, what it has in hand is lost, its devices have none."""
    asked = await read_body(request, RetireGateway)
    shown, runs = await services.database.run(
        admissions.retire_gateway, caller, gateway, asked, services.new_secret(), services.clock()
    )
    services.changes.touched(runs, {Address(caller.org, GatewayId(gateway))})
    services.changes.to_send()
    return shown
