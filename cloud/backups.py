"""`backup` and `restore`: a SQLite database to a file and back; what a restore leaves behind.

A PostgreSQL database is dumped and restored by its own tools; `restore` without a file then marks
it as restored.
"""

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cloud.data_dir import hold_data_dir
from cloud.errors import SettingsInvalid
from cloud.settings import CloudSettings
from cloud.storage import recovery, sqlite_files
from cloud.storage.database import Database, open_database

COMMANDS: Final = ("backup", "restore")
_SQLITE: Final = "sqlite:///"


def backup(settings: CloudSettings, target: Path) -> None:
    """Write the database as it is at one moment, while the cloud runs.

    Raises SettingsInvalid and StorageUnavailable.
    """
    source = _sqlite_file(settings, "backup")
    if not source.exists():
        raise SettingsInvalid(f"there is no database {source}")
    if target.exists():
        raise SettingsInvalid(f"{target} exists: a backup is not written over another")
    beside = target.with_name(f"{target.name}.part")
    sqlite_files.copy(source, beside)
    beside.rename(target)


def restore(settings: CloudSettings, file: Path | None, incarnation: str) -> Path | None:
    """Put a backup in the database's place; without a file, mark the one there as restored.

    Returns where the database before was put aside. Raises StorageUnavailable, and SettingsInvalid
    also while a cloud runs in that folder.
    """
    with hold_data_dir(settings.data_dir):
        if file is None:
            _mark_restored(settings.database_url, incarnation)
            return None
        place = _sqlite_file(settings, "restore")
        sqlite_files.check(file)
        incoming = place.with_name(f"{place.name}.restoring")
        sqlite_files.copy(file, incoming)
        # Marked before it is in place: a cloud never starts on it without knowing.
        _mark_restored(f"{_SQLITE}{incoming}", incarnation)
        aside = None
        if place.exists():
            aside = place.with_name(f"{place.name}.{time.strftime('before-%Y%m%d-%H%M%S')}")
            sqlite_files.move(place, aside)
        sqlite_files.move(incoming, place)
        return aside


def _sqlite_file(settings: CloudSettings, command: str) -> Path:
    url = settings.database_url
    if not url.startswith(_SQLITE):
        raise SettingsInvalid(
            f"{command}: this is for SQLite; use pg_dump and pg_restore, then `restore` without a "
            "file: see docs/how-to/restore-the-cloud.md"
        )
    return Path(url.removeprefix(_SQLITE))


def _mark_restored(url: str, incarnation: str) -> None:
    with _opened(url) as database:
        database.prepare_now()
        database.run_now(recovery.begin, incarnation, time.time_ns() // 1_000_000)


@contextlib.contextmanager
def _opened(url: str) -> Iterator[Database]:
    database = open_database(url)
    try:
        yield database
    finally:
        database.close()


def options() -> argparse.ArgumentParser:
    """What `roundsman cloud backup|restore` takes."""
    parser = argparse.ArgumentParser(prog="roundsman cloud")
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("backup", help="copy the SQLite database while the cloud runs")
    made.add_argument("file", type=Path, help="where to; must not exist")
    back = commands.add_parser("restore", help="put a backup in its place, while no cloud runs")
    back.add_argument(
        "file", type=Path, nargs="?",
        help="the backup; none marks a database that its own tools have restored",
    )  # fmt: skip
    for command in (made, back):
        command.add_argument("--config", type=Path, help="the cloud's settings")
    return parser
