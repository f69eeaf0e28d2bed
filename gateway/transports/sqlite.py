"""One statement on a SQLite file, bounded and cancellable; the library is loaded with the first."""

import json
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pydantic import JsonValue

from gateway.domain.sql_values import Rows, Statement
from gateway.errors import StepInvalid

if TYPE_CHECKING:
    import sqlite3

BUSY_S: Final = 5.0
# `randomblob` and its like could fill our memory with one value.
MAX_VALUE_BYTES: Final = 16_000_000
LOOK_EVERY: Final = 1_000  # steps of its virtual machine


class SqliteAsking:
    """See `Asking`. A file that is not there is not made."""

    def __init__(self, path: str, read_only: bool, statement: Statement) -> None:
        self.has_begun = False
        self._path = path
        self._read_only = read_only
        self._statement = statement
        self._stopped = threading.Event()
        self._writes = False

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> dict[str, JsonValue]:
        import sqlite3

        self.has_begun = True
        try:
            with closing(self._open()) as connection:
                return self._ask(connection)
        # Before Python 3.12 a second statement is a Warning, which is no Error.
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            raise StepInvalid(str(error), "sql_failed") from error

    def _open(self) -> "sqlite3.Connection":
        import sqlite3

        mode = "ro" if self._read_only else "rw"
        connection = sqlite3.connect(
            f"file:{quote(self._path)}?mode={mode}",
            uri=True,
            timeout=min(self._statement.timeout_s, BUSY_S),
            isolation_level=None,
        )
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.set_progress_handler(self._stopped.is_set, LOOK_EVERY)
        if self._read_only:
            connection.execute("PRAGMA query_only = ON")
        # ATTACH, also that within VACUUM INTO, would reach other files.
        others = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA}
        writing = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}

        def allow(action: int, *about: Any) -> int:
            self._writes |= action in writing
            return sqlite3.SQLITE_DENY if action in others else sqlite3.SQLITE_OK

        connection.set_authorizer(allow)
        return connection

    def _ask(self, connection: "sqlite3.Connection") -> dict[str, JsonValue]:
        given = {str(n): _bound(v) for n, v in enumerate(self._statement.parameters, start=1)}
        cursor = connection.execute(self._statement.text, given)
        if cursor.description is None:
            return Rows([], 0).result(max(cursor.rowcount, 0))
        rows = Rows([column[0] for column in cursor.description], self._statement.max_rows)
        number = 0
        for row in cursor:
            number += 1
            # What writes is read to its end, so that it is done as a whole.
            if not rows.take(row) and not self._writes:
                break
        return rows.result(number if self._writes else len(rows.rows))


def _bound(value: JsonValue) -> str | int | float | None:
    """SQLite knows no objects and lists: they are their JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else value
