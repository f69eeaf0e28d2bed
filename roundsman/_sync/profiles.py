"""Profiles: artifacts that gateways use instead of, or beside, those of their own folder."""

from collections.abc import Iterator, Sequence
from hashlib import sha256

from pydantic import JsonValue

from contract.http.fleet import GatewayProfile
from contract.http.operations import DeployProfile, WithdrawProfile
from contract.http.runs import Run
from roundsman._sync.artifacts import Artifacts
from roundsman._sync.transport import Transport, parse


class Profiles:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def deploy(
        self,
        name: str,
        content: bytes | None = None,
        *,
        artifact: str = "",
        gateways: Sequence[str] = (),
        query: JsonValue = None,
        everything: bool = False,
        reason: str = "",
    ) -> Run:
        """Have gateways use a profile; the run ends when each has agreed or refused.

        `content` is the YAML file's bytes, which are stored as an artifact first; else `artifact`
        names one, or is its sha256. Cancelled, gateways that have not answered keep what they had.
        """
        if content is not None:
            artifact = f"profile-{name}-{sha256(content).hexdigest()[:12]}.yaml"
            Artifacts(self._transport).push(artifact, content, kind="file")
        body = DeployProfile(
            name=name,
            artifact=artifact,
            gateways=list(gateways),
            query=query,
            all=everything,
            reason=reason,
        )
        return parse(self._transport.send("POST", "/profiles/deploy", body=body), Run)

    def withdraw(
        self,
        name: str,
        *,
        gateways: Sequence[str] = (),
        query: JsonValue = None,
        everything: bool = False,
        reason: str = "",
    ) -> Run:
        """Have gateways go back to their own profile of that name.

        One whose devices use it, and that has no other, refuses.
        """
        body = WithdrawProfile(
            name=name, gateways=list(gateways), query=query, all=everything, reason=reason
        )
        return parse(self._transport.send("POST", "/profiles/withdraw", body=body), Run)

    def list(
        self, *, name: str | None = None, gateway: str | None = None, limit: int | None = None
    ) -> Iterator[GatewayProfile]:
        """What is deployed where; `limit` is the size of a page."""
        query = {"name": name, "gateway": gateway, "limit": limit}
        return self._transport.items("/profiles", GatewayProfile, query)
