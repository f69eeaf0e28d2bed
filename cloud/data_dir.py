"""The folder of one cloud, used by one process at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from cloud.errors import SettingsInvalid


@contextlib.contextmanager
def hold_data_dir(folder: Path) -> Iterator[None]:
    """Make the folder and keep others out of it. Raises SettingsInvalid."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise SettingsInvalid(f"data_dir: {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsInvalid(f"data_dir: another cloud runs in {folder}") from None
        yield
