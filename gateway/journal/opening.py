"""Opens the journal's file, sound or not at all; moves a damaged one aside when asked to."""

import sqlite3
from pathlib import Path
from typing import Final

from gateway.errors import JournalDamaged
from gateway.journal.trouble import damaged

# Looking at each page of a larger one would keep a slow disk busy for long.
CHECKED_BYTES: Final = 64 << 20
_PRAGMAS: Final = (
    "journal_mode=WAL",
    # FULL: measured, a power cut after a commit keeps everything with it and nothing without.
    "synchronous=FULL",
    "cache_size=-2048",
    "temp_store=MEMORY",
    "busy_timeout=30000",
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that keeps what it commits. Raises sqlite3.Error and JournalDamaged."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    # A damaged text must not keep the sound ones from being read; what it says is looked at then.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()
        if path.stat().st_size <= CHECKED_BYTES:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise JournalDamaged(damaged(path, " ".join(str(found).split())[:200]).text)
    except UnicodeDecodeError as error:  # sqlite names a damaged table in the text of its error
        connection.close()
        raise JournalDamaged(damaged(path, "its tables have no names").text) from error
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorname != "SQLITE_ERROR":
            raise
        raise JournalDamaged(damaged(path, str(error)[:200]).text) from error
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside(path: Path) -> Path:
    """Give a journal that is of no use another name beside it; returns that."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(aside.with_name(aside.name + suffix))
    return aside
