"""SQLite databases as files: copied while they are used, checked, put aside."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cloud.errors import StorageUnavailable

_PAGES: Final = 1_000
_BESIDE: Final = ("-wal", "-shm", "")


def copy(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, synced; the target is new, and its owner's alone.

    Raises StorageUnavailable, and leaves nothing behind then.
    """
    remove(target)
    try:
        # Made by us, so that nobody else may read what is in it.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with _opened(source) as live, contextlib.closing(sqlite3.connect(target)) as made:
            live.backup(made, pages=_PAGES, sleep=0)
            # In one file, whatever mode the source is in.
            made.execute("PRAGMA journal_mode=DELETE")
        with target.open("rb") as file:
            os.fsync(file.fileno())
    except (OSError, sqlite3.Error) as error:
        remove(target)
        raise StorageUnavailable(f"cannot copy {source} to {target}: {error}") from error


def check(file: Path) -> None:
    """Raises StorageUnavailable for what is no whole database of a cloud."""
    try:
        with _opened(file) as db:
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
            db.execute("SELECT incarnation FROM instance").fetchone()
    except (OSError, sqlite3.Error) as error:
        raise StorageUnavailable(f"{file} is no backup of a cloud: {error}") from error
    if found != "ok":
        raise StorageUnavailable(f"{file} is damaged: {found}")


def move(place: Path, to: Path) -> None:
    """Rename a database with what belongs to it; nothing is deleted."""
    for part in _BESIDE:
        if (old := Path(f"{place}{part}")).exists():
            old.rename(f"{to}{part}")


def remove(place: Path) -> None:
    for part in _BESIDE:
        Path(f"{place}{part}").unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """For reading: a file that is not there is not made."""
    with contextlib.closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=30)
    ) as db:
        yield db
