"""A device that speaks JSON over MQTT: messages in, timed actions out.

Commands come on `dev/{id}/cmd` as `{id, command, ...}`, replies go to `dev/{id}/reply` as
`{id, ok, result}` or `{id, ok, code, error}`, progress to `dev/{id}/status`, presence (retained,
also the Will) to `dev/{id}/online`. An update with `"reboot": false` is staged: the next reboot
tries it. Downloading is left to the endpoint: it answers a `Fetch`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from firmware_sim import certificates
from firmware_sim import flash as flash_rules
from firmware_sim.device import Device
from firmware_sim.flash import Flash, Refusal
from firmware_sim.keystore import KeystoreRefused
from firmware_sim.messages import Action, Disconnect, Fetch, Publish, Reboot

REBOOT_AFTER_S: Final = 0.25
_REFUSALS: Final[Mapping[int, str]] = {
    flash_rules.TOO_LARGE: "image is too large for the slot",
    flash_rules.NO_FREE_SLOT: "the running image is not confirmed yet",
    flash_rules.INVALID_HEADER: "not a whole MCUboot image",
}


@dataclass(frozen=True, slots=True)
class Update:
    """An update under way, as the command asked for it."""

    command_id: str
    version: str
    sha256: str
    reboots: bool = True
    percent: int = -1


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """`flash_s` is how long the device writes its flash after the download."""

    topic_prefix: str = "dev"
    turnaround_s: float = 0.005
    flash_s: float = 0.5


class _Refused(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class MqttPersonality:
    """Speaks for one device. Call `boot`, then `connected` and `received` as they happen."""

    def __init__(self, device: Device, settings: MqttSettings) -> None:
        self.device = device
        self.settings = settings
        self.update: Update | None = None
        self._started_s: float | None = None
        self._booted_s = 0.0

    def topic(self, leaf: str) -> str:
        return f"{self.settings.topic_prefix}/{self.device.identity.id}/{leaf}"

    def topics(self) -> list[str]:
        return [self.topic("cmd")]

    def presence(self, is_online: bool) -> Publish:
        """The retained presence; `presence(False)` is also the Will."""
        return Publish(self.topic("online"), b"true" if is_online else b"false", retain=True)

    def boot(self, now_s: float) -> None:
        if self._started_s is None:
            self._started_s = now_s
        self._booted_s = now_s
        self.update = None
        self.device.boot()

    def connected(self) -> list[Action]:
        return [self.presence(True), self._status("running", 100)]

    def received(self, topic: str, payload: bytes, now_s: float) -> list[Action]:
        """Answer one message of the command topic."""
        counters, faults = self.device.counters, self.device.faults
        counters.requests += 1
        count = counters.requests
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
        reply, follow_ups = self._serve(payload, now_s)
        publish = Publish(self.topic("reply"), _json(reply), after_s=after_s)
        copies: list[Action] = [publish]
        if faults.happens("doubled", faults.doubled_replies, count):
            copies.append(publish)
        return copies + follow_ups

    def downloading(self, received: int, total: int | None) -> list[Action]:
        """Progress of a fetch, in bytes; says something every ten per cent."""
        if self.update is None or not total:
            return []
        percent = min(100 * received // total, 100) // 10 * 10
        if percent <= self.update.percent:
            return []
        self.update = replace(self.update, percent=percent)
        self.device.counters.chunks_received += 1
        return [self._status("downloading", percent)]

    def download_failed(self, text: str) -> list[Action]:
        return self._give_up("download_failed", text)

    def downloaded(self, data: bytes) -> list[Action]:
        """Check and write the image; the device reboots into it when all is well."""
        update = self.update
        if update is None:
            return []
        self.device.counters.bytes_written += len(data)
        actual = hashlib.sha256(data).hexdigest()
        if actual != update.sha256.lower():
            return self._give_up("digest_wrong", f"sha256 is {actual}, not {update.sha256}")
        if self.device.faults.refuse_upload is not None:
            return self._give_up("image_refused", "this device refuses the image")
        outcome = flash_rules.install(self.device.flash, data)
        if isinstance(outcome, Refusal):
            return self._give_up("image_refused", _REFUSALS.get(outcome.rc, f"code {outcome.rc}"))
        if outcome.other is None or outcome.other.version != update.version:
            found = outcome.other.version if outcome.other else "nothing"
            return self._give_up("version_wrong", f"image is {found}, not {update.version}")
        self.device.flash = outcome
        flash_s = self.settings.flash_s
        steps = [
            self._status("flashing", percent, after_s=flash_s * percent / 100)
            for percent in (0, 25, 50, 75, 100)
        ]
        if not update.reboots:
            staged = self._status("staged", 100, flash_s)
            self.update = None
            return [*steps, staged]
        return [*steps, self._status("rebooting", 100, flash_s), Reboot(flash_s + REBOOT_AFTER_S)]

    def _give_up(self, code: str, text: str) -> list[Action]:
        failed = self._status("failed", 0, code=code, error=text)
        self.update = None
        return [failed]

    def _status(self, state: str, progress: int, after_s: float = 0.0, **more: str) -> Publish:
        body: dict[str, Any] = {"state": state, "progress": progress, **more}
        if self.update is not None:
            body["id"] = self.update.command_id
        body |= {"version": self.device.version, "confirmed": self.device.flash.is_confirmed}
        return Publish(self.topic("status"), _json(body), after_s=after_s)

    def _serve(self, payload: bytes, now_s: float) -> tuple[dict[str, Any], list[Action]]:
        try:
            request = json.loads(payload)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return {"id": None, **_error("invalid", "command is not a JSON object")}, []
        command_id = str(request.get("id", ""))
        follow_ups: list[Action] = []
        try:
            result = self._perform(request, command_id, now_s, follow_ups)
        except _Refused as refused:
            return {"id": command_id, **_error(refused.code, str(refused))}, []
        return {"id": command_id, "ok": True, "result": result}, follow_ups

    def _perform(
        self, request: Mapping[str, Any], command_id: str, now_s: float, follow_ups: list[Action]
    ) -> dict[str, Any]:
        match request.get("command"):
            case "version":
                return self._version()
            case "echo":
                return {"echo": request.get("text", "")}
            case "read":
                return self._read(str(request.get("point", "")), now_s)
            case "pulse":
                return {"pulses": self.device.pulse(str(request.get("tag", "")))}
            case "confirm":
                self.device.experienced("confirm", {"version": self.device.version})
                self._keep(flash_rules.set_state(self.device.flash, None, confirm=True))
                return self._version()
            case "reboot":
                follow_ups.append(Reboot(REBOOT_AFTER_S))
                return {}
            case "rollback":
                self._roll_back()
                follow_ups.append(Reboot(REBOOT_AFTER_S))
                return {}
            case "update":
                follow_ups += self._start_update(request, command_id)
                return {"accepted": True}
            case other:
                answer = self._about_certificates(request)
                if answer is not None:
                    return answer
                raise _Refused("unknown_command", f"no command {other!r}")

    def _about_certificates(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return certificates.over_mqtt(self.device.keystore, request)
        except KeystoreRefused as error:
            raise _Refused("certificate", str(error)) from error

    def _version(self) -> dict[str, Any]:
        flash, identity = self.device.flash, self.device.identity
        return {
            "version": self.device.version,
            "confirmed": flash.is_confirmed,
            "hash": flash.running.hash.hex(),
            "pending": _pending(flash),
            "type": identity.type,
            "hardware": identity.hardware,
        }

    def _read(self, point: str, now_s: float) -> dict[str, Any]:
        noise = self.device.faults.chance(point, int(now_s))
        values: dict[str, float | int] = {
            "temperature": round(20 + 5 * noise, 2),
            "voltage": round(3.2 + 0.2 * noise, 3),
            "uptime_s": int(now_s - self._booted_s),
            "boots": self.device.counters.boots,
        }
        if point not in values:
            raise _Refused("unknown_point", f"no point {point!r}; there are {', '.join(values)}")
        return {"point": point, "value": values[point]}

    def _roll_back(self) -> None:
        """An unconfirmed image goes at the next boot anyway; a confirmed one has no way back."""
        if self.device.flash.is_confirmed or self.device.flash.other is None:
            raise _Refused("nothing_to_roll_back", "the running image is confirmed")

    def _start_update(self, request: Mapping[str, Any], command_id: str) -> list[Action]:
        if self.update is not None:
            raise _Refused("busy", "an update is under way")
        match request:
            case {"url": str(url), "version": str(version), "sha256": str(sha256)}:
                pass
            case _:
                raise _Refused("invalid", "update needs url, version and sha256")
        size = request.get("size")
        slot_size = self.device.flash.slot_size
        if isinstance(size, int) and size > slot_size:
            raise _Refused("image_refused", f"{size} bytes do not fit a slot of {slot_size}")
        if not self.device.flash.is_confirmed:
            raise _Refused("image_refused", _REFUSALS[flash_rules.NO_FREE_SLOT])
        self.update = Update(command_id, version, sha256, request.get("reboot") is not False)
        return [self._status("downloading", 0), Fetch(url, slot_size)]

    def _keep(self, outcome: Flash | Refusal) -> None:
        if isinstance(outcome, Refusal):
            raise _Refused("refused", f"code {outcome.rc}")
        self.device.flash = outcome


def _pending(flash: Flash) -> dict[str, Any] | None:
    """The image that the next boot tries; None when the running one stays."""
    if flash.swap is flash_rules.Swap.NONE or flash.other is None:
        return None
    return {"version": flash.other.version, "hash": flash.other.hash.hex()}


def _error(code: str, text: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "error": text}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
