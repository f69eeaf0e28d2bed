"""Deployed profiles on disk: one file each, replaced whole, and surely there before it is used."""

import contextlib
import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.folders import make_folder, sync_names

SUFFIX: Final = ".yaml"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class ProfileFile:
    """What a file holds. Size in bytes."""

    sha256: str
    size: int


class ProfileFiles:
    """The folder is made with the first file. Writing may raise OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self) -> dict[str, ProfileFile]:
        """Every file by the profile's name; the files themselves are the only record.

        What is not ours, or cannot be read, is left out.
        """
        found = {}
        with contextlib.suppress(OSError):
            for path in sorted(self.folder.iterdir()):
                name = path.name.removesuffix(SUFFIX)
                if path.name.endswith(SUFFIX) and _NAME.fullmatch(name):
                    with contextlib.suppress(OSError):
                        found[name] = _about(path.read_bytes())
        return found

    def read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def write(self, name: str, data: bytes) -> ProfileFile:
        """Put it in the place of the one before; a stop at any moment leaves one of the two."""
        make_folder(self.folder)
        beside = self._path(name).with_suffix(".new")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path(name))
        sync_names(self.folder)
        return _about(data)

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)
        sync_names(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"


def _about(data: bytes) -> ProfileFile:
    return ProfileFile(sha256(data).hexdigest(), len(data))
