"""The first start: this cloud's incarnation, its org, and one administrator token."""

from uuid import uuid4

from cloud.coordinator.access import hash_of
from cloud.coordinator.acknowledgments import key_of
from cloud.storage import instance
from cloud.storage.database import Session
from cloud.storage.schema import TokenRow
from contract.ids import DEFAULT_ORG


def first_start(session: Session, now: int, token: str) -> bool:
    """Make what must exist before anything else; does nothing the second time.

    Returns whether `token` became the administrator's, and so has to be shown: only when the org
    has none. Its hash alone is stored.
    """
    if instance.get_instance(session) is None:
        instance.create_instance(session, str(uuid4()), DEFAULT_ORG, now)
        session.flush()
    key_of(session)
    if instance.has_administrator(session, DEFAULT_ORG):
        return False
    session.add(
        TokenRow(
            id=str(uuid4()),
            org=DEFAULT_ORG,
            name="administrator",
            hash=hash_of(token),
            created_at=now,
        )
    )
    return True


def incarnation(session: Session) -> str:
    """The random id of this cloud; empty before its first start."""
    row = instance.get_instance(session)
    return "" if row is None else row.incarnation
