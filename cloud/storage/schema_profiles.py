"""Tables of deployed profiles: what each gateway is to hold, and what it has said of it."""

from typing import Any, ClassVar, Final

from sqlalchemy import BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel

UNANSWERED: Final = "answered < revision"
WATCHED: Final = "watch IS NOT NULL"


def _big(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


class ProfileSetRow(SQLModel, table=True):
    """The set of a gateway. `revision` grows with every change; `answered` is the last dealt with.

    What is unanswered is sent from `send_at` on, again and again.
    """

    __tablename__: ClassVar[Any] = "profile_sets"
    __table_args__ = (
        Index("profile_sets_to_send", "send_at",
              sqlite_where=text(UNANSWERED), postgresql_where=text(UNANSWERED)),
    )  # fmt: skip
    org: str = Field(primary_key=True)
    gateway: str = Field(primary_key=True)
    revision: int = _big(default=0)
    answered: int = _big(default=0)
    send_at: int = _big(default=0)


class GatewayProfileRow(SQLModel, table=True):
    """One profile of a set; without `sha256` it is withdrawn.

    `state` is pending, held or refused, with the gateway's reason in `problem`. A wish that is
    refused or taken back goes back to what was `before`. `watch` is the operation that waits for
    the answer.
    """

    __tablename__: ClassVar[Any] = "gateway_profiles"
    __table_args__ = (
        Index("gateway_profiles_watched", "watch",
              sqlite_where=text(WATCHED), postgresql_where=text(WATCHED)),
    )  # fmt: skip
    org: str = Field(primary_key=True)
    gateway: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    sha256: str | None = None
    size: int = _big(default=0)
    before_sha256: str | None = None
    before_size: int = _big(default=0)
    state: str = "pending"
    problem: str = Field(default="", sa_type=Text)
    watch: str | None = None
    wanted_at: int = _big(default=0)
