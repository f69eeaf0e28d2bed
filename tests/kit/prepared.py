"""Databases with all their tables: copies of one that was migrated once, a tenth of the cost."""

import shutil
from pathlib import Path

from cloud.storage.database import open_database
from tests.kit.postgres import PostgresServer


class PreparedSqlite:
    """Its copies are files of their own."""

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.db"
        _prepare(f"sqlite:///{self._template}")

    def copy_to(self, path: Path) -> str:
        """The SQLAlchemy URL of a copy at `path`."""
        shutil.copyfile(self._template, path)
        return f"sqlite:///{path}"


class PreparedPostgres:
    """Its copies are databases of the same server."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._template = server.create_database()
        _prepare(self._template)

    def copy(self) -> str:
        """The SQLAlchemy URL of a new copy; `PostgresServer.drop_database` drops it."""
        return self._server.create_database(of=self._template)


def _prepare(url: str) -> None:
    database = open_database(url)
    try:
        database.prepare_now()
    finally:
        database.close()
