"""Gateways: the edge processes, and their tokens."""

from collections.abc import AsyncIterator, Sequence

from pydantic import JsonValue

from contract.http.fleet import Gateway, GatewayWithToken, NewGateway
from contract.http.operations import StopGateways
from contract.http.runs import Run
from contract.http.targets import EditGateway
from roundsman._async import targets
from roundsman._async.transport import Transport, parse


class Gateways:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, gateway: str, *, name: str = "") -> GatewayWithToken:
        """Make a gateway known; its token is in the answer, and never shown again.

        Raises Conflict when it exists.
        """
        new = NewGateway(id=gateway, name=name)
        answer = await self._transport.send("POST", "/gateways", body=new, repeatable=False)
        return parse(answer, GatewayWithToken)

    async def get(self, gateway: str) -> Gateway:
        return await self._transport.get(f"/gateways/{gateway}", Gateway)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Gateway]:
        """All gateways; `limit` is the size of a page."""
        return self._transport.items("/gateways", Gateway, {"limit": limit})

    async def edit(self, gateway: str, edit: EditGateway) -> Gateway:
        """Name it, set its type, tags and attributes; a null takes one away."""
        return await targets.edit(self._transport, f"/gateways/{gateway}", edit, Gateway)

    async def stop(
        self,
        gateways: Sequence[str] = (),
        *,
        query: JsonValue = None,
        everything: bool = False,
        reason: str = "",
    ) -> Run:
        """Offer nothing more to gateways; the run ends when what has begun there has ended.

        Cancelled before that, gateways that are still busy work on.
        """
        return await self._send("stop", gateways, query, everything, reason)

    async def start(
        self,
        gateways: Sequence[str] = (),
        *,
        query: JsonValue = None,
        everything: bool = False,
        reason: str = "",
    ) -> Run:
        """Let stopped gateways work again."""
        return await self._send("start", gateways, query, everything, reason)

    async def _send(
        self, verb: str, gateways: Sequence[str], query: JsonValue, everything: bool, reason: str
    ) -> Run:
        body = StopGateways(query=query, gateways=list(gateways), all=everything, reason=reason)
        path = f"/gateways/{verb}"
        return parse(await self._transport.send("POST", path, body=body), Run)
