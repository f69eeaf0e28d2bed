"""Devices, as their gateways last described them."""

from collections.abc import AsyncIterator

from contract.http.fleet import Device
from roundsman._async.transport import Transport


class Devices:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, device: str) -> Device:
        return await self._transport.get(f"/devices/{device}", Device)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Device]:
        """All devices; `limit` is the size of a page."""
        return self._transport.items("/devices", Device, {"limit": limit})
