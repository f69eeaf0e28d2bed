"""Tables of what steps ask of the cloud, and of how tasks are acknowledged."""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, Text
from sqlmodel import Field, SQLModel


def _big(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


def _text(default: str | None = "") -> Any:
    return Field(default=default, sa_type=Text)


class CallRow(SQLModel, table=True):
    """A call that was done, and what it gave: asked again, it is answered from here."""

    __tablename__: ClassVar[Any] = "calls"
    run: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    org: str
    ordinal: int
    attempt: int
    step: str
    verb: str
    result: str = _text("null")
    at: int = _big()


class AcknowledgmentRow(SQLModel, table=True):
    """The first acknowledgment of an attempt that came to the cloud; the only one that counts.

    One that came before the attempt's steps were done waits here for them.
    """

    __tablename__: ClassVar[Any] = "acknowledgments"
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    org: str
    success: bool
    result: str = _text("null")
    accumulator: str = _text("null")
    text: str = _text()
    by: str = ""
    at: int = _big()


class UntoldEndRow(SQLModel, table=True):
    """An awaiting attempt that ended here, and whose gateway has not said that it knows."""

    __tablename__: ClassVar[Any] = "untold_ends"
    __table_args__ = (Index("untold_ends_by_gateway", "org", "gateway"),)
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    org: str
    gateway: str
    journal: str
    sent_at: int | None = _big(default=None)
