"""Folders that a power cut leaves where they are: names are synced as bytes are."""

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make it, and those above it, if need be; what is made is there for good. Raises OSError."""
    made = []
    place = folder
    while not place.exists():
        made.append(place)
        place = place.parent
    folder.mkdir(parents=True, exist_ok=True)
    for new in reversed(made):
        sync_names(new.parent)


def sync_names(folder: Path) -> None:
    """What was made, renamed or removed in it stays so. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
