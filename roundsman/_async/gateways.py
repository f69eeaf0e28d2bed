"""Gateways: the edge processes, and their tokens."""

from collections.abc import AsyncIterator, Sequence

from pydantic import JsonValue

from contract.http.fleet import Gateway, GatewayWithToken, NewGateway, Orphan, RetireGateway
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

        One that was retired is taken back. Raises Conflict when it exists.
        """
        new = NewGateway(id=gateway, name=name)
        answer = await self._transport.send("POST", "/gateways", body=new, repeatable=False)
        return parse(answer, GatewayWithToken)

    async def get(self, gateway: str) -> Gateway:
        return await self._transport.get(f"/gateways/{gateway}", Gateway)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Gateway]:
        """All gateways; `limit` is the size of a page."""
        return self._transport.items("/gateways", Gateway, {"limit": limit})

    def orphans(self, gateway: str, *, limit: int | None = None) -> AsyncIterator[Orphan]:
        """Attempts in its journal whose tasks the cloud has never heard of; see `recovery`."""
        path = f"/gateways/{gateway}/orphans"
        return self._transport.items(path, Orphan, {"limit": limit})

    async def edit(self, gateway: str, edit: EditGateway) -> Gateway:
        """Name it, set its type, tags and attributes; a null takes one away."""
        return await targets.edit(self._transport, f"/gateways/{gateway}", edit, Gateway)

    async def replace(self, gateway: str) -> GatewayWithToken:
        """A token for hardware that takes its place, never shown again.

        What works there now goes on until the first hello with this token.
        """
        answer = await self._transport.send("POST", f"/gateways/{gateway}/replace")
        return parse(answer, GatewayWithToken)

    async def retire(
        self, gateway: str, *, delete_devices: bool = False, reason: str = ""
    ) -> Gateway:
        """End a gateway for good: its token is void, what it has in hand ends as `gateway_lost`.

        Its devices stay without a gateway, unless they are deleted with it.
        """
        body = RetireGateway(delete_devices=delete_devices, reason=reason)
        answer = await self._transport.send("POST", f"/gateways/{gateway}/retire", body=body)
        return parse(answer, Gateway)

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
