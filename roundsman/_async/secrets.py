"""Named secrets: set and listed, never read."""

from collections.abc import AsyncIterator

from contract.http.targets import Secret, SetSecret
from roundsman._async.transport import Transport, parse


class Secrets:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def set(self, name: str, value: str) -> Secret:
        """Set a secret, new or not. Runs that have started keep what a gateway has of it."""
        body = SetSecret(value=value)
        return parse(await self._transport.send("PUT", f"/secrets/{name}", body=body), Secret)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Secret]:
        """The names; nobody reads the values back."""
        return self._transport.items("/secrets", Secret, {"limit": limit})

    async def delete(self, name: str) -> None:
        await self._transport.send("DELETE", f"/secrets/{name}", repeatable=False)
