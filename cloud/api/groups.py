"""Groups of devices or users."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import groups
from cloud.storage.views import targets as views
from contract.http import Page
from contract.http.targets import ChangeMembers, EditGroup, Group, Member, NewGroup

router = APIRouter(tags=["groups"])
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.post(
    "/groups",
    status_code=201,
    operation_id="create_group",
    openapi_extra=body_schema(NewGroup),
)
async def create_group(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Group:
    """Make a group, of listed members or of everything that a saved query fits."""
    new = await read_body(request, NewGroup)
    made = await services.database.run(groups.create_group, caller, new, services.clock())
    response.headers["location"] = f"/api/v1/groups/{made.id}"
    return made


@router.get("/groups", operation_id="list_groups")
async def list_groups(
    services: ServicesOf, caller: CallerOf, cursor: str | None = None, limit: Limit = 50
) -> Page[Group]:
    return await services.database.read(views.list_groups, caller.org, cursor=cursor, limit=limit)


@router.get("/groups/{group}", operation_id="get_group")
async def get_group(group: str, services: ServicesOf, caller: CallerOf) -> Group:
    return await services.database.read(views.get_group, caller.org, group)


@router.patch("/groups/{group}", operation_id="edit_group", openapi_extra=body_schema(EditGroup))
async def edit_group(group: str, request: Request, services: ServicesOf, caller: CallerOf) -> Group:
    """Change names, tags and the saved query. Runs that have started keep what they had."""
    edit = await read_body(request, EditGroup)
    return await services.database.run(groups.edit_group, caller, group, edit, services.clock())


@router.delete("/groups/{group}", status_code=204, operation_id="delete_group")
async def delete_group(group: str, services: ServicesOf, caller: CallerOf) -> None:
    """Delete a group; its members stay."""
    await services.database.run(groups.delete_group, caller, group)


@router.get("/groups/{group}/members", operation_id="list_group_members")
async def list_members(
    group: str,
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Member]:
    """The members there are now."""
    return await services.database.read(
        views.list_members, caller.org, group, cursor=cursor, limit=limit
    )


@router.post(
    "/groups/{group}/members",
    operation_id="change_group_members",
    openapi_extra=body_schema(ChangeMembers),
)
async def change_members(
    group: str, request: Request, services: ServicesOf, caller: CallerOf
) -> Group:
    """Add and take out listed members."""
    change = await read_body(request, ChangeMembers)
    return await services.database.run(
        groups.change_members, caller, group, change, services.clock()
    )
