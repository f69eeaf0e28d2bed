"""What off-the-shelf MQTT devices have in common: a relay, faults, an update they do by themselves.

A personality of one family says in which topics and words. Images are MCUboot images here, so that
the device's flash tells what really runs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from firmware_sim import flash as flash_rules
from firmware_sim.device import Device
from firmware_sim.flash import Refusal
from firmware_sim.messages import Action, Disconnect, Fetch, Publish, Reboot

REBOOT_AFTER_S: Final = 0.1
EVERY_PERCENT: Final = 20


@dataclass(frozen=True, slots=True)
class GadgetSettings:
    """`offered` is the image its maker offers, for families that update from the maker only.

    `prefix` is the family's own first topic level, where it can be set.
    """

    prefix: str | None = None
    turnaround_s: float = 0.005
    flash_s: float = 0.2
    offered: bytes | None = None


class Gadget:
    """One device. A family overrides what stands first, and says in its own words what happens."""

    def __init__(self, device: Device, settings: GadgetSettings) -> None:
        self.device = device
        self.settings = settings
        self.id = device.identity.id
        self.relay = False
        self.is_updating = False
        self._percent = -1
        self._started_s: float | None = None
        self._booted_s = 0.0
        self._now_s = 0.0

    # -- for a family

    def topics(self) -> list[str]:
        raise AssertionError("a family says where it listens")

    def presence(self, is_online: bool) -> Publish | None:
        return None

    def connected(self) -> list[Action]:
        return []

    def serve(self, topic: str, text: str) -> list[Action]:
        """Answer one message; bytes that are no text have been replaced."""
        return []

    def updating(self, percent: int) -> list[Action]:
        """What it says while it downloads."""
        return []

    def installed(self) -> list[Action]:
        """The image is in the flash, for the next boot."""
        return [Reboot(self.settings.flash_s + REBOOT_AFTER_S)]

    def not_installed(self, text: str) -> list[Action]:
        return []

    # -- for a family to use

    @property
    def uptime_s(self) -> int:
        return int(self._now_s - self._booted_s)

    def switch(self, is_on: bool) -> None:
        self.relay = is_on
        self.device.experienced("switch", {"on": is_on})

    def fetch(self, url: str) -> list[Action]:
        """Begin an update from an address."""
        self.is_updating, self._percent = True, -1
        return [Fetch(url, self.device.flash.slot_size)]

    def install(self, data: bytes) -> list[Action]:
        """Write an image and say what became of it."""
        self.device.counters.bytes_written += len(data)
        if self.device.faults.refuse_upload is not None:
            return self.gave_up("the image is refused")
        flash = flash_rules.install(self.device.flash, data)
        if isinstance(flash, Refusal) or flash.other is None:
            return self.gave_up("the file is no image")
        self.device.flash = replace(flash, swap=flash_rules.Swap.PERMANENT)
        return self.installed()

    def gave_up(self, text: str) -> list[Action]:
        """The update ends here."""
        self.is_updating = False
        return self.not_installed(text)

    # -- for the endpoint

    def boot(self, now_s: float) -> None:
        if self._started_s is None:
            self._started_s = now_s
        self._booted_s = self._now_s = now_s
        self.is_updating = False
        self.device.boot()

    def received(self, topic: str, payload: bytes, now_s: float) -> list[Action]:
        """Answer one message, as the plan of faults allows."""
        counters, faults = self.device.counters, self.device.faults
        counters.requests += 1
        count = counters.requests
        self._now_s = now_s
        assert self._started_s is not None
        if faults.is_silent(count, now_s - self._started_s):
            return []
        if faults.spoil_line("in", payload, count) != payload:
            counters.dropped += 1
            return []
        if count in faults.disconnect_after_requests:
            return [Disconnect(faults.disconnect_for_s)]
        after_s = self.settings.turnaround_s
        if faults.happens("late", faults.late_replies, count):
            after_s += faults.late_by_s
        actions = self.serve(topic, payload.decode("utf-8", "replace"))
        answered = [_later(action, after_s) for action in actions]
        if faults.happens("doubled", faults.doubled_replies, count):
            answered[:0] = [each for each in answered[:1] if isinstance(each, Publish)]
        return answered

    def downloading(self, received: int, total: int | None) -> list[Action]:
        if not self.is_updating or not total:
            return []
        percent = min(100 * received // total, 100) // EVERY_PERCENT * EVERY_PERCENT
        if percent <= self._percent:
            return []
        self._percent = percent
        self.device.counters.chunks_received += 1
        return self.updating(percent)

    def downloaded(self, data: bytes) -> list[Action]:
        return self.install(data) if self.is_updating else []

    def download_failed(self, text: str) -> list[Action]:
        return self.gave_up(text) if self.is_updating else []


def _later(action: Action, after_s: float) -> Action:
    if isinstance(action, Fetch):
        return action
    return replace(action, after_s=action.after_s + after_s)


def json_in(text: str) -> Any:
    """The value, or None where there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def object_in(text: str) -> Mapping[str, Any]:
    """The JSON object, empty where there is none."""
    value = json_in(text)
    return value if isinstance(value, dict) else {}


def as_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
