"""What the receiver has in hand, in a few bytes that outlive the process, not the machine.

A process that dies leaves here what it had in hand. What it dies of again and again is refused
then, so that a message of one gateway cannot keep the service from all others for ever.
"""

import hashlib
import mmap
import os
from pathlib import Path
from typing import Final

FILE_NAME: Final = "in-hand"
# Of one thing: the process has died of it alone so many times, and once before among others.
DEATHS_ALLOWED: Final = 2
_DIGEST: Final = 16
_ENTRIES: Final = 128
_BATCH: Final = b"\x01" * _DIGEST
_NOTHING: Final = bytes(_DIGEST)


class InHand:
    """One thing at a time. A page of shared memory: to take and to put down costs no disk."""

    def __init__(self, folder: Path) -> None:
        file = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(file, (_ENTRIES + 1) * (_DIGEST + 1))
            self._page = mmap.mmap(file, (_ENTRIES + 1) * (_DIGEST + 1))
        finally:
            os.close(file)
        left = self._page[:_DIGEST]
        self.is_careful = left != _NOTHING or any(self._at(place)[1] for place in range(_ENTRIES))
        if left not in (_NOTHING, _BATCH):
            self._count(left)
        self.put_down()

    def take_many(self) -> None:
        """Take several things at once, for as long as nobody has died of one."""
        self._page[:_DIGEST] = _BATCH

    def take(self, what: str) -> bool:
        """Take one thing; False if we have died of it too often: then it is not in hand."""
        digest = _digest(what)
        if self._deaths(digest) >= DEATHS_ALLOWED:
            return False
        self._page[:_DIGEST] = digest
        return True

    def put_down(self, what: str = "") -> None:
        """It is done. What was named is no suspect any more."""
        self._page[:_DIGEST] = _NOTHING
        if what:
            digest = _digest(what)
            for place in range(_ENTRIES):
                if self._at(place)[0] == digest:
                    self._put(place, _NOTHING, 0)

    def close(self) -> None:
        self._page.close()

    def _deaths(self, digest: bytes) -> int:
        return max((n for d, n in map(self._at, range(_ENTRIES)) if d == digest), default=0)

    def _count(self, digest: bytes) -> None:
        known = [place for place in range(_ENTRIES) if self._at(place)[0] == digest]
        free = [place for place in range(_ENTRIES) if not self._at(place)[1]]
        # Where there is no room the oldest suspects are long past: any of them goes.
        place = (known or free or [digest[0] % _ENTRIES])[0]
        self._put(place, digest, min(self._deaths(digest) + 1, 255))

    def _at(self, place: int) -> tuple[bytes, int]:
        start = (place + 1) * (_DIGEST + 1)
        return self._page[start : start + _DIGEST], self._page[start + _DIGEST]

    def _put(self, place: int, digest: bytes, deaths: int) -> None:
        start = (place + 1) * (_DIGEST + 1)
        self._page[start : start + _DIGEST + 1] = digest + bytes([deaths])


def _digest(what: str) -> bytes:
    return hashlib.blake2b(what.encode(), digest_size=_DIGEST).digest()
