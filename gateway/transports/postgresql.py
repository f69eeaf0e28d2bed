"""One statement on PostgreSQL, bounded and cancellable; psycopg is loaded with the first."""

import math
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

from pydantic import JsonValue

from gateway.domain.sql_values import Rows, Statement
from gateway.errors import DeviceUnreachable, StepInvalid

if TYPE_CHECKING:
    import psycopg

CONNECT_S: Final = 10
CANCEL_S: Final = 3.0
FETCHED: Final = 200


class PostgresAsking:
    """See `Asking`. Each statement has a connection and a transaction of its own."""

    def __init__(
        self, url: str, password: str | None, read_only: bool, statement: Statement
    ) -> None:
        self.has_begun = False
        self._url = url
        self._password = password
        self._read_only = read_only
        self._statement = statement
        self._stopped = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None

    def stop(self) -> None:
        import psycopg

        self._stopped.set()
        connection = self._connection
        if connection is not None:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_S)

    def run(self) -> dict[str, JsonValue]:
        import psycopg

        self.has_begun = True
        try:
            with closing(self._open()) as connection:
                self._connection = connection
                if self._stopped.is_set():
                    raise StepInvalid("cancelled before it began", "sql_failed")
                found = self._ask(connection)
                try:
                    connection.commit()
                except psycopg.OperationalError as error:
                    raise DeviceUnreachable(f"at the commit: {_said(error)}") from error
                return found
        except psycopg.Error as error:  # before the commit: the server takes it back
            late = isinstance(error, psycopg.errors.QueryCanceled)
            limit = f" after {self._statement.timeout_s:g} s" if late else ""
            raise StepInvalid(_said(error) + limit, "sql_failed") from error
        except (ValueError, OverflowError) as error:  # what psycopg cannot send
            raise StepInvalid(str(error), "sql_failed") from error
        finally:
            self._connection = None

    def _open(self) -> "psycopg.Connection[Any]":
        import psycopg
        from psycopg.conninfo import make_conninfo

        wait_s = max(2, math.ceil(min(self._statement.timeout_s, CONNECT_S)))  # libpq's least is 2
        # One that is None leaves the address as it is.
        address = make_conninfo(
            self._url,
            password=self._password,
            connect_timeout=wait_s,
            application_name="roundsman",
        )
        connection = psycopg.connect(address)
        connection.read_only = self._read_only
        return connection

    def _ask(self, connection: "psycopg.Connection[Any]") -> dict[str, JsonValue]:
        import psycopg

        # Should our cancel not reach the server, it ends the statement by itself.
        limit_ms = max(1, round(self._statement.timeout_s * 1000))
        connection.execute(f"SET LOCAL statement_timeout = {limit_ms}".encode())
        text, given = self._statement.text.encode(), [_bound(v) for v in self._statement.parameters]
        max_rows = self._statement.max_rows
        if self._read_only:
            # A cursor of the server's: what is not fetched is never sent.
            with psycopg.RawServerCursor(connection, "roundsman") as asked:
                asked.execute(text, given)
                rows = Rows([column.name for column in asked.description or ()], max_rows)
                while block := asked.fetchmany(min(FETCHED, max_rows + 1)):
                    if not all(rows.take(row) for row in block):
                        break
            return rows.result(len(rows.rows))
        with psycopg.RawCursor(connection) as cursor:
            # Prepared, so that the server takes one statement only, with or without parameters.
            cursor.execute(text, given, prepare=True)
            if cursor.description is None:
                return Rows([], 0).result(max(cursor.rowcount, 0))
            rows = Rows([column.name for column in cursor.description], max_rows)
            for row in cursor:
                if not rows.take(row):
                    break
            return rows.result(cursor.rowcount)


def _bound(value: JsonValue) -> Any:
    """Lists of plain values are arrays; objects, and lists that hold any, are JSON."""
    from psycopg.types.json import Jsonb

    if isinstance(value, dict):
        return Jsonb(value)
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return Jsonb(value)
    return value


def _said(error: "psycopg.Error") -> str:
    said = error.diag.message_primary or str(error).strip() or type(error).__name__
    return f"{said} ({error.sqlstate})" if error.sqlstate else said
