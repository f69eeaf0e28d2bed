"""One simulated device: who it is, what runs on it, and what a boot does and prints."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from firmware_sim import flash as flash_rules
from firmware_sim.faults import Faults, TestBoot
from firmware_sim.flash import Booted, Flash, Mode, StoredImage, Swap
from firmware_sim.keystore import Keystore

_SWAP_WORDS = {Swap.NONE: "none", Swap.TEST: "test", Swap.PERMANENT: "perm"}


Experienced = Callable[[str, dict[str, object]], None]


def _forget(what: str, about: dict[str, object]) -> None:
    """Nobody keeps what the device experiences."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What never changes: the device's id, its type and its hardware."""

    id: str
    type: str = "device"
    hardware: str = "sim"


@dataclass(slots=True)
class Counters:
    """What happened to a device since the simulator started."""

    boots: int = 0
    requests: int = 0
    frames: int = 0
    bad_crc: int = 0
    dropped: int = 0
    chunks_received: int = 0
    bytes_written: int = 0
    resumes: int = 0
    unplugs: int = 0
    pulses: int = 0
    done: int = 0
    repeats: int = 0


@dataclass(slots=True)
class Device:
    """A device with its flash. Personalities speak for it, endpoints give it a line.

    `experienced` is told at once of each thing that happened to it and cannot be taken back.
    `further` are the slots of images 1, 2 ... (a network core's, say); they boot together.
    `in_recovery`: MCUboot waits for an image on the serial line instead of starting one;
    `recovers_next`: the next boot shall do so.
    """

    identity: Identity
    flash: Flash
    faults: Faults = field(default_factory=Faults)
    boot_time_s: float = 0.3
    counters: Counters = field(default_factory=Counters)
    experienced: Experienced = _forget
    further: list[Flash] = field(default_factory=list)
    in_recovery: bool = False
    recovers_next: bool = False
    keystore: Keystore = field(init=False)

    def __post_init__(self) -> None:
        self.keystore = Keystore(self.identity.id, self.faults.new_certificate)

    @property
    def version(self) -> str:
        return self.flash.running.version

    def boot(self) -> list[str]:
        """Start once more, for whatever reason; return what is printed while booting."""
        self.counters.boots += 1
        self.keystore.boot()
        before = self.flash
        asked, self.recovers_next = self.recovers_next, False
        if asked:
            self.flash, booted = replace(before, upload=None), Booted.AS_BEFORE
        else:
            self.flash, booted = self._start_images(before)
            self.further = [self._start_images(each)[0] for each in self.further]
        self.in_recovery = asked or booted is Booted.NOTHING
        if self.in_recovery:
            self.experienced("recovery", {"asked": asked})
            return ["*** Booting MCUboot v2.1.0-sim ***", *_notes(booted), "I: Serial recovery"]
        self.experienced("boot", {"version": self.version, "confirmed": self.flash.is_confirmed})
        return [
            "*** Booting MCUboot v2.1.0-sim ***",
            "I: Starting bootloader",
            f"I: Swap type: {_swap_type(before)}",
            *_notes(booted),
            "I: Jumping to the first image slot",
            f"*** Booting Zephyr OS build {self.identity.hardware} ***",
            f"I: {self.identity.type} {self.identity.id} runs {self.version}",
        ]

    def _start_images(self, before: Flash) -> tuple[Flash, Booted]:
        is_news = before.swap is not Swap.NONE or before.mode.is_in_place
        if is_news and self.faults.test_boot is TestBoot.IGNORED:
            return replace(before, swap=Swap.NONE, upload=None), Booted.AS_BEFORE
        after, booted = flash_rules.boot(before)
        has_way_back = before.mode in (Mode.SWAP, Mode.DIRECT_XIP_REVERT)
        if booted is Booted.SWAPPED and has_way_back and self.faults.test_boot is TestBoot.REVERTS:
            # It started, crashed before anyone could talk to it, and the watchdog reset it.
            self.counters.boots += 1
            return flash_rules.boot(replace(after, is_confirmed=False))
        return after, booted

    def pulse(self, tag: str) -> int:
        """Switch an output on and off: it happens anew each time it is asked for."""
        self.counters.pulses += 1
        self.experienced("pulse", {"tag": tag})
        return self.counters.pulses

    def status(self) -> dict[str, object]:
        """Facts for the status file: versions, slots and counters, as JSON values."""
        counters = self.counters
        return {
            "id": self.identity.id,
            "type": self.identity.type,
            "hardware": self.identity.hardware,
            "version": self.version,
            "confirmed": self.flash.is_confirmed,
            "swap": self.flash.swap.value,
            "recovery": self.in_recovery,
            "images": [each.running.version for each in (self.flash, *self.further)],
            "certificates": self.keystore.status(),
            "slots": [_slot(self.flash.running), _slot(self.flash.other)],
            "counters": {name: getattr(counters, name) for name in Counters.__slots__},
        }


def _slot(image: StoredImage | None) -> dict[str, object] | None:
    if image is None:
        return None
    return {"version": image.version, "hash": image.hash.hex(), "size": len(image.data)}


def _swap_type(before: Flash) -> str:
    if before.swap is Swap.NONE and not before.is_confirmed:
        return "revert"
    return _SWAP_WORDS[before.swap]


def _notes(booted: Booted) -> list[str]:
    if booted is Booted.NOTHING:
        return ["E: Unable to find bootable image"]
    if booted is Booted.REFUSED:
        return ["E: Image in the secondary slot is not valid!"]
    return []
