"""What stays of runs: log lines, results, triggers, waiting for a status, links to the report."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.api.filters import statuses_of
from cloud.coordinator import extensions, history, links
from cloud.errors import Conflict, Invalid, NotInTime
from cloud.storage.views import results, runs
from contract.durations import parse_duration
from contract.http import Page
from contract.http.history import AddLogLine, ExtendRun, Firing, ReportLink, TaskResult
from contract.http.runs import Run
from contract.lifecycle import RUN_ENDS, can_reach

router = APIRouter(tags=["runs"])
LINE = body_schema(AddLogLine)
EXTEND = body_schema(ExtendRun)
Limit = Annotated[int, Query(ge=1, le=1000)]
LONGEST_WAIT_S: Final = 300.0
# What other replicas did is seen by looking.
LOOK_EVERY_S: Final = 1.0


@router.post("/runs/{run_id}/log", status_code=204, operation_id="add_log_line",
             openapi_extra=LINE)  # fmt: skip
async def add_log_line(
    run_id: str, request: Request, services: ServicesOf, caller: CallerOf
) -> None:
    """Add a line to a run's log, also after its end; an ERROR marks the run."""
    line = await read_body(request, AddLogLine)
    await services.database.run(history.add_log_line, caller, run_id, line, services.clock())
    services.changes.touched(runs={run_id}, ended=False)


@router.post("/runs/{run_id}/items", operation_id="extend_run", openapi_extra=EXTEND)
async def extend_run(run_id: str, request: Request, services: ServicesOf, caller: CallerOf) -> Run:
    """Append items to a run that has not ended; the same `key` again appends nothing."""
    asked = await read_body(request, ExtendRun)
    run = await services.database.run(
        extensions.extend_run, caller, run_id, asked, services.clock()
    )
    services.changes.touched(runs={run_id})
    return run


@router.get("/runs/{run_id}/results", operation_id="list_results")
async def list_results(
    run_id: str,
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[TaskResult]:
    """What became of each target, in order: ok or not, its response if kept, why it failed."""
    return await services.database.read(
        results.list_results, caller.org, run_id, cursor=cursor, limit=limit
    )


@router.get("/runs/{run_id}/triggers", operation_id="list_firings")
async def list_firings(
    run_id: str,
    services: ServicesOf,
    caller: CallerOf,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Firing]:
    """The triggers of a run that fired, wait to fire, or could not."""
    return await services.database.read(
        results.list_firings, caller.org, run_id, cursor=cursor, limit=limit
    )


@router.post("/runs/{run_id}/report-link", operation_id="make_report_link")
async def make_report_link(run_id: str, services: ServicesOf, caller: CallerOf) -> ReportLink:
    """A link to the report that needs no token, valid for 7 days; each call makes a new one."""
    return await services.database.run(
        links.make_report_link, caller, run_id, services.clock(), services.address()
    )


@router.get("/runs/{run_id}/wait", operation_id="wait_for_run")
async def wait_for_run(
    run_id: str,
    services: ServicesOf,
    caller: CallerOf,
    timeout: Annotated[str, Query(description="At most so long, up to 5 minutes: 30s, PT1M.")],  # noqa: ASYNC109
    status: Annotated[
        list[str] | None, Query(alias="for", description="Statuses; any end, if none is named.")
    ] = None,
) -> Run:
    """The run, once it has one of these statuses; one that it has already counts.

    408 `wait_timed_out` when the time is over, 409 `unreachable` when it can no longer come there.
    """
    wanted = statuses_of(status or [], "for") or RUN_ENDS
    left = _seconds(timeout)
    loop = asyncio.get_running_loop()
    until = loop.time() + left
    with services.changes.listen(run_id) as changed:
        while True:
            run = await services.database.read(runs.get_run, caller.org, run_id, services.clock())
            if run.status in wanted:
                return run
            names = ", ".join(sorted(wanted))
            if not can_reach(run.status, wanted):
                raise Conflict("unreachable", f"the run is {run.status}, never again {names}")
            left = until - loop.time()
            if left <= 0 or services.stopping.is_set():
                raise NotInTime(f"the run is {run.status}, not yet {names}")
            await changed.wait(min(left, LOOK_EVERY_S))


def _seconds(text: str) -> float:
    try:
        found = parse_duration(int(text) if text.isdecimal() else text).total_seconds()
    except ValueError as error:
        raise Invalid("invalid", f"timeout: {error}") from None
    return min(found, LONGEST_WAIT_S)
