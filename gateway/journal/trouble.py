"""What is wrong with the disk under the journal, found out when it fails, in words for people."""

import errno
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

PROBE_NAME: Final = "probe"
FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_CODES: Final = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")
_DAMAGED_CODES: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_ENDS: Final = "results are kept until it works again, and no new work is begun"
Code = Literal["full", "read_only", "failing", "damaged"]


@dataclass(frozen=True)
class Trouble:
    """`text` is one sentence that names the folder or the file, and what to do."""

    code: Code
    text: str


def is_of_disk(error: BaseException) -> bool:
    """Whether an error of sqlite is the disk's, and so concerns all who use the journal."""
    return _name_of(error).startswith((*_FULL_CODES, *_DAMAGED_CODES))


def trouble_of(error: BaseException, folder: Path, file_name: str) -> Trouble:
    """What is wrong, given an OSError, or an error of sqlite that `is_of_disk`.

    sqlite calls most of it an I/O error: a small write says what the matter is.
    """
    name = _name_of(error)
    number = error.errno if isinstance(error, OSError) else None
    if name.startswith((*_DAMAGED_CODES, "SQLITE_IOERR_CORRUPTFS")):
        # sqlite takes an I/O error of a read for damage, too.
        number = _read(folder / file_name)
        if number is None:
            return damaged(folder / file_name, str(error))
    number = number or _probe(folder)
    if number in FULL_ERRORS or (number is None and name == "SQLITE_FULL"):
        return Trouble("full", f"The disk is full: {folder} takes nothing more; {_ENDS}.")
    if number == errno.EROFS or (number is None and name.startswith("SQLITE_READONLY")):
        return Trouble("read_only", f"The disk is read-only: {folder} cannot be written; {_ENDS}.")
    why = str(error) if number is None else os.strerror(number)
    return Trouble("failing", f"The disk fails: {folder}: {why}; {_ENDS}.")


def damaged(path: Path, why: str) -> Trouble:
    return Trouble(
        "damaged",
        f"The journal {path} is damaged ({why}): it is used no more. Keep a copy, look at the disk,"
        " then start with --new-journal: it is moved aside and what was open is tried anew.",
    )


def _name_of(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", "") if isinstance(error, sqlite3.Error) else ""


def _read(path: Path) -> int | None:
    """The number of the error that reading the whole file meets; None if it can be read."""
    try:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
    except OSError as error:
        return error.errno
    return None


def _probe(folder: Path) -> int | None:
    """The number of the error that a small write meets; None if it succeeds."""
    path = folder / PROBE_NAME
    try:
        with path.open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except OSError as error:
        return error.errno
    return None
