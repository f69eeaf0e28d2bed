"""Running SQL, and what SQLite and PostgreSQL say differently: locks, lists in one parameter."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Row, text

from cloud.storage.database import Session


def is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def for_update(session: Session, suffix: str = "") -> str:
    """The locking clause; SQLite has one writer and needs none."""
    return "" if is_sqlite(session) else f" FOR UPDATE{suffix}"


def any_of(session: Session, column: str, name: str) -> str:
    """A condition: the column is one of the values in the parameter `name` (see `listed`)."""
    if is_sqlite(session):
        return f"{column} IN (SELECT value FROM json_each(:{name}))"
    return f"{column} = ANY(:{name})"


def listed(session: Session, values: Iterable[Any]) -> Any:
    """Values as one parameter for `any_of`."""
    found = list(values)
    return json.dumps(found) if is_sqlite(session) else found


def fetch(session: Session, sql: str, /, **parameters: Any) -> Sequence[Row[Any]]:
    return session.connection().execute(text(sql), parameters).all()


def fetch_one(session: Session, sql: str, /, **parameters: Any) -> Row[Any] | None:
    return session.connection().execute(text(sql), parameters).first()


def change(session: Session, sql: str, /, **parameters: Any) -> int:
    """Run one statement; returns how many rows it changed."""
    return session.connection().execute(text(sql), parameters).rowcount


def change_many(session: Session, sql: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run one statement for each mapping, in bulk.

    Handed to the driver as it is: what SQLAlchemy does for each row would cost as much as SQLite.
    """
    if rows:
        written = sql if is_sqlite(session) else _for_psycopg(sql)
        session.connection().exec_driver_sql(written, list(rows))


@lru_cache(maxsize=256)
def _for_psycopg(sql: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


_PARAMETER: Final = re.compile(r"(?<![:\w']):([a-z_]\w*)")
