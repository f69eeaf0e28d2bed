"""Gateways: the edge processes, and their tokens."""

from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from contract.http.fleet import Gateway, GatewayWithToken, NewGateway, Orphan, RetireGateway
from contract.http.operations import StopGateways
from contract.http.runs import Run
from contract.http.targets import EditGateway
from roundsman._sync import targets
from roundsman._sync.transport import Transport, parse


class Gateways:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, gateway: str, *, name: str = "") -> GatewayWithToken:
        """Make a gateway known; its token is in the answer, and never shown again.

        One that was retired is taken back. Raises Conflict when it exists.
        """
        new = NewGateway(id=gateway, name=name)
        answer = self._transport.send("POST", "/gateways", body=new, repeatable=False)
        return parse(answer, GatewayWithToken)

    def get(self, gateway: str) -> Gateway:
        return self._transport.get(f"/gateways/{gateway}", Gateway)

    def list(self, *, limit: int | None = None) -> Iterator[Gateway]:
        """All gateways; `limit` is the size of a page."""
        return self._transport.items("/gateways", Gateway, {"limit": limit})

    def orphans(self, gateway: str, *, limit: int | None = None) -> Iterator[Orphan]:
        """Attempts in its journal whose tasks the cloud has never heard of; see `recovery`."""
        path = f"/gateways/{gateway}/orphans"
        return self._transport.items(path, Orphan, {"limit": limit})

    def edit(self, gateway: str, edit: EditGateway) -> Gateway:
        """Name it, set its type, tags and attributes; a null takes one away."""
        return targets.edit(self._transport, f"/gateways/{gateway}", edit, Gateway)

    def replace(self, gateway: str) -> GatewayWithToken:
        """A token for hardware that takes its place, never shown again.

        What works there now goes on until the first hello with this token.
        """
        answer = self._transport.send("POST", f"/gateways/{gateway}/replace")
        return parse(answer, GatewayWithToken)

    def retire(self, gateway: str, *, delete_devices: bool = False, reason: str = "") -> Gateway:
        """End a gateway for good: its token is void, what it has in hand ends as `gateway_lost`.

        Its devices stay without a gateway, unless they are deleted with it.
        """
        body = RetireGateway(delete_devices=delete_devices, reason=reason)
        answer = self._transport.send("POST", f"/gateways/{gateway}/retire", body=body)
        return parse(answer, Gateway)

    def stop(
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
        return self._send("stop", gateways, query, everything, reason)

    def start(
        self,
        gateways: Sequence[str] = (),
        *,
        query: JsonValue = None,
        everything: bool = False,
        reason: str = "",
    ) -> Run:
        """Let stopped gateways work again."""
        return self._send("start", gateways, query, everything, reason)

    def _send(
        self, verb: str, gateways: Sequence[str], query: JsonValue, everything: bool, reason: str
    ) -> Run:
        body = StopGateways(query=query, gateways=list(gateways), all=everything, reason=reason)
        path = f"/gateways/{verb}"
        return parse(self._transport.send("POST", path, body=body), Run)
