"""Tables about who may speak for a gateway, and which gateways claim a device."""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel

_ENDED = "ended_session IS NOT NULL"


class AdmissionRow(SQLModel, table=True):
    """What a gateway's next hello is held against.

    `mark` is the word of its last hello: a copy of its journal does not know it. `next_token` is
    the hash of a replacement's token, good from its first hello on. `must_prove`: a token was
    given out anew, so nobody is let in without it. `ended_session` is a session that its gateway
    is still to be told is over. `refused_code` is why one was last turned away, at `refused_at`.
    `awaited`: it was in session when this database was backed up, and has not said hello since.
    """

    __tablename__: ClassVar[Any] = "admissions"
    __table_args__ = (
        Index("admissions_to_tell", "org", "gateway",
              sqlite_where=text(_ENDED), postgresql_where=text(_ENDED)),
        Index("admissions_awaited", "org", "gateway",
              sqlite_where=text("awaited"), postgresql_where=text("awaited")),
    )  # fmt: skip
    org: str = Field(primary_key=True)
    gateway: str = Field(primary_key=True)
    mark: str = ""
    next_token: str | None = None
    must_prove: bool = False
    ended_session: str | None = None
    refused_code: str | None = None
    refused_at: int | None = Field(default=None, sa_type=BigInteger)
    awaited: bool = False


class RetiredJournalRow(SQLModel, table=True):
    """A journal that another took the place of: it never comes back."""

    __tablename__: ClassVar[Any] = "retired_journals"
    org: str = Field(primary_key=True)
    gateway: str = Field(primary_key=True)
    journal: str = Field(primary_key=True)
    at: int = Field(sa_type=BigInteger)


class DeviceClaimRow(SQLModel, table=True):
    """A gateway that has a device in its configuration which another one owns; its inventory."""

    __tablename__: ClassVar[Any] = "device_claims"
    __table_args__ = (Index("device_claims_by_gateway", "org", "gateway"),)
    org: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    gateway: str = Field(primary_key=True)
    inventory: str = Field(default="{}", sa_type=Text)
    at: int = Field(sa_type=BigInteger)
