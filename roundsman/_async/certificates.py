"""The CA that signs for an org's devices."""

from contract.http.certificates import Authority
from roundsman._async.transport import Transport


class Ca:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def show(self) -> Authority:
        """What servers of devices have to trust; the CA is made when it is first asked for."""
        return await self._transport.get("/ca", Authority)
