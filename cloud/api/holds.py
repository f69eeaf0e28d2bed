"""Holds and the emergency stop."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import holds
from cloud.storage.views import holds as views
from contract.http import Page
from contract.http.holds import Hold, HoldKind, SetHold

router = APIRouter(tags=["holds"])
SET = body_schema(SetHold, required=False)
Id = Annotated[str, Path(max_length=128)]


@router.get("/holds", operation_id="list_holds")
async def list_holds(
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Hold]:
    """What nothing new may start on."""
    return await services.database.read(
        views.list_holds, caller.org, services.clock(), cursor=cursor, limit=limit
    )


@router.put("/holds/{kind}/{id}", operation_id="set_hold", openapi_extra=SET)
async def set_hold(
    kind: HoldKind, id: Id, request: Request, services: ServicesOf, caller: CallerOf
) -> Hold:
    """Let nothing new start on a site, gateway or device; on `org/all`: the emergency stop."""
    wanted = await read_body(request, SetHold)
    return await services.database.run(holds.set_hold, caller, kind, id, wanted, services.clock())


@router.delete("/holds/{kind}/{id}", status_code=204, operation_id="lift_hold")
async def lift_hold(kind: HoldKind, id: Id, services: ServicesOf, caller: CallerOf) -> None:
    """Lift a hold: what waited for it is due again."""
    runs = await services.database.run(holds.lift_hold, caller, kind, id, services.clock())
    services.changes.touched(runs)
