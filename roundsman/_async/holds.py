"""Holds and the emergency stop: nothing new starts on what is held."""

from collections.abc import AsyncIterator
from datetime import timedelta

from contract.http.holds import Hold, HoldKind, SetHold
from roundsman._async.transport import Transport, parse

EVERYTHING = "all"


class Holds:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None) -> AsyncIterator[Hold]:
        """All holds that stand; `limit` is the size of a page."""
        return self._transport.items("/holds", Hold, {"limit": limit})

    async def set(
        self, kind: HoldKind, id: str, *, reason: str = "", lasts: timedelta | None = None
    ) -> Hold:
        """Let nothing new start on a site, gateway or device; tasks that run complete."""
        asked = SetHold(reason=reason, lasts=lasts)
        return parse(await self._transport.send("PUT", f"/holds/{kind}/{id}", body=asked), Hold)

    async def lift(self, kind: HoldKind, id: str) -> None:
        await self._transport.send("DELETE", f"/holds/{kind}/{id}")

    async def stop_everything(self, *, reason: str = "") -> Hold:
        """The emergency stop: nothing new starts in the whole org; tasks that run complete."""
        return await self.set("org", EVERYTHING, reason=reason)

    async def release(self) -> None:
        """Release the emergency stop."""
        await self.lift("org", EVERYTHING)
