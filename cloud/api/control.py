"""Hands on runs and jobs: pause, resume, change, retry; and freeing a device."""

from fastapi import APIRouter, Request

from cloud.api.access import CallerOf, ServicesOf
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import control, postponing
from contract.http.fleet import Device
from contract.http.jobs import Job
from contract.http.runs import ChangeRun, PauseRun, PostponeRun, RetryRun, Run
from contract.ids import GatewayId, OrgId
from contract.topics import Address

router = APIRouter()
PAUSE = body_schema(PauseRun, required=False)
POSTPONE = body_schema(PostponeRun)
CHANGE = body_schema(ChangeRun)
RETRY = body_schema(RetryRun, required=False)


@router.post("/runs/{run_id}/pause", operation_id="pause_run", openapi_extra=PAUSE, tags=["runs"])
async def pause_run(run_id: str, request: Request, services: ServicesOf, caller: CallerOf) -> Run:
    """Pause a run: nothing more starts, what has not begun is recalled, what runs completes."""
    pause = await read_body(request, PauseRun)
    run = await services.database.run(control.pause_run, caller, run_id, pause, services.clock())
    services.changes.touched(runs={run_id})
    return run


@router.post("/runs/{run_id}/resume", operation_id="resume_run", tags=["runs"])
async def resume_run(run_id: str, services: ServicesOf, caller: CallerOf) -> Run:
    """Lift a person's pause of a run; that of its job or of a window stays."""
    run = await services.database.run(control.resume_run, caller, run_id, services.clock())
    services.changes.touched(runs={run_id})
    return run


@router.post(
    "/runs/{run_id}/postpone",
    operation_id="postpone_run",
    openapi_extra=POSTPONE,
    tags=["runs"],
)
async def postpone_run(
    run_id: str, request: Request, services: ServicesOf, caller: CallerOf
) -> Run:
    """Have a run that waits for its time start later; one that has started refuses."""
    postpone = await read_body(request, PostponeRun)
    run = await services.database.run(
        postponing.postpone_run, caller, run_id, postpone, services.clock()
    )
    services.changes.touched(runs={run_id})
    return run


@router.patch("/runs/{run_id}", operation_id="change_run", openapi_extra=CHANGE, tags=["runs"])
async def change_run(run_id: str, request: Request, services: ServicesOf, caller: CallerOf) -> Run:
    """Change the priority of a run that has not ended."""
    change = await read_body(request, ChangeRun)
    run = await services.database.run(control.change_run, caller, run_id, change, services.clock())
    services.changes.touched(runs={run_id})
    return run


@router.post("/runs/{run_id}/retry", operation_id="retry_run", openapi_extra=RETRY, tags=["runs"])
async def retry_run(run_id: str, request: Request, services: ServicesOf, caller: CallerOf) -> Run:
    """Try failed and timed-out tasks again in the same run; an ended run is open again."""
    retry = await read_body(request, RetryRun)
    run = await services.database.run(control.retry_run, caller, run_id, retry, services.clock())
    services.changes.touched(runs={run_id})
    return run


@router.post("/jobs/{job_id}/pause", operation_id="pause_job", openapi_extra=PAUSE, tags=["jobs"])
async def pause_job(job_id: str, request: Request, services: ServicesOf, caller: CallerOf) -> Job:
    """Pause a job: its runs, its schedule, and every start."""
    pause = await read_body(request, PauseRun)
    job = await services.database.run(control.pause_job, caller, job_id, pause, services.clock())
    services.changes.touched(runs={job.run.id} if job.run else ())
    return job


@router.post("/jobs/{job_id}/resume", operation_id="resume_job", tags=["jobs"])
async def resume_job(job_id: str, services: ServicesOf, caller: CallerOf) -> Job:
    """Resume a job and its runs, but for those that a person paused by themselves."""
    job = await services.database.run(control.resume_job, caller, job_id, services.clock())
    services.changes.touched(runs={job.run.id} if job.run else ())
    return job


@router.post("/devices/{device}/free", operation_id="free_device", tags=["devices"])
async def free_device(device: str, services: ServicesOf, caller: CallerOf) -> Device:
    """Free a device that an attempt still holds whose gateway will not speak of it again."""
    found = await services.database.run(control.free_device, caller, device, services.clock())
    if found.gateway is not None:
        services.changes.touched(gateways={Address(OrgId(caller.org), GatewayId(found.gateway))})
    return found
