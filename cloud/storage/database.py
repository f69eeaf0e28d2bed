"""Runs a plain function whole inside one transaction, in a thread; lends it a Session.

SQLite has one writer thread, so writers never wait for each other's locks; readers have a small
pool of their own. PostgreSQL has a pool of both. Nothing can await in a transaction.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlmodel import Session as Session  # lent out: nobody else imports SQLModel for it
from sqlmodel import create_engine

from cloud.crash_points import reach
from cloud.errors import StorageDamaged, StorageFull, StorageUnavailable
from cloud.storage.upgrade import upgrade

P = ParamSpec("P")
R = TypeVar("R")

READERS: Final = 4
POSTGRES_WRITERS: Final = 4
# PostgreSQL chose this transaction to break a circle of locks; again, it will work.
_DEADLOCKS: Final = ("40P01", "40001")
_TRIES: Final = 5
# To look at each page of a larger file at every start would take too long.
CHECKED_BYTES: Final = 64 << 20
_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


class Database:
    """A database and the threads that use it. Made by `open_database`, closed by `close`."""

    def __init__(self, engine: Engine, writers: int) -> None:
        self.engine = engine
        # IMMEDIATE: a transaction that read first and writes later could not wait for its turn.
        self._writing = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="db-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-reader")

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    async def run(
        self, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `function(session, ...)` in one transaction, and commit what it did.

        Raises whatever it raises, with everything rolled back; StorageFull when the disk is, and
        StorageUnavailable when the database does not answer.
        """
        call = lambda: self.run_now(function, *args, **kwargs)  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(self._writers, call)

    async def read(
        self, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Like `run`, for functions that change nothing; they do not queue behind writers."""
        call = lambda: self.read_now(function, *args, **kwargs)  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    def run_now(
        self, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Like `run`, in the calling thread."""
        for tries_left in range(_TRIES - 1, -1, -1):
            try:
                call = lambda s: _until_commit(function, s, *args, **kwargs)  # noqa: E731
                result = _in_transaction(self._writing, call)
            except _LostRace as lost:
                if not tries_left:
                    raise StorageUnavailable(str(lost)) from lost
                continue
            reach("database.after_commit", _name_of(function))
            return result
        raise AssertionError("the last try returns or raises")

    def read_now(
        self, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Like `read`, in the calling thread."""
        try:
            return _in_transaction(self.engine, lambda s: function(s, *args, **kwargs))
        except _LostRace as lost:
            raise StorageUnavailable(str(lost)) from lost

    async def prepare(self) -> None:
        """Create or migrate the tables.

        Raises StorageUnavailable, StorageDamaged and StorageFull.
        """
        await asyncio.get_running_loop().run_in_executor(self._writers, self.prepare_now)

    def prepare_now(self) -> None:
        """The same, in the calling thread."""
        try:
            if self.is_sqlite:
                _must_be_sound(self.engine)
            upgrade(self._writing)
        except DatabaseError as error:
            if _is_damage(error):
                text = _damage(str(error.orig), self.engine.url.database)
                raise StorageDamaged(text) from error
            if isinstance(error, OperationalError):
                raise _translated(error) from error
            raise

    def close(self) -> None:
        self._writers.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open `sqlite:///path` or `postgresql+psycopg://...`. Nothing is read or created yet."""
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin)
        return Database(engine, writers=1)
    engine = create_engine(url, pool_size=READERS + POSTGRES_WRITERS, pool_pre_ping=True)
    return Database(engine, writers=POSTGRES_WRITERS)


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "")


def _until_commit(
    function: Callable[Concatenate[Session, P], R],
    session: Session,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    result = function(session, *args, **kwargs)
    reach("database.before_commit", _name_of(function))
    return result


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: _begin does.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: measured, a power cut after a commit keeps everything with it and nothing without.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=30000",
        "foreign_keys=ON",
        "cache_size=-65536",
        "temp_store=MEMORY",
        "case_sensitive_like=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


class _LostRace(Exception):
    """The database asks to run the transaction again."""


def _in_transaction(engine: Engine, function: Callable[[Session], R]) -> R:
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            return function(session)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _DEADLOCKS:
            raise _LostRace(str(error.orig)) from error
        if isinstance(error, OperationalError) or _is_damage(error):
            raise _translated(error) from error
        if error.connection_invalidated:
            raise StorageUnavailable(str(error.orig)) from error
        raise


def _must_be_sound(engine: Engine) -> None:
    """A small database is looked through; a large one shows where it is broken when it is read."""
    with engine.connect() as connection:
        pages, size = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("page_count", "page_size")
        )
        if pages * size <= CHECKED_BYTES:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if found != "ok":
                raise StorageDamaged(_damage(str(found), engine.url.database))


def _is_damage(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlite_errorname", "").startswith(_DAMAGED)


def _damage(why: str, file: str | None = None) -> str:
    what = f"the database {file}" if file else "the database"
    why = " ".join(why.split())[:200]
    return f"{what} is damaged ({why}): keep a copy of it, then restore a backup"


def _translated(error: DBAPIError) -> Exception:
    message = str(error.orig)
    if _is_damage(error):
        return StorageDamaged(_damage(message))
    if "full" in message or "disk I/O" in message or "No space left" in message:
        return StorageFull(message)
    return StorageUnavailable(message)
