"""The one place that adds the caller's org to a query: every view starts here."""

from typing import Any, TypeVar

from sqlalchemy import Select
from sqlmodel import SQLModel, select

R = TypeVar("R", bound=SQLModel)


def of_org(row: type[R], org: str) -> Select[Any]:
    """A query for the rows of one org, to be narrowed further."""
    kind: Any = row
    found: Select[Any] = select(kind).where(kind.org == org)
    return found
