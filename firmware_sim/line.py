"""A serial line as its personality sees it: what it does to the line, and what is wrong with it.

Chance is a hash of seed, kind and count, as for devices: the same seed always misbehaves alike.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from firmware_sim.faults import Chatter, Unplug, garbage


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes for the line, `after_s` seconds from now."""

    data: bytes
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reboot:
    """The device resets `after_s` seconds from now; `boot` is to be called then."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CutLine:
    """The line is gone, from now on for `for_s` seconds."""

    for_s: float


Action = Send | Reboot | CutLine


class LinePersonality(Protocol):
    """Whatever speaks on a line: one device, or all that share it."""

    @property
    def unplugs(self) -> Sequence[Unplug]:
        """When the line goes, of those that are set by time."""
        ...

    def unplugged(self) -> None:
        """The line has gone; counted."""
        ...

    def boot(self, now_s: float) -> list[Action]: ...

    def receive(self, data: bytes, now_s: float) -> list[Action]: ...


@dataclass(frozen=True, slots=True)
class LineFaults:
    """What is wrong with a line. Probabilities are 0 to 1.

    `flipped`, `dropped` and `doubled` are per byte, each direction for itself; a flipped byte has
    one bit changed. `bursts` is per write of a device: 1 to 40 bytes of garbage come with it.
    `echo`: the line hears itself, as RS-485 does. `split`: every byte comes alone.
    """

    seed: str = "0"
    flipped: float = 0.0
    dropped: float = 0.0
    doubled: float = 0.0
    bursts: float = 0.0
    echo: bool = False
    split: bool = False
    chatters: tuple[Chatter, ...] = ()
    unplugs: tuple[Unplug, ...] = ()

    @property
    def is_noisy(self) -> bool:
        return bool(self.flipped or self.dropped or self.doubled)

    def spoil(self, direction: str, data: bytes, count: int) -> bytes:
        """The bytes as the other end gets them; `count` bytes went this way before."""
        if not self.is_noisy:
            return data
        out = bytearray()
        for number, byte in enumerate(data, count):
            flip, drop, double, bit = self._chances(direction, number)
            if drop < self.dropped:
                continue
            spoilt = byte ^ (1 << int(bit * 8)) if flip < self.flipped else byte
            out += bytes([spoilt] * (2 if double < self.doubled else 1))
        return bytes(out)

    def burst(self, count: int) -> bytes:
        """Garbage that comes with write number `count`, if any."""
        happens, size, *_ = self._chances("burst", count)
        if happens >= self.bursts:
            return b""
        return garbage(self.seed, f"burst {count}", 1 + int(size * 40))

    def chatter(self) -> list[Send]:
        """All that the line says unasked, from its start on."""
        return [send for chatter in self.chatters for send in self.sends_of(chatter)]

    def sends_of(self, chatter: Chatter) -> list[Send]:
        return [Send(data, after_s) for after_s, data in chatter.pieces(self.seed)]

    def _chances(self, kind: str, count: int) -> tuple[float, float, float, float]:
        digest = hashlib.sha256(f"{self.seed}/{kind}/{count}".encode()).digest()
        one, two, three, four = (
            int.from_bytes(digest[at : at + 7], "big") / 2**56 for at in (0, 7, 14, 21)
        )
        return one, two, three, four
