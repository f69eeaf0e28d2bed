"""The journal's database: sqlite3, WAL. Plain functions, each whole, in one writer thread.

What several callers ask for at the same moment shares one commit; each function has a savepoint of
its own, so the error of one is its caller's alone. A commit is synced to disk unless all that it
holds was asked for without, and nothing in it called SQL's `sync_before_answering()`.
"""

import asyncio
import contextlib
import errno
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
from gateway.errors import JournalDamaged, SettingsInvalid, StorageFailed, StorageFull
from gateway.folders import make_folder
from gateway.journal.in_hand import InHand
from gateway.journal.opening import connect
from gateway.journal.sealing import Sealer
from gateway.journal.trouble import Trouble, is_of_disk, trouble_of

# What a function of the journal is handed.
Rows = sqlite3.Connection
P = ParamSpec("P")
R = TypeVar("R")

LARGEST_GROUP: Final = 200
FILE_NAME: Final = "journal.db"
LOCK_NAME: Final = "journal.lock"
DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_ERRORS: Final[dict[str, type[StorageFull]]] = {
    "full": StorageFull,
    "damaged": JournalDamaged,
}


@dataclass
class _Request:
    function: Callable[[sqlite3.Connection], Any]
    synced: bool
    name: str
    result: "Future[Any]" = field(default_factory=Future)


class Database:
    """An open journal. Made by `open_database`; `close` it before another process opens it.

    `trouble` is what is wrong with its disk, until something was written again; `on_trouble` is
    called when that has changed, in the thread that writes.
    """

    def __init__(
        self,
        folder: Path,
        connection: sqlite3.Connection,
        lock: int,
        in_hand: InHand,
        inline: bool,
    ) -> None:
        self.in_hand = in_hand
        self.trouble: Trouble | None = None
        self.on_trouble: Callable[[], None] = lambda: None
        self._folder = folder
        self._connection = connection
        self._lock = lock
        self._inline = inline
        self._synced = True
        self._owes_sync = False
        connection.create_function("sync_before_answering", 0, self._owe_sync)
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closed = False
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

        Raises what it raises, with all it did rolled back, and StorageFull when the disk is full,
        or does not work at all.
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
        written = self._connection.total_changes
        try:
            self._must_be_sound()
            self._set_synced(any(request.synced for request in group))
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [self._run_one(request) for request in group]
            if crash_points.IS_ARMED:
                _reach("journal.before_commit", group)
            self._connection.execute("COMMIT")
            if self._owes_sync:
                self._pay_sync()
            if crash_points.IS_ARMED:
                _reach("journal.after_commit", group)
            self.commits += 1
            # What only looks says nothing of the disk's room.
            if self.trouble is not None and self._connection.total_changes > written:
                self._set_trouble(None)
        except (sqlite3.Error, StorageFull) as error:
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
            if is_of_disk(error) or not self._connection.in_transaction:
                raise  # the disk concerns the whole group
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            return request, None, error
        self._connection.execute("RELEASE one")
        return request, result, None

    def _owe_sync(self) -> None:
        self._owes_sync = True

    def _pay_sync(self) -> None:
        """What was just committed outlives a power cut; tried at each commit until it succeeds."""
        if not self._synced:
            self._set_synced(True)
            # Only a commit that writes syncs the log; what it writes does not matter.
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "INSERT OR REPLACE INTO meta VALUES ('synced', ?)", (str(self.commits),)
            )
            self._connection.execute("COMMIT")
        self._owes_sync = False

    def _set_synced(self, synced: bool) -> None:
        if synced is not self._synced:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            self._synced = synced

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _must_be_sound(self) -> None:
        if self.trouble is not None and self.trouble.code == "damaged":
            raise JournalDamaged(self.trouble.text)

    def _translated(self, error: Exception) -> Exception:
        if not is_of_disk(error):
            return error
        self._set_trouble(trouble_of(error, self._folder, FILE_NAME))
        return _error_of(self.trouble)

    def _set_trouble(self, trouble: Trouble | None) -> None:
        is_other, self.trouble = trouble != self.trouble, trouble
        if is_other:
            self.on_trouble()


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "")


def _reach(name: str, group: Sequence[_Request]) -> None:
    for request in group:
        crash_points.reach(name, request.name)


def _error_of(trouble: Trouble | None) -> StorageFull:
    if trouble is None:
        return StorageFull("the disk failed for a moment")
    return _ERRORS.get(trouble.code, StorageFailed)(trouble.text)


def open_database(folder: Path, inline: bool = False) -> Database:
    """Open the journal in a folder, and bring it up to date; the folder is made if need be.

    `inline` runs functions in the caller, for loops whose time is virtual. Raises SettingsInvalid
    when another process has it, or the folder is no place for it; StorageFull when the disk is
    full, StorageFailed when it does not work, and JournalDamaged.
    """
    try:
        make_folder(folder)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise _error_of(trouble_of(error, folder, FILE_NAME)) from error
        raise SettingsInvalid(f"data_dir: {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise SettingsInvalid(f"data_dir: another process uses the journal in {folder}") from None
    try:
        connection = connect(folder / FILE_NAME)
        try:
            sealer = Sealer(folder)
            connection.create_function("seal", 1, sealer.seal)
            connection.create_function("unseal", 1, sealer.open)
            migrate(connection)
            return Database(folder, connection, lock, InHand(folder), inline)
        except BaseException:
            connection.close()
            raise
    except BaseException as error:
        os.close(lock)
        if is_of_disk(error):
            raise _error_of(trouble_of(error, folder, FILE_NAME)) from error
        raise


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
