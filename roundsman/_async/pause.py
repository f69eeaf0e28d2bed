"""The one place that waits."""

import asyncio


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)
