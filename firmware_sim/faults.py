"""The seeded plan of what goes wrong on one device: the same seed always misbehaves alike.

Chance is a hash of seed, kind and count, so nothing here holds state or asks for randomness.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CHATTER_EVERY_S: Final = 0.05


class TestBoot(StrEnum):
    """What becomes of a new image at its first boot."""

    __test__ = False  # a name that pytest would collect

    RUNS = "runs"
    REVERTS = "reverts"  # it boots, crashes, and the bootloader goes back
    IGNORED = "ignored"  # every request is answered with success, the old image boots


class NewCertificate(StrEnum):
    """What becomes of a new certificate when the device is to connect with it."""

    CONNECTS = "connects"
    FAILS = "fails"  # the server refuses it: the device says so, and goes back
    IGNORED = "ignored"  # the request is answered with success, the old one stays in use


@dataclass(frozen=True, slots=True)
class Silence:
    """No answers: from request number `after_requests` (1 is the first) or second `after_s` on.

    It lasts `requests` requests or `for_s` seconds, whichever of the two is given.
    """

    after_requests: int | None = None
    requests: int | None = None
    after_s: float | None = None
    for_s: float | None = None

    def covers(self, request: int, elapsed_s: float) -> bool:
        if self.after_requests is not None:
            since = request - self.after_requests
            return since >= 0 and (self.requests is None or since < self.requests)
        if self.after_s is not None:
            since_s = elapsed_s - self.after_s
            return since_s >= 0 and (self.for_s is None or since_s < self.for_s)
        return False


@dataclass(frozen=True, slots=True)
class Unplug:
    """The line is gone for `for_s` seconds, after so many upload chunks or seconds from start."""

    for_s: float
    after_chunks: int | None = None
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Chatter:
    """Garbage without being asked: `bytes_per_s` from `after_s` on, for `for_s` seconds."""

    after_s: float
    for_s: float
    bytes_per_s: float = 11_520.0

    def pieces(self, seed: str) -> list[tuple[float, bytes]]:
        """What is said, each piece with the second at which it is."""
        size = max(1, int(self.bytes_per_s * CHATTER_EVERY_S))
        return [
            (self.after_s + tick * CHATTER_EVERY_S, garbage(seed, f"chatter {tick}", size))
            for tick in range(int(self.for_s / CHATTER_EVERY_S))
        ]


def garbage(seed: str, kind: str, size: int) -> bytes:
    """So many bytes that mean nothing, always the same for the same seed and kind."""
    return hashlib.shake_128(f"{seed}/{kind}".encode()).digest(size)


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong. Probabilities are 0 to 1, per line or per reply.

    `lost_lines` and `corrupted_lines` count for both directions; `torn_replies` have a log line
    pushed into their middle; `log_noise` is text around replies. `refuse_upload` is the image
    group error code an upload is refused with. `reboot_after_chunks` counts chunks over the
    device's whole life, `disconnect_after_requests` requests (MQTT). `chatters` count from the
    first start (serial).
    """

    seed: str = "0"
    lost_lines: float = 0.0
    corrupted_lines: float = 0.0
    torn_replies: float = 0.0
    late_replies: float = 0.0
    late_by_s: float = 3.0
    doubled_replies: float = 0.0
    log_noise: float = 0.0
    silences: tuple[Silence, ...] = ()
    unplugs: tuple[Unplug, ...] = ()
    chatters: tuple[Chatter, ...] = ()
    reboot_after_chunks: tuple[int, ...] = ()
    refuse_upload: int | None = None
    test_boot: TestBoot = TestBoot.RUNS
    new_certificate: NewCertificate = NewCertificate.CONNECTS
    disconnect_after_requests: tuple[int, ...] = ()
    disconnect_for_s: float = 2.0

    def chance(self, kind: str, count: int) -> float:
        """A number in [0, 1) that depends on nothing but the seed, `kind` and `count`."""
        digest = hashlib.sha256(f"{self.seed}/{kind}/{count}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56

    def happens(self, kind: str, probability: float, count: int) -> bool:
        return probability > 0 and self.chance(kind, count) < probability

    def is_silent(self, request: int, elapsed_s: float) -> bool:
        return any(silence.covers(request, elapsed_s) for silence in self.silences)

    def spoil_line(self, direction: str, line: bytes, count: int) -> bytes | None:
        """The line as the other end gets it: whole, with one byte changed, or None for lost."""
        if self.happens(f"lost {direction}", self.lost_lines, count):
            return None
        if not self.happens(f"corrupted {direction}", self.corrupted_lines, count) or not line:
            return line
        where = int(self.chance(f"where {direction}", count) * len(line))
        flip = 1 << int(self.chance(f"bit {direction}", count) * 8)
        return line[:where] + bytes([line[where] ^ flip]) + line[where + 1 :]

    def unplug_at_chunk(self, chunk: int) -> Unplug | None:
        return next((unplug for unplug in self.unplugs if unplug.after_chunks == chunk), None)
