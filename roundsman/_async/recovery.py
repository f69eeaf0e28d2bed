"""A cloud that was restored from a backup."""

from contract.http.fleet import Recovery
from roundsman._async.transport import Transport, parse


class Recoveries:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self) -> Recovery:
        """Whether it still waits, and for which gateways."""
        return await self._transport.get("/recovery", Recovery)

    async def release(self) -> Recovery:
        """Go on without the gateways that have not said hello yet."""
        answer = await self._transport.send("POST", "/recovery/release", repeatable=True)
        return parse(answer, Recovery)
