"""Every route for programs, in one list."""

from typing import Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from cloud.api import (
    acknowledgments,
    artifacts,
    audit,
    certificates,
    control,
    data_tables,
    device_state,
    devices,
    downloads,
    events,
    gateways,
    groups,
    health,
    history,
    holds,
    jobs,
    operations,
    previews,
    profiles,
    recovery,
    run_reports,
    runs,
    secrets,
    steps,
    tasks,
    users,
)
from cloud.api.access import caller_of
from cloud.api.problems import install_problems
from contract.http import operations as operation_bodies
from contract.http import targets
from contract.http.fleet import MoveDevice, NewGateway, RetireGateway
from contract.http.history import AddLogLine, ExtendRun
from contract.http.holds import SetHold
from contract.http.jobs import DuplicateJob
from contract.http.problems import MEDIA_TYPE, Problem
from contract.http.runs import CancelRun, ChangeRun, PauseRun, PostponeRun, RetryRun, StartRun
from contract.http.tasks import AcknowledgeTask
from contract.job_document import JobDocument

BASE: Final = "/api/v1"
V1: Final[tuple[APIRouter, ...]] = (
    jobs.router,
    runs.router,
    control.router,
    run_reports.router,
    history.router,
    tasks.router,
    devices.router,
    device_state.router,
    certificates.router,
    gateways.router,
    holds.router,
    acknowledgments.tokens,
    steps.router,
    groups.router,
    users.router,
    data_tables.router,
    previews.router,
    operations.router,
    profiles.router,
    recovery.router,
    secrets.router,
    audit.router,
    artifacts.router,
    events.router,
)
BESIDE: Final[tuple[APIRouter, ...]] = (
    acknowledgments.router,
    downloads.router,
    health.router,
    run_reports.links_router,
)
# Bodies that routes read by themselves, so that errors name line and column.
BODIES: Final = (
    AcknowledgeTask,
    SetHold,
    JobDocument,
    DuplicateJob,
    StartRun,
    CancelRun,
    ChangeRun,
    PauseRun,
    PostponeRun,
    RetryRun,
    NewGateway,
    RetireGateway,
    MoveDevice,
    AddLogLine,
    ExtendRun,
)
TARGET_BODIES: Final = (
    targets.EditDevice,
    targets.EditGateway,
    targets.NewGroup,
    targets.EditGroup,
    targets.ChangeMembers,
    targets.NewUser,
    targets.EditUser,
    targets.NewTable,
    targets.NewRows,
    targets.EditRow,
    targets.PreviewAsked,
    targets.Selection,
    operation_bodies.ActOnDevices,
    operation_bodies.StopGateways,
    operation_bodies.DeployProfile,
    operation_bodies.WithdrawProfile,
    targets.SetSecret,
)


def install(app: FastAPI) -> None:
    """Add the API to the application: its routes, its errors, its description."""
    install_problems(app)
    for router in V1:
        # Asked before the body is looked at, and whatever the route itself forgets.
        app.include_router(router, prefix=BASE, dependencies=[Depends(caller_of)])
    for router in BESIDE:
        app.include_router(router)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]


def _described(app: FastAPI) -> dict[str, object]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        _, defined = models_json_schema(
            [(model, "validation") for model in (*BODIES, *TARGET_BODIES, Problem)],
            ref_template="#/components/schemas/{model}",
        )
        for name, definition in defined.get("$defs", {}).items():
            components.setdefault(name, definition)
        problem = {"$ref": "#/components/schemas/Problem"}
        error = {"description": "A problem", "content": {MEDIA_TYPE: {"schema": problem}}}
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                operation["responses"].setdefault("default", error)
        app.openapi_schema = schema
    return app.openapi_schema
