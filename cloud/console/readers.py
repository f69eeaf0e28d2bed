"""How each page comes out of the database: address in, page out."""

from cloud.console.pages import (
    RUN_FILTERS,
    DevicesPage,
    GatewaysPage,
    JobPage,
    JobsPage,
    RunPage,
    RunsPage,
    TaskPage,
)
from cloud.console.visitors import Visitor
from cloud.coordinator import deletions
from cloud.storage.views import devices, gateways, jobs, logs, results, runs, tasks
from contract.http.history import ReportLink
from contract.lifecycle import TASK_ENDS, TASK_OPEN, TaskStatus

PAGE_SIZE = 50
LOG_LINES = 20
TASK_FILTERS: dict[str, frozenset[TaskStatus]] = {
    "pending": frozenset({TaskStatus.SCHEDULED}),
    "in_flight": TASK_OPEN,
    "retrying": frozenset({TaskStatus.RESCHEDULED}),
    **{status.value: frozenset({status}) for status in TASK_ENDS},
}


async def jobs_page(visitor: Visitor, show: str, cursor: str | None) -> JobsPage:
    services = visitor.services
    show = show if show in ("pending", "failed") else "all"
    found = await services.database.read(
        jobs.list_jobs,
        visitor.caller.org,
        services.clock(),
        run_statuses=RUN_FILTERS[show],
        cursor=cursor,
        limit=PAGE_SIZE,
    )
    return JobsPage(
        frame=visitor.frame,
        show=show,
        cursor=cursor,
        next_cursor=found.next_cursor,
        jobs=tuple(found.items),
    )


async def job_page(visitor: Visitor, job: str, cursor: str | None, problem: str = "") -> JobPage:
    services, org = visitor.services, visitor.caller.org
    it = await services.database.read(jobs.get_job, org, job, services.clock())
    found = await services.database.read(
        runs.list_runs, org, services.clock(), job=job, cursor=cursor, limit=20
    )
    references = await services.database.read(deletions.job_references, org, job)
    return JobPage(
        frame=visitor.frame,
        job=it,
        references=references,
        runs=tuple(found.items),
        cursor=cursor,
        next_cursor=found.next_cursor,
        problem=problem,
    )


async def runs_page(visitor: Visitor, show: str, cursor: str | None) -> RunsPage:
    services = visitor.services
    show = show if show in RUN_FILTERS else "all"
    found = await services.database.read(
        runs.list_runs,
        visitor.caller.org,
        services.clock(),
        statuses=RUN_FILTERS[show],
        cursor=cursor,
        limit=PAGE_SIZE,
    )
    return RunsPage(
        frame=visitor.frame,
        show=show,
        cursor=cursor,
        next_cursor=found.next_cursor,
        runs=tuple(found.items),
    )


async def run_page(
    visitor: Visitor,
    run: str,
    show: str,
    cursor: str | None,
    problem: str = "",
    link: ReportLink | None = None,
) -> RunPage:
    services, org = visitor.services, visitor.caller.org
    show = show if show in TASK_FILTERS else "all"
    it = await services.database.read(runs.get_run, org, run, services.clock())
    found = await services.database.read(
        tasks.list_tasks,
        org,
        run,
        services.clock(),
        statuses=TASK_FILTERS.get(show, frozenset()),
        cursor=cursor,
        limit=PAGE_SIZE,
    )
    started = await services.database.read(
        runs.list_runs, org, services.clock(), origin_run=run, limit=20
    )
    lines = await services.database.read(logs.newest, org, run, LOG_LINES)
    firings = await services.database.read(results.list_firings, org, run, limit=20)
    return RunPage(
        frame=visitor.frame,
        run=it,
        tasks=tuple(found.items),
        started=tuple(started.items),
        log=tuple(lines),
        firings=tuple(firings.items),
        link=link,
        show=show,
        cursor=cursor,
        next_cursor=found.next_cursor,
        problem=problem,
    )


async def task_page(visitor: Visitor, task: str) -> TaskPage:
    services = visitor.services
    found = await services.database.read(tasks.get_task, visitor.caller.org, task, services.clock())
    return TaskPage(frame=visitor.frame, task=found)


async def devices_page(visitor: Visitor, cursor: str | None) -> DevicesPage:
    found = await visitor.services.database.read(
        devices.list_devices, visitor.caller.org, cursor=cursor, limit=PAGE_SIZE
    )
    return DevicesPage(
        frame=visitor.frame,
        devices=tuple(found.items),
        cursor=cursor,
        next_cursor=found.next_cursor,
    )


async def gateways_page(visitor: Visitor, cursor: str | None) -> GatewaysPage:
    services = visitor.services
    found = await services.database.read(
        gateways.list_gateways,
        visitor.caller.org,
        services.clock(),
        cursor=cursor,
        limit=PAGE_SIZE,
    )
    return GatewaysPage(
        frame=visitor.frame,
        gateways=tuple(found.items),
        cursor=cursor,
        next_cursor=found.next_cursor,
    )
