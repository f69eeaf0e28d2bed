"""Server-sent events of a run: live progress for pages, scripts and `runs watch`."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from cloud.api.access import CallerOf, ServicesOf

router = APIRouter(tags=["events"])


@router.get(
    "/events",
    operation_id="events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(
    run: str,
    services: ServicesOf,
    caller: CallerOf,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """What happens in a run: `run` events hold the run, `tasks` events the tasks that changed.

    At most five a second; a comment every 15 seconds shows that the line is alive. After a
    `reset` event, or without `Last-Event-ID`, read run and tasks once: what was before is not told.
    """
    stream = await services.feeds.follow(caller, run, last_event_id)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
