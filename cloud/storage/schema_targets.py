"""Tables of what a job may be about beside devices: groups, users, rows of data tables; secrets.

A query over them filters within one org by its primary key. Measured on SQLite, a condition on JSON
scans 100,000 devices in 0.06 s when a run starts, in chunks that hurt nobody; an index on JSON
would be paid on every write of a device's state instead.
"""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, Text
from sqlmodel import Field, SQLModel


def _big(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


def _text(default: str | None = "") -> Any:
    return Field(default=default, sa_type=Text)


class GroupRow(SQLModel, table=True):
    """A group of devices or of users: listed members, or everything that a saved query fits."""

    __tablename__: ClassVar[Any] = "groups"
    org: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str = ""
    type: str = ""
    resource: str = "device"
    query: str | None = _text(None)
    tags: str = _text("{}")
    attributes: str = _text("{}")
    created_at: int = _big()
    updated_at: int = _big()


class GroupMemberRow(SQLModel, table=True):
    """A listed member. The index answers in which groups something is."""

    __tablename__: ClassVar[Any] = "group_members"
    __table_args__ = (Index("groups_by_member", "org", "member"),)
    org: str = Field(primary_key=True)
    of_group: str = Field(primary_key=True)
    member: str = Field(primary_key=True)


class ContactRow(SQLModel, table=True):
    """A user as a target: a person jobs are about, not one who logs in."""

    __tablename__: ClassVar[Any] = "contacts"
    org: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str = ""
    type: str = ""
    email: str = ""
    phone: str = ""
    tags: str = _text("{}")
    attributes: str = _text("{}")
    created_at: int = _big()
    updated_at: int = _big()


class DataTableRow(SQLModel, table=True):
    """A data table. `columns` are its typed columns, none for a free one; keys are never reused."""

    __tablename__: ClassVar[Any] = "data_tables"
    org: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str = ""
    columns: str = _text("[]")
    next_key: int = _big(default=1)
    created_at: int = _big()
    updated_at: int = _big()


class DataRow(SQLModel, table=True):
    """A row of a data table: its values by column, as JSON."""

    __tablename__: ClassVar[Any] = "data_rows"
    org: str = Field(primary_key=True)
    of_table: str = Field(primary_key=True)
    key: int = Field(primary_key=True, sa_type=BigInteger)
    data: str = _text("{}")
    updated_at: int = _big()


class SecretRow(SQLModel, table=True):
    """A named secret, sealed with the key of this cloud; the value is never read back by people."""

    __tablename__: ClassVar[Any] = "secrets"
    org: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    sealed: str = _text()
    created_at: int = _big()
    updated_at: int = _big()
    updated_by: str = ""
