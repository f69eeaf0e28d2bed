"""Errors as people and programs read them: what happened, what to try; and the exit codes."""

import sys
from enum import IntEnum

from contract.document_problems import DocumentInvalid
from contract.http.problems import Problem, ProblemItem
from contract.lifecycle import RunStatus
from roundsman.errors import (
    ApiError,
    BadRequest,
    Changed,
    Conflict,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RateLimited,
    RoundsmanError,
    ServerError,
    Timeout,
    TransportError,
)


class Exit(IntEnum):
    OK = 0
    FAILURE = 1
    USAGE = 2  # also: a document or request that has to be corrected
    RUN_FAILED = 3  # the run ended with failures
    NOT_AUTHENTICATED = 4  # or not permitted
    NOT_FOUND = 5
    CONFLICT = 6
    UNREACHABLE = 7  # or a service that is not ready
    STILL_PENDING = 8  # at the timeout
    ABORTED = 9  # the run was cancelled or replaced
    RATE_LIMITED = 10
    INTERRUPTED = 130


class Failure(Exception):
    """Something of the command line's own: its text, what to try, and the exit code."""

    def __init__(self, text: str, help: str = "", code: Exit = Exit.FAILURE) -> None:
        super().__init__(text)
        self.help = help
        self.code = code


class DocumentRefused(Exception):
    """The service found what is wrong in the user's own file; `source` is its name."""

    def __init__(self, problem: Problem, source: str) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem
        self.source = source


_CODES: tuple[tuple[type[Exception], Exit], ...] = (
    (NotAuthenticated, Exit.NOT_AUTHENTICATED),
    (NotPermitted, Exit.NOT_AUTHENTICATED),
    (NotFound, Exit.NOT_FOUND),
    (Conflict, Exit.CONFLICT),
    (Changed, Exit.CONFLICT),
    (RateLimited, Exit.RATE_LIMITED),
    (ServerError, Exit.UNREACHABLE),
    (TransportError, Exit.UNREACHABLE),
    (Timeout, Exit.STILL_PENDING),
    (BadRequest, Exit.USAGE),
    (DocumentInvalid, Exit.USAGE),
    (DocumentRefused, Exit.USAGE),
)

_TRY: tuple[tuple[type[Exception], str], ...] = (
    (NotAuthenticated, "Set ROUNDSMAN_TOKEN to a token the service knows, or pass --token."),
    (NotPermitted, "Use a token of somebody who may do this."),
    (Changed, "Read it again, make your change on the newest version, and send that."),
    (RateLimited, "Wait a moment, then try again."),
    (ServerError, "Try again in a moment; the service's log says more."),
    (
        TransportError,
        "Is it running? Check --url or ROUNDSMAN_URL; `roundsman doctor` looks closer.",
    ),
)


def run_exit(status: RunStatus) -> Exit:
    """The exit code that an ended run means."""
    match status:
        case RunStatus.SUCCEEDED:
            return Exit.OK
        case RunStatus.CANCELLED | RunStatus.REPLACED:
            return Exit.ABORTED
        case _:
            return Exit.RUN_FAILED


def report(error: Exception, *, as_json: bool) -> int | None:
    """Write an error on stderr and return its exit code; None for what is a mistake of ours."""
    if isinstance(error, Failure):
        _write(problem_of_failure(error), as_json, [str(error)], error.help)
        return error.code
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if code is None and not isinstance(error, RoundsmanError):
        if isinstance(error, OSError) and error.filename is not None:
            failure = Failure(f"{error.filename}: {error.strerror}", code=Exit.USAGE)
            return report(failure, as_json=as_json)
        return None
    hint = next((hint for kind, hint in _TRY if isinstance(error, kind)), "")
    if isinstance(error, DocumentInvalid):
        _write(_problem_of_document(error), as_json, [str(error)], "")
    elif isinstance(error, DocumentRefused):
        _write(error.problem, as_json, document_lines(error.problem, error.source), "")
    elif isinstance(error, ApiError):
        problem = error.problem
        if isinstance(error, Conflict) and error.run:
            hint = f"See it with: roundsman runs get {error.run}"
        # The service's help for a missing token speaks of headers; ours of flags.
        is_ours = isinstance(error, NotAuthenticated)
        if problem.code == "exists" and "job" in problem.detail:
            hint = "To replace a job, use: roundsman jobs save -f FILE"
        help = hint if is_ours else problem.help or hint
        _write(problem, as_json, _lines(problem), help)
    else:
        problem = Problem(title=str(error), status=0, code=_word(error), help=hint)
        _write(problem, as_json, [str(error)], hint)
    return code or Exit.FAILURE


def document_lines(problem: Problem, source: str) -> list[str]:
    """`file:line:col: key: message` for each error of a document, as the local check says it."""
    found = []
    for item in problem.errors:
        place = ":".join(str(n) for n in (item.line, item.column) if n is not None)
        found.append(
            ": ".join(filter(None, [f"{source}:{place}" if place else source, item.key]))
            + f": {item.message}"
        )
    return found or _lines(problem)


def _lines(problem: Problem) -> list[str]:
    first = problem.title if not problem.detail else f"{problem.title}: {problem.detail}"
    more = [f"{item.key}: {item.message}" if item.key else item.message for item in problem.errors]
    lines = [first, *(f"  {line}" for line in more if line != problem.detail)]
    if problem.request_id and problem.status >= 500:
        lines.append(f"  request {problem.request_id}")
    return lines


def problem_of_failure(error: Failure) -> Problem:
    return Problem(title=str(error), status=0, code=error.code.name.lower(), help=error.help)


def _problem_of_document(error: DocumentInvalid) -> Problem:
    items = [
        ProblemItem(message=each.message, key=each.key, line=each.line, column=each.column)
        for each in error.problems
    ]
    return Problem(
        title="The document is not valid", status=422, code="document_invalid", errors=items
    )


def _word(error: Exception) -> str:
    return {TransportError: "unreachable", Timeout: "still_pending"}.get(type(error), "failure")


def _write(problem: Problem, as_json: bool, lines: list[str], hint: str) -> None:
    sys.stdout.flush()
    if as_json:
        sys.stderr.write(problem.model_dump_json(exclude_none=True) + "\n")
        return
    for line in lines:
        sys.stderr.write(f"{line}\n")
    if hint:
        sys.stderr.write(f"Try: {hint}\n")
