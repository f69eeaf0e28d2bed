"""The journal's database: sqlite3, WAL. Plain functions, each whole, in one writer thread.

What several callers ask for at the same moment shares one commit; each function has a savepoint of
its own, so the error of one is its caller's alone. A commit is synced to disk unless all that it
holds was asked for without.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from gateway import crash_points
from gateway.errors import SettingsInvalid, StorageFull
from gateway.folders import make_folder
from gateway.journal.in_hand import InHand
from gateway.journal.sealing import Sealer

# What a function of the journal is handed.
Rows = sqlite3.Connection
P = ParamSpec("P")
R = TypeVar("R")

LARGEST_GROUP: Final = 200
FILE_NAME: Final = "journal.db"
LOCK_NAME: Final = "journal.lock"
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_FULL_CODES: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC"})


@dataclass
class _Request:
    function: Callable[[sqlite3.Connection], Any]
    synced: bool
    name: str
    result: "Future[Any]" = field(default_factory=Future)


class Database:
    """An open journal. Made by `open_database`; `close` it before another process opens it."""

    def __init__(
        self, connection: sqlite3.Connection, lock: int, in_hand: InHand, inline: bool
    ) -> None:
        self.in_hand = in_hand
        self._connection = connection
        self._lock = lock
        self._inline = inline
        self._synced = True
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closed = False
        self.is_full = False
        self.commits = 0
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        if not inline:
            self._thread.start()

    async def run(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run `function(db, ...)` whole; it is committed and synced when this returns.

        Raises what it raises, with all it did rolled back, and StorageFull when the disk is full.
        """
        call = lambda db: function(db, *args, **kwargs)  # noqa: E731
        return await self._ask(call, True, _name_of(function))

    async def run_unsynced(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """As `run`, but a power cut may forget it; the end of the process does not."""
        call = lambda db: function(db, *args, **kwargs)  # noqa: E731
        return await self._ask(call, False, _name_of(function))

    def run_now(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """As `run`, for callers without a loop: it blocks."""
        call = lambda db: function(db, *args, **kwargs)  # noqa: E731
        request = _Request(call, True, _name_of(function))
        self._submit(request)
        result: R = request.result.result()
        return result

    def close(self) -> None:
        """Finish what was asked for, and let go of the files."""
        if self._closed:
            return
        self._closed = True
        if not self._inline:
            self._requests.put(None)
            self._thread.join()
        self._connection.close()
        self.in_hand.close()
        os.close(self._lock)

    async def _ask(self, function: Callable[[sqlite3.Connection], R], synced: bool, name: str) -> R:
        request = _Request(function, synced, name)
        self._submit(request)
        if self._inline:
            done: R = request.result.result()
            return done
        # Shielded: a caller that is cancelled does not take its function back.
        result: R = await asyncio.shield(asyncio.wrap_future(request.result))
        return result

    def _submit(self, request: _Request) -> None:
        if self._closed:
            raise RuntimeError("the journal is closed")
        if self._inline:
            self._commit([request])
        else:
            self._requests.put(request)

    def _write(self) -> None:
        while (request := self._requests.get()) is not None:
            group = [request]
            ends = False
            while len(group) < LARGEST_GROUP:
                try:
                    following = self._requests.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ends = True
                    break
                group.append(following)
            self._commit(group)
            if ends:
                return

    def _commit(self, group: list[_Request]) -> None:
        answers: list[tuple[_Request, Any, BaseException | None]] = []
        try:
            self._set_synced(any(request.synced for request in group))
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [self._run_one(request) for request in group]
            if crash_points.IS_ARMED:
                _reach("journal.before_commit", group)
            self._connection.execute("COMMIT")
            if crash_points.IS_ARMED:
                _reach("journal.after_commit", group)
            self.commits += 1
            self.is_full = False
        except sqlite3.Error as error:
            self._roll_back()
            problem = self._translated(error)
            answers = [(request, None, problem) for request in group]
        for request, result, failure in answers:
            if failure is None:
                request.result.set_result(result)
            else:
                request.result.set_exception(failure)

    def _run_one(self, request: _Request) -> tuple[_Request, Any, BaseException | None]:
        self._connection.execute("SAVEPOINT one")
        try:
            result = request.function(self._connection)
        except Exception as error:
            is_whole = isinstance(error, sqlite3.Error) and _is_full(error)
            if is_whole or not self._connection.in_transaction:
                raise  # a full disk concerns the whole group
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            return request, None, error
        self._connection.execute("RELEASE one")
        return request, result, None

    def _set_synced(self, synced: bool) -> None:
        if synced is not self._synced:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            self._synced = synced

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _translated(self, error: sqlite3.Error) -> Exception:
        if _is_full(error):
            self.is_full = True
            return StorageFull(f"the journal cannot be written: {error}")
        return error


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "")


def _reach(name: str, group: Sequence[_Request]) -> None:
    for request in group:
        crash_points.reach(name, request.name)


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "") in _FULL_CODES


def open_database(folder: Path, inline: bool = False) -> Database:
    """Open the journal in a folder, and bring it up to date; the folder is made if need be.

    `inline` runs functions in the caller, for loops whose time is virtual. Raises SettingsInvalid
    when another process has it, or the folder cannot be written.
    """
    try:
        make_folder(folder)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsInvalid(f"data_dir: {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise SettingsInvalid(f"data_dir: another process uses the journal in {folder}") from None
    connection = sqlite3.connect(
        folder / FILE_NAME, isolation_level=None, check_same_thread=False, timeout=30
    )
    # FULL: measured, a power cut after a commit keeps everything with it and nothing without.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "cache_size=-2048",
        "temp_store=MEMORY",
        "busy_timeout=30000",
    ):
        connection.execute(f"PRAGMA {pragma}").close()
    sealer = Sealer(folder)
    connection.create_function("seal", 1, sealer.seal)
    connection.create_function("unseal", 1, sealer.open)
    migrate(connection)
    return Database(connection, lock, InHand(folder), inline)


def migrate(connection: sqlite3.Connection) -> int:
    """Bring the tables up to date; returns the version. A newer journal is left as it is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for path in sorted(_MIGRATIONS.glob("[0-9][0-9][0-9][0-9]_*.sql")):
        number = int(path.name[:4])
        if number <= version:
            continue
        connection.execute("BEGIN IMMEDIATE")
        for statement in _statements(path.read_text(encoding="utf-8")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={number}")
        connection.execute("COMMIT")
        version = number
    return int(version)


def _statements(script: str) -> list[str]:
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
