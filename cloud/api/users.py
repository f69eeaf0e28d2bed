"""Users as targets: people whom jobs are about, not those who log in."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import users
from cloud.storage.views import targets as views
from contract.http import Page
from contract.http.targets import EditUser, NewUser, User

router = APIRouter(tags=["users"])


@router.post(
    "/users", status_code=201, operation_id="create_user", openapi_extra=body_schema(NewUser)
)
async def create_user(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> User:
    new = await read_body(request, NewUser)
    made = await services.database.run(users.create_user, caller, new, services.clock())
    response.headers["location"] = f"/api/v1/users/{made.id}"
    return made


@router.get("/users", operation_id="list_users")
async def list_users(
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[User]:
    return await services.database.read(views.list_users, caller.org, cursor=cursor, limit=limit)


@router.get("/users/{user}", operation_id="get_user")
async def get_user(user: str, services: ServicesOf, caller: CallerOf) -> User:
    return await services.database.read(views.get_user, caller.org, user)


@router.patch("/users/{user}", operation_id="edit_user", openapi_extra=body_schema(EditUser))
async def edit_user(user: str, request: Request, services: ServicesOf, caller: CallerOf) -> User:
    edit = await read_body(request, EditUser)
    return await services.database.run(users.edit_user, caller, user, edit, services.clock())


@router.delete("/users/{user}", status_code=204, operation_id="delete_user")
async def delete_user(user: str, services: ServicesOf, caller: CallerOf) -> None:
    await services.database.run(users.delete_user, caller, user)
