"""A wall clock that is wrong, for one real program: libfaketime, told what to say by a file."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest


class WrongClock:
    """`env` is for the program. Its monotonic clock stays right, as a real one does."""

    def __init__(self, folder: Path, off_s: float = 0) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        if not found:
            pytest.skip("libfaketime is not installed (apt install libfaketime)")
        self._file = folder / "clock"
        self.set(off_s)
        self.env: Mapping[str, str] = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
        }

    def set(self, off_s: float) -> None:
        """From now on it is ahead of the right time by so much."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{off_s:+.0f}s\n")
        beside.replace(self._file)

    def set_to_1970(self) -> None:
        self.set(86_400 - _now_s())


def is_about_now(moment: datetime) -> bool:
    """Within ten minutes: nobody had a clock that is wrong by hours."""
    return abs(moment.timestamp() - _now_s()) < 600


def _now_s() -> float:
    return datetime.now(UTC).timestamp()  # noqa: TID251 (the time that it really is)
