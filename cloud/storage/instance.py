"""This cloud's own row, its first org, and tokens by their hash."""

from sqlmodel import col, or_, select

from cloud.storage.database import Session
from cloud.storage.dialect import change
from cloud.storage.schema import GatewayRow, InstanceRow, OrgRow, TokenRow


def get_instance(session: Session) -> InstanceRow | None:
    return session.get(InstanceRow, 1)


def create_instance(session: Session, incarnation: str, org: str, now: int) -> None:
    session.add(InstanceRow(id=1, incarnation=incarnation, created_at=now))
    session.add(OrgRow(id=org, name=org, created_at=now))


def has_administrator(session: Session, org: str) -> bool:
    query = select(TokenRow.id).where(
        TokenRow.org == org,
        TokenRow.role == "administrator",
        col(TokenRow.revoked_at).is_(None),
        col(TokenRow.expires_at).is_(None),
    )
    return session.exec(query).first() is not None


def token_of_hash(session: Session, digest: str, now: int) -> TokenRow | None:
    """The token of a hash, unless it was revoked or has expired."""
    query = select(TokenRow).where(
        TokenRow.hash == digest,
        col(TokenRow.revoked_at).is_(None),
        or_(col(TokenRow.expires_at).is_(None), col(TokenRow.expires_at) > now),
    )
    return session.exec(query).first()


def drop_token(session: Session, digest: str) -> None:
    change(session, "DELETE FROM tokens WHERE hash = :hash AND expires_at > 0", hash=digest)


def drop_expired_tokens(session: Session, now: int) -> None:
    change(session, "DELETE FROM tokens WHERE expires_at <= :now", now=now)


def gateway_of_hash(session: Session, digest: str) -> GatewayRow | None:
    return session.exec(select(GatewayRow).where(GatewayRow.token_hash == digest)).first()


def touch_token(session: Session, token: str, now: int) -> None:
    change(session, "UPDATE tokens SET last_used_at = :now WHERE id = :id", id=token, now=now)
