"""Errors of the API: RFC 9457 problem documents with a stable `code`."""

from typing import Final

from pydantic import Field

from contract.http import Body

MEDIA_TYPE: Final = "application/problem+json"


class ProblemItem(Body):
    """One thing that is wrong, with its place: `file`, line and key for documents."""

    message: str
    key: str = ""
    line: int | None = None
    column: int | None = None


class Problem(Body):
    """`code` is for programs, `title` and `detail` for people; `help` says what to do next."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str = ""
    help: str = ""
    request_id: str = ""
    errors: list[ProblemItem] = Field(default_factory=list)
    run: str | None = Field(default=None, description="with `run_in_flight`: the run that is")


# code -> (HTTP status, title)
CODES: Final[dict[str, tuple[int, str]]] = {
    "invalid": (422, "The request is not valid"),
    "document_invalid": (422, "The document is not valid"),
    "context_invalid": (422, "The context does not fit the job's schema"),
    "not_performed": (422, "This release does not perform that"),
    "image_invalid": (422, "The file is not a firmware image"),
    "unknown_artifact": (422, "The job names an artifact that does not exist"),
    "unknown_secret": (422, "The job names a secret that does not exist"),
    "not_authenticated": (401, "A token is needed"),
    "not_permitted": (403, "The token does not allow this"),
    "not_found": (404, "There is no such thing"),
    "method_not_allowed": (405, "The address does not take that method"),
    "wait_timed_out": (408, "The run has not come that far in time"),
    "unreachable": (409, "The run can no longer come that far"),
    "too_deep": (409, "Runs have started runs too often in a row"),
    "protected": (403, "The system needs this job"),
    "link_invalid": (403, "The link is not valid"),
    "link_expired": (410, "The link has expired"),
    "deleted": (410, "It was deleted"),
    "exists": (409, "It exists already"),
    "not_empty": (409, "It is not empty"),
    "run_in_flight": (409, "The job has a run in flight"),
    "not_awaited": (409, "The task awaits no acknowledgment"),
    "acknowledged": (409, "The task was acknowledged before"),
    "too_late": (409, "The task has ended"),
    "run_ended": (409, "The run has ended"),
    "batch_run": (409, "The run's tasks are about several targets each"),
    "run_started": (409, "The run has started"),
    "run_replaces": (409, "The run waits for another's end, not for a time"),
    "run_cancelling": (409, "The run is being cancelled"),
    "run_replaced": (409, "The run was replaced"),
    "job_paused": (409, "The job is paused"),
    "retry_going_on": (409, "A retry of the run has just begun"),
    "nothing_to_retry": (409, "No task of the run ended like that"),
    "task_open": (409, "A task has the device"),
    "not_claimed": (409, "The gateway does not have the device in its configuration"),
    "gateway_retired": (409, "The gateway was retired"),
    "central_gateway": (409, "The central gateway belongs to the cloud"),
    "name_taken": (409, "The name stands for something else"),
    "changed": (412, "Somebody changed it first"),
    "too_large": (413, "It is too large"),
    "range_invalid": (416, "The range lies outside the artifact"),
    "storage_full": (507, "The disk is full"),
    "unavailable": (503, "The service is not ready"),
    "internal": (500, "We made a mistake"),
}
