"""Acknowledging a task: with a token of ours, or with the one made for that task alone."""

from fastapi import APIRouter, Request

from cloud.api.access import CallerOf, ServicesOf, bearer_of, caller_of
from cloud.api.bodies import body_schema, read_body
from cloud.coordinator import acknowledgments
from cloud.errors import Conflict
from contract.http.tasks import Acknowledged, AcknowledgeTask, AcknowledgmentToken
from contract.ids import OrgId

# Third parties have no token of ours, so the route asks by itself who it is.
router = APIRouter(tags=["tasks"])
tokens = APIRouter(tags=["tasks"])
BODY = body_schema(AcknowledgeTask, required=False)


@router.post(
    "/api/v1/tasks/{task}/acknowledge", operation_id="acknowledge_task", openapi_extra=BODY
)
async def acknowledge(task: str, request: Request, services: ServicesOf) -> Acknowledged:
    """Close a task that is acknowledged explicitly, as success or failure; the first word counts.

    The token is one of this service, or the task's own.
    """
    org, by, attempt = await _who(task, request, services)
    word = await read_body(request, AcknowledgeTask)
    said = await services.database.run(
        acknowledgments.acknowledge, org, task, word, by, services.clock(), attempt
    )
    services.changes.touched(runs={said.run})
    services.changes.to_send()
    if said.verdict == "closed" or said.verdict == "kept":
        return Acknowledged(task=task, verdict=said.verdict)
    raise Conflict("too_late" if said.verdict == "late" else "acknowledged", said.detail)


async def _who(task: str, request: Request, services: ServicesOf) -> tuple[OrgId, str, int | None]:
    token = bearer_of(request) or ""
    if token.startswith(acknowledgments.TOKEN_START):
        org, attempt = await services.database.read(acknowledgments.holder_of, task, token)
        return org, "the task's own token", attempt
    caller = await caller_of(request)
    return caller.org, caller.name, None


@tokens.post("/tasks/{task}/acknowledgment-token", operation_id="create_acknowledgment_token")
async def make_token(task: str, services: ServicesOf, caller: CallerOf) -> AcknowledgmentToken:
    """A token for the task's open attempt, to be handed to whoever is to acknowledge it."""
    return await services.database.run(acknowledgments.make_token, caller, task, services.address())
