"""Who asks: bearer tokens of people, programs and gateways, known by their hash only."""

from dataclasses import dataclass
from typing import Final

from cloud.errors import NotPermitted
from cloud.storage import instance
from cloud.storage.database import Session
from contract.admission import key_of
from contract.ids import GatewayId, OrgId
from contract.topics import Address

# `last_used_at` need not be exact, and a write for each request would cost more than the request.
TOUCH_EVERY_MS: Final = 60_000


@dataclass(frozen=True)
class Caller:
    """Who asks, and for which org. `id` is the token's, never the token."""

    org: OrgId
    id: str
    name: str
    role: str


def hash_of(token: str) -> str:
    """The form in which a token is stored."""
    return key_of(token)


def authenticate(session: Session, token: str, now: int) -> Caller:
    """The caller a token stands for; a read. Raises NotPermitted("not_authenticated")."""
    row = instance.token_of_hash(session, hash_of(token), now)
    if row is None:
        raise NotPermitted("not_authenticated", "no token like this, or it was revoked")
    return Caller(OrgId(row.org), row.id, row.name, row.role)


def touch(session: Session, caller: Caller, now: int) -> None:
    """Note that a token was used; once in `TOUCH_EVERY_MS` is enough."""
    instance.touch_token(session, caller.id, now)


def authenticate_gateway(session: Session, token: str) -> Address:
    """The gateway a token stands for; raises NotPermitted("not_authenticated")."""
    row = instance.gateway_of_hash(session, hash_of(token))
    if row is None:
        raise NotPermitted("not_authenticated", "no gateway has a token like this")
    return Address(OrgId(row.org), GatewayId(row.id))
