"""Databases that steps may ask, by the names the operator has given them.

A statement runs in a thread of its own kind's driver, which is loaded with the first one, and is
really cancelled at its time limit: in the server, not only here.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Protocol, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from gateway.domain.sql_values import Statement
from gateway.errors import DeviceUnreachable, SettingsInvalid, StepInvalid
from gateway.transports.secret_files import secret_of

AT_ONCE: Final = 10
# How long a statement that was cancelled may take to say how it ended.
LAST_WORD_S: Final = 5.0
SQLITE: Final = "sqlite:///"


class DatabaseOptions(BaseModel):
    """A database of `sql.query`. Give its user no more rights than the jobs need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        description="`postgresql://user@host/name`, `sqlite:///file` or `sqlite:////absolute/file`"
    )
    read_only: bool = Field(default=True, description="statements that change anything fail")
    password: str | None = Field(default=None, description="better in a file")
    password_file: Path | None = Field(default=None, description="a file that holds the password")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.is_sqlite:
            if not self.path:
                raise ValueError("url: name the file, as in sqlite:///plant.db")
        elif urlsplit(self.url).scheme not in ("postgresql", "postgres"):
            raise ValueError("url: a database is at postgresql://... or sqlite:///...")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file: give one of them")
        return self

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith(SQLITE)

    @property
    def path(self) -> str:
        return self.url.removeprefix(SQLITE)


DatabaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
DatabasesByName = Annotated[dict[DatabaseName, DatabaseOptions], Field(max_length=100)]


class Asking(Protocol):
    """One statement under way."""

    @property
    def has_begun(self) -> bool: ...

    def run(self) -> dict[str, JsonValue]:
        """Ask, in a thread, and give what `gateway.domain.sql_values.Rows` makes of it.

        Raises StepInvalid (`sql_failed`) when nothing has changed, DeviceUnreachable when that is
        not known.
        """
        ...

    def stop(self) -> None:
        """From another thread: cancel it, where it runs. Raises nothing."""
        ...


@dataclass
class Databases:
    """What is configured, asked some statements at a time."""

    configured: Mapping[str, DatabaseOptions] = field(default_factory=dict)
    passwords: Mapping[str, str | None] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sql")
    )

    @classmethod
    def of(cls, configured: Mapping[str, DatabaseOptions]) -> Self:
        """Raises SettingsInvalid for a driver or a password's file that is not there."""
        for name, options in configured.items():
            if not options.is_sqlite and find_spec("psycopg") is None:
                raise SettingsInvalid(
                    f"databases.{name}: PostgreSQL needs a driver: pip install 'roundsman[sql]'"
                )
        return cls(
            configured,
            {
                name: secret_of(found.password, found.password_file, f"databases.{name}")
                for name, found in configured.items()
            },
        )

    def is_read_only(self, name: str) -> bool:
        """Raises StepInvalid (`database_unknown`)."""
        return self._options(name).read_only

    async def query(self, name: str, statement: Statement) -> dict[str, JsonValue]:
        """The statement's rows. Raises StepInvalid and DeviceUnreachable as `Asking.run`."""
        asking = self._asking(name, statement)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, asking.run)
        try:
            async with asyncio.timeout(statement.timeout_s):
                return await asyncio.shield(running)
        except TimeoutError:
            loop.run_in_executor(None, asking.stop)
        except asyncio.CancelledError:
            loop.run_in_executor(None, asking.stop)
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise
        late = f"`{name}`: no answer within {statement.timeout_s:g} s"
        if not asking.has_begun:
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise StepInvalid(f"{late}; it has not begun", "sql_failed")
        await asyncio.wait({running}, timeout=LAST_WORD_S)
        if not running.done():
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise DeviceUnreachable(f"{late}, nor to the cancel")
        error = running.exception()
        if error is None:
            return running.result()
        if isinstance(error, DeviceUnreachable):
            raise DeviceUnreachable(f"{late}: {error}") from error
        raise StepInvalid(f"{late}: {error}", "sql_failed") from error

    def _options(self, name: str) -> DatabaseOptions:
        found = self.configured.get(name)
        if found is None:
            known = ", ".join(sorted(self.configured)) or "none"
            text = f"this gateway has no database `{name[:63]}` (it has: {known})"
            raise StepInvalid(text, "database_unknown")
        return found

    def _asking(self, name: str, statement: Statement) -> Asking:
        options = self._options(name)
        if options.is_sqlite:
            from gateway.transports.sqlite import SqliteAsking

            return SqliteAsking(options.path, options.read_only, statement)
        from gateway.transports.postgresql import PostgresAsking

        return PostgresAsking(options.url, self.passwords[name], options.read_only, statement)
