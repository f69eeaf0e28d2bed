"""What can go wrong for a caller of the API, named for what the caller does next.

RoundsmanError
├── ApiError              the service answered with a problem document; says what
│   ├── BadRequest          correct the request or document, `problem.errors` says where
│   ├── NotAuthenticated    bring a valid token
│   ├── NotPermitted        bring a token that allows this
│   ├── NotFound            there is no such thing
│   ├── Gone                it was deleted, or a link has expired
│   ├── Conflict            look at what is there (`run`, where a run is in the way), then decide
│   ├── Changed             read it again: somebody changed it first
│   ├── RateLimited         come back after `retry_after` seconds
│   └── ServerError         the service is not ready or made a mistake: try again later
├── TransportError        nobody answered, or something that is not Roundsman
├── Timeout               a wait ended before what it waited for; `run` is its last known state
└── Unreachable           what was waited for can no longer come; `run` is how it stands instead
"""

from collections.abc import Collection

from contract.http.problems import Problem
from contract.http.runs import Run


class RoundsmanError(Exception):
    """The root; never raised itself."""


class ApiError(RoundsmanError):
    """`problem` is the whole problem document; `problem.code` is stable."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


class BadRequest(ApiError):
    pass


class NotAuthenticated(ApiError):
    pass


class NotPermitted(ApiError):
    pass


class NotFound(ApiError):
    pass


class Gone(NotFound):
    pass


class Conflict(ApiError):
    """`run` is the id of the run in flight, where that is the conflict."""

    @property
    def run(self) -> str | None:
        return self.problem.run


class Changed(ApiError):
    pass


class RateLimited(ApiError):
    """`retry_after` is in seconds; None when the service did not say."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class ServerError(ApiError):
    pass


class TransportError(RoundsmanError):
    pass


class Timeout(RoundsmanError):
    def __init__(self, run: Run) -> None:
        super().__init__(f"run {run.id} is still {run.status}")
        self.run = run


class Unreachable(RoundsmanError):
    def __init__(self, run: Run, statuses: Collection[str]) -> None:
        wanted = ", ".join(sorted(str(status) for status in statuses))
        super().__init__(f"run {run.id} is {run.status}, and never again {wanted}")
        self.run = run


_BY_STATUS: dict[int, type[ApiError]] = {
    401: NotAuthenticated,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    410: Gone,
    412: Changed,
    428: Changed,
}


def error_of(problem: Problem, retry_after: float | None = None) -> ApiError:
    """The error that stands for a problem document."""
    if problem.status == 429:
        return RateLimited(problem, retry_after)
    if problem.status >= 500:
        return ServerError(problem)
    return _BY_STATUS.get(problem.status, BadRequest)(problem)
