"""Runs: list, look at, cancel; their tasks and log."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.api.filters import between, period_of, statuses_of
from cloud.coordinator import runs
from cloud.storage.views import logs
from cloud.storage.views import runs as views
from cloud.storage.views import tasks as task_views
from contract.http import Page
from contract.http.runs import CancelRun, Run, RunLogLine
from contract.http.tasks import Task
from contract.lifecycle import TaskStatus

router = APIRouter(tags=["runs"])
CANCEL = body_schema(CancelRun, required=False)
Limit = Annotated[int, Query(ge=1, le=1000)]
Moment = Annotated[
    str | None, Query(description="Milliseconds since 1970, or RFC 3339; `to` is exclusive.")
]


@router.get("/runs", operation_id="list_runs")
async def list_runs(
    services: ServicesOf,
    caller: CallerOf,
    status: Annotated[
        list[str] | None, Query(description="Several, also with commas; names of the seeds too.")
    ] = None,
    job: str | None = None,
    type: Annotated[list[str] | None, Query()] = None,
    has_errors: bool | None = None,
    created_from: Moment = None,
    created_to: Moment = None,
    started_from: Moment = None,
    started_to: Moment = None,
    ended_from: Moment = None,
    ended_to: Moment = None,
    started_by: Annotated[
        str | None, Query(description="Only runs that this run started, by trigger or step.")
    ] = None,
    system: Annotated[bool, Query(description="Also the runs of system jobs.")] = False,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Run]:
    """Runs, the newest first."""
    return await services.database.read(
        views.list_runs,
        caller.org,
        services.clock(),
        job=job,
        statuses=statuses_of(status or []),
        types=type or [],
        has_errors=has_errors,
        created=between(created_from, created_to, "created"),
        started=between(started_from, started_to, "started"),
        ended=between(ended_from, ended_to, "ended"),
        origin_run=started_by,
        system=system,
        cursor=cursor,
        limit=limit,
    )


@router.get("/runs/{run_id}", operation_id="get_run")
async def get_run(run_id: str, services: ServicesOf, caller: CallerOf) -> Run:
    return await services.database.read(views.get_run, caller.org, run_id, services.clock())


@router.post("/runs/{run_id}/cancel", operation_id="cancel_run", openapi_extra=CANCEL)
async def cancel_run(run_id: str, request: Request, services: ServicesOf, caller: CallerOf) -> Run:
    """Cancel: nothing starts any more, and what is in flight completes, or with `force` stops."""
    cancel = await read_body(request, CancelRun)
    run = await services.database.run(runs.cancel_run, caller, run_id, cancel, services.clock())
    services.changes.touched(runs={run_id})
    services.changes.to_send()
    return run


@router.get("/runs/{run_id}/tasks", operation_id="list_tasks")
async def list_tasks(
    run_id: str,
    services: ServicesOf,
    caller: CallerOf,
    status: Annotated[list[TaskStatus] | None, Query()] = None,
    device: str | None = None,
    gateway: str | None = None,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Task]:
    """The tasks of a run in their order."""
    return await services.database.read(
        task_views.list_tasks,
        caller.org,
        run_id,
        services.clock(),
        statuses=status or [],
        device=device,
        gateway=gateway,
        cursor=cursor,
        limit=limit,
    )


@router.get("/runs/{run_id}/log", operation_id="get_run_log")
async def get_log(
    run_id: str,
    services: ServicesOf,
    caller: CallerOf,
    level: Annotated[list[str] | None, Query()] = None,
    contains: Annotated[str | None, Query(description="A part of the text.")] = None,
    period: Annotated[
        str | None, Query(description="today, yesterday, or so long until now: 2h 30m.")
    ] = None,
    from_: Annotated[
        str | None, Query(alias="from", description="Over the period's own beginning.")
    ] = None,
    to: Annotated[str | None, Query(description="Exclusive; over the period's own end.")] = None,
    zone: Annotated[str, Query(description="Whose days `today` and `yesterday` are.")] = "UTC",
    cursor: str | None = None,
    limit: Limit = 100,
) -> Page[RunLogLine]:
    """What was noted during the run, by the cloud and by its gateways; the oldest line first."""
    return await services.database.read(
        logs.run_log,
        caller.org,
        run_id,
        levels=level or [],
        contains=contains,
        period=period_of(period, from_, to, zone, services.clock()),
        words=(period, from_, to, zone),
        cursor=cursor,
        limit=limit,
    )
