"""Seals the secrets of bodies before they are journaled, with a key in a file of its own.

The key lies beside the journal: it keeps secrets out of copies of the database, of crash reports
and of curious eyes in it, not from whoever owns the machine.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.folders import sync_names

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

FILE_NAME: Final = "journal.key"


class Sealer:
    """The key is read or made when the first secret comes: most gateways never need one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def seal(self, text: str) -> str:
        return self._fernet().encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str | None:
        """The text; None when the key is gone or another one."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet().decrypt(sealed.encode()).decode()
        except (InvalidToken, ValueError):
            return None

    def _fernet(self) -> "Fernet":
        from cryptography.fernet import Fernet  # late: memory that few gateways need

        try:
            return Fernet(self._path.read_bytes())
        except FileNotFoundError:
            pass
        except ValueError:  # no key any more: what was sealed with it is lost in any case
            self._path.replace(self._path.with_name(f"{FILE_NAME}.damaged"))
        if not self._path.exists():
            beside = self._path.with_name(f"{FILE_NAME}.new")
            beside.unlink(missing_ok=True)
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(Fernet.generate_key())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            sync_names(self._path.parent)
        return Fernet(self._path.read_bytes())
