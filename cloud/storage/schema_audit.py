"""Tables of who did what, of runs that are no more, and of gateways that are being stopped."""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel


def _big(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


def _text(default: str | None = "") -> Any:
    return Field(default=default, sa_type=Text)


class AuditRow(SQLModel, table=True):
    """A line of the audit log, written in the transaction of what it tells; never changed.

    `by` is the id of the token, `detail` JSON without any secret.
    """

    __tablename__: ClassVar[Any] = "audit"
    __table_args__ = (
        Index("audit_by_org", "org", "number"),
        Index("audit_by_subject", "org", "subject", "number"),
    )
    number: int | None = Field(default=None, primary_key=True)
    org: str
    at: int = _big()
    by: str = ""
    by_name: str = ""
    action: str
    subject: str = ""
    detail: str = _text("{}")


class DeletedRunRow(SQLModel, table=True):
    """What stays of a run that was swept with its job: whoever asks for it is told that it is gone.

    Gateways may still speak of its tasks, for as long as their journals keep them. `swept`: it was
    looked at once more for what was being written while the run was swept.
    """

    __tablename__: ClassVar[Any] = "deleted_runs"
    __table_args__ = (
        Index("deleted_runs_to_sweep", "at",
              sqlite_where=text("NOT swept"), postgresql_where=text("NOT swept")),
    )  # fmt: skip
    run: str = Field(primary_key=True)
    org: str
    job: str
    at: int = _big()
    swept: bool = False


class GatewayDrainRow(SQLModel, table=True):
    """An attempt that was in flight at a gateway when the operation asked it to stop."""

    __tablename__: ClassVar[Any] = "gateway_drains"
    operation: str = Field(primary_key=True)
    run: str = Field(primary_key=True)
    ordinal: int = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
