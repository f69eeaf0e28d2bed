"""Every address of the console; each page with a live part has it again below `/live`."""

import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from cloud.console import live, readers, visitors
from cloud.console.pages import STATIC, ErrorPage, Frame, PageOf, render
from cloud.console.visitors import LoginNeeded, PosterOf, VisitorOf, html, see_other, to_login
from cloud.coordinator import links
from cloud.coordinator import runs as run_actions
from cloud.errors import CloudError, Conflict, Invalid, NotFound, NotPermitted
from contract.http.runs import CancelRun, StartRun

LIVE = "/live"


class _Route(APIRoute):
    """A route whose errors are pages, and which sends who has no session to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_with_pages(request: Request) -> Response:
            try:
                return await answer(request)
            except LoginNeeded as needed:
                is_stream = request.url.path.startswith(LIVE)
                return html("", 401) if is_stream else to_login(needed.wanted)
            except CloudError as error:
                return _error_page(error)

        return answer_with_pages


router = APIRouter(include_in_schema=False, route_class=_Route)


def page_route(
    path: str,
) -> Callable[[Callable[..., Awaitable[PageOf]]], Callable[..., Awaitable[PageOf]]]:
    """Serve a reader as a page and, below `/live`, as its stream of updates."""

    def serve(read: Callable[..., Awaitable[PageOf]]) -> Callable[..., Awaitable[PageOf]]:
        async def whole(request: Request, visitor: VisitorOf) -> Response:
            return html(render(await _read(read, request, visitor)))

        async def stream(request: Request, visitor: VisitorOf) -> Response:
            await _read(read, request, visitor)  # what is not there is no stream
            return live.stream(visitor.services, lambda: _read(read, request, visitor))

        router.add_api_route(path, whole, methods=["GET"], name=path)
        router.add_api_route(LIVE + path, stream, methods=["GET"], name=LIVE + path)
        return read

    return serve


async def _read(
    read: Callable[..., Awaitable[PageOf]], request: Request, visitor: visitors.Visitor
) -> PageOf:
    asked = request.query_params
    return await read(
        visitor, *request.path_params.values(), asked.get("show", "all"), asked.get("cursor")
    )


@page_route("/")
@page_route("/jobs")
async def jobs(visitor: visitors.Visitor, show: str, cursor: str | None) -> PageOf:
    return await readers.jobs_page(visitor, show, cursor)


@page_route("/jobs/{job}")
async def job(visitor: visitors.Visitor, job: str, show: str, cursor: str | None) -> PageOf:
    return await readers.job_page(visitor, job, cursor)


@page_route("/runs")
async def runs(visitor: visitors.Visitor, show: str, cursor: str | None) -> PageOf:
    return await readers.runs_page(visitor, show, cursor)


@page_route("/runs/{run}")
async def run(visitor: visitors.Visitor, run: str, show: str, cursor: str | None) -> PageOf:
    return await readers.run_page(visitor, run, show, cursor)


@page_route("/tasks/{task}")
async def task(visitor: visitors.Visitor, task: str, show: str, cursor: str | None) -> PageOf:
    return await readers.task_page(visitor, task)


@page_route("/devices")
async def devices(visitor: visitors.Visitor, show: str, cursor: str | None) -> PageOf:
    return await readers.devices_page(visitor, cursor)


@page_route("/gateways")
async def gateways(visitor: visitors.Visitor, show: str, cursor: str | None) -> PageOf:
    return await readers.gateways_page(visitor, cursor)


@router.post("/jobs/{job}/runs")
async def start_run(visitor: PosterOf, job: str) -> Response:
    services = visitor.services
    try:
        started = await services.database.run(
            run_actions.start_run,
            visitor.caller,
            job,
            StartRun(),
            services.new_id(),
            services.clock(),
        )
    except (Conflict, Invalid) as error:
        page = await readers.job_page(visitor, job, None, problem=_sentence(error))
        return html(render(page), 409 if isinstance(error, Conflict) else 422)
    services.changes.touched(runs={started.id})
    return see_other(f"/runs/{started.id}")


@router.post("/runs/{run}/cancel")
async def cancel_run(visitor: PosterOf, run: str) -> Response:
    services = visitor.services
    asked = CancelRun(reason="cancelled in the console")
    try:
        await services.database.run(
            run_actions.cancel_run, visitor.caller, run, asked, services.clock()
        )
    except Conflict as error:
        page = await readers.run_page(visitor, run, "all", None, problem=_sentence(error))
        return html(render(page), 409)
    services.changes.touched(runs={run})
    return see_other(f"/runs/{run}")


@router.post("/runs/{run}/report-link")
async def make_report_link(visitor: PosterOf, run: str) -> Response:
    services = visitor.services
    link = await services.database.run(
        links.make_report_link, visitor.caller, run, services.clock(), services.address()
    )
    page = await readers.run_page(visitor, run, "all", None, link=link)
    return html(render(page))


def _sentence(error: CloudError) -> str:
    items = error.items if isinstance(error, Invalid) else []
    return "; ".join([str(error), *(f"{item.key}: {item.message}" for item in items)])


router.add_api_route("/login", visitors.show_login, methods=["GET"])
router.add_api_route("/login", visitors.log_in, methods=["POST"])
router.add_api_route("/logout", visitors.log_out, methods=["POST"])


def _error_page(error: CloudError) -> Response:
    match error:
        case NotFound():
            page, status = ErrorPage(frame=Frame(), what="Not found", detail=str(error)), 404
        case NotPermitted():
            page, status = ErrorPage(frame=Frame(), what="Not allowed", detail=str(error)), 403
        case Invalid():
            page, status = ErrorPage(frame=Frame(), what="Not valid", detail=_sentence(error)), 422
        case _:
            page = ErrorPage(frame=Frame(), what="Not possible just now", detail=str(error))
            status = 503
    return html(render(page), status)


class _Static(StaticFiles):
    """Files by `/static/{digest}/{name}`: the digest is in the address, so they never go stale."""

    def get_path(self, scope: Scope) -> str:
        return super().get_path(scope).partition("/")[2]

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def install(app: FastAPI) -> None:
    """Add the console to the application."""
    app.include_router(router)
    app.mount("/static", _Static(directory=STATIC), name="static")
