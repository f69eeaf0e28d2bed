"""Devices, as their gateways last described them."""

from collections.abc import AsyncIterator

from contract.http.fleet import Device
from roundsman._async.transport import Transport, parse


class Devices:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, device: str) -> Device:
        return await self._transport.get(f"/devices/{device}", Device)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Device]:
        """All devices; `limit` is the size of a page."""
        return self._transport.items("/devices", Device, {"limit": limit})

    async def free(self, device: str) -> Device:
        """Free a device that an attempt still holds whose gateway will not speak of it again.

        Raises Conflict while the task that holds it is in flight.
        """
        answer = await self._transport.send("POST", f"/devices/{device}/free", repeatable=True)
        return parse(answer, Device)
