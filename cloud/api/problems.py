"""Our errors as HTTP: the one table from errors to problem documents (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from cloud import errors
from contract.documents import DocumentInvalid
from contract.http.problems import CODES, MEDIA_TYPE, Problem, ProblemItem

log = structlog.get_logger()

# What to do next, where the text of the error does not say it already.
_HELP: Final = {
    "not_authenticated": "Send `Authorization: Bearer <token>`; the administrator's token was "
    "printed when the service first started.",
    "not_permitted": "Use a token whose role allows this.",
    "changed": "Read it again, apply your change to what is there now, and send that.",
    "run_in_flight": "Wait for that run, cancel it first, or start with `replace`.",
    "job_paused": "Resume the job first.",
    "retry_going_on": "Try again in a moment.",
    "link_expired": "Open the run and make a new link.",
    "wait_timed_out": "Ask again: the run goes on.",
    "name_taken": "Choose another name: what a name stands for never changes.",
    "storage_full": "Make room on the service's disk, then try again: nothing was stored.",
    "unavailable": "Try again in a moment.",
    "internal": "Look for this request id in the service's log.",
    "method_not_allowed": "See /api/v1/openapi.json for what this address does.",
}
_BY_STATUS: Final = {401: "not_authenticated", 403: "not_permitted", 404: "not_found",
                     405: "method_not_allowed", 413: "too_large", 503: "unavailable"}  # fmt: skip


def install_problems(app: FastAPI) -> None:
    """Have the application answer every error with a problem document."""
    app.add_exception_handler(errors.CloudError, _cloud_error)
    app.add_exception_handler(DocumentInvalid, _document_invalid)
    app.add_exception_handler(RequestValidationError, _request_invalid)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)


def problem_response(
    request: Request,
    code: str,
    detail: str,
    items: Sequence[ProblemItem] = (),
    run: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem document; `code` is one of `contract.http.problems.CODES`."""
    status, title = CODES.get(code, CODES["internal"])
    problem = Problem(
        title=title,
        status=status,
        code=code,
        detail=detail,
        help=_HELP.get(code, ""),
        request_id=getattr(request.state, "request_id", ""),
        errors=list(items),
        run=run,
    )
    return Response(
        problem.model_dump_json(exclude_defaults=True).encode(),
        status,
        {**(headers or {}), **_headers_of(code)},
        MEDIA_TYPE,
    )


def _headers_of(code: str) -> dict[str, str]:
    match code:
        case "not_authenticated":
            return {"www-authenticate": 'Bearer realm="roundsman"'}
        case "unavailable":
            return {"retry-after": "1"}
        case _:
            return {}


async def _cloud_error(request: Request, error: Exception) -> Response:
    match error:
        case errors.Gone(code=code):
            return problem_response(request, code, str(error))
        case errors.NotFound():
            return problem_response(request, "not_found", str(error))
        case errors.Invalid(code=code, items=items):
            return problem_response(request, code, str(error), items)
        case errors.Conflict(code=code, run=run):
            return problem_response(request, code, str(error), run=run)
        case errors.NotInTime():
            return problem_response(request, "wait_timed_out", str(error))
        case errors.NotPermitted(code=code):
            return problem_response(request, code, str(error))
        case errors.StorageFull():
            log.error("disk is full", reason=str(error))
            return problem_response(request, "storage_full", "nothing was stored")
        case errors.StorageUnavailable():
            log.warning("database does not answer", reason=str(error))
            return problem_response(request, "unavailable", "the database does not answer")
        case _:
            return await _unexpected(request, error)


async def _document_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, DocumentInvalid)
    code = getattr(request.state, "invalid_code", "invalid")
    return problem_response(request, code, _first_and_count(error), document_items(error))


def document_items(error: DocumentInvalid) -> list[ProblemItem]:
    return [
        ProblemItem(message=problem.message, key=problem.key, line=problem.line,
                    column=problem.column)
        for problem in error.problems
    ]  # fmt: skip


def _first_and_count(error: DocumentInvalid) -> str:
    more = len(error.problems) - 1
    return str(error.problems[0]) + (f" (and {more} more)" if more else "")


async def _request_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    items = [
        ProblemItem(
            message=str(one["msg"]),
            key=".".join(str(part) for part in one["loc"] if part != "body"),
        )
        for one in error.errors()
    ]
    detail = "; ".join(f"{item.key}: {item.message}" for item in items)
    return problem_response(request, "invalid", detail, items)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, "invalid")
    if code == "not_found":
        detail = f"there is nothing at {request.url.path}"
    elif code == "method_not_allowed":
        detail = f"{request.url.path} does not take {request.method}"
    else:
        detail = str(error.detail or HTTPStatus(error.status_code).phrase)
    headers = dict(error.headers or {})
    return problem_response(request, code, detail, headers=headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the exception itself, with the request id bound.
    return problem_response(request, "internal", "the service made a mistake; it is in its log")
