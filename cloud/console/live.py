"""The live part of a page over server-sent events: rendered again when something has changed.

One event replaces the whole part, so that a lost one does not matter, and what has not changed is
not sent. At most two a second for each listener.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from fastapi.responses import StreamingResponse

from cloud.console.pages import PageOf, render_live
from cloud.console.visitors import HEADERS
from cloud.coordinator.services import Services

EVERY_S: Final = 0.5
HEARTBEAT_S: Final = 15.0

Build = Callable[[], Awaitable[PageOf]]


def stream(services: Services, build: Build) -> StreamingResponse:
    return StreamingResponse(
        _events(services, build),
        media_type="text/event-stream",
        headers={**HEADERS, "x-accel-buffering": "no"},
    )


async def _events(services: Services, build: Build) -> AsyncIterator[bytes]:
    shown = ""
    with services.changes.listen() as listener:
        while not services.stopping.is_set():
            part = render_live(await build())
            # Sent at once even when unchanged: the first event tells the browser that it is live.
            yield _event(part) if part != shown else b": still here\n\n"
            shown = part
            if not await listener.wait(HEARTBEAT_S):
                continue
            await asyncio.sleep(EVERY_S)


def _event(part: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in part.splitlines() if line.strip())
    return f"{lines}\n".encode()
