"""A device of ThingsBoard's MQTT API: RPC, attributes, and firmware that it asks for in pieces.

Source: ThingsBoard's documentation of the device API and of OTA updates.
"""

import hashlib
from typing import Any, Final

from firmware_sim.gadget import REBOOT_AFTER_S, Gadget, as_json, object_in
from firmware_sim.messages import Action, Publish, Reboot

CHUNK: Final = 4096


class ThingsBoardPersonality(Gadget):
    """It holds one value. With a prefix, all its topics stand below it, as behind a mount point."""

    value: Any = 0
    title = "firmware"
    _wanted: dict[str, Any] | None = None
    _came_from: str | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._pieces: list[bytes] = []
        self._request = 0

    def topics(self) -> list[str]:
        api = self._topic("v1/devices/me")
        return [
            f"{api}/rpc/request/+",
            f"{api}/attributes",
            self._topic("v2/fw/response/+/chunk/+"),
        ]

    def connected(self) -> list[Action]:
        told: list[Action] = [self._telemetry(**self._running())]
        if self._came_from is not None:
            self._came_from = None
            told.append(self._telemetry(**self._running(), fw_state="UPDATED"))
        return told

    def boot(self, now_s: float) -> None:
        super().boot(now_s)
        self._wanted = None

    def received(self, topic: str, payload: bytes, now_s: float) -> list[Action]:
        if "/fw/response/" in topic:
            return self._piece(topic, payload)
        return super().received(topic, payload, now_s)

    def serve(self, topic: str, text: str) -> list[Action]:
        body = object_in(text)
        if topic.endswith("/attributes"):
            return self._attributes(dict(body))
        number = topic.rpartition("/")[2]
        answer: object
        match body.get("method"):
            case "getValue":
                answer = self.value
            case "setValue":
                self.value = answer = body.get("params")
                self.device.experienced("set", {"value": self.value})
                told = self._telemetry(value=self.value)
                return [self._reply(number, answer), told]
            case other:
                answer = {"error": f"no method {other}"}
        return [self._reply(number, answer)]

    # -- firmware

    def _attributes(self, attributes: dict[str, Any]) -> list[Action]:
        keys = ("fw_version", "fw_size", "fw_checksum")
        if any(key not in attributes for key in keys) or self._wanted is not None:
            return []
        if attributes["fw_version"] == self.device.version:
            return []
        self._wanted, self._pieces = attributes, []
        self._request += 1
        self.is_updating = True
        return [self._telemetry(**self._running(), fw_state="DOWNLOADING"), self._ask()]

    def _ask(self) -> Publish:
        topic = self._topic(f"v2/fw/request/{self._request}/chunk/{len(self._pieces)}")
        return Publish(topic, str(CHUNK).encode())

    def _piece(self, topic: str, payload: bytes) -> list[Action]:
        if self._wanted is None or not topic.endswith(
            f"/response/{self._request}/chunk/{len(self._pieces)}"
        ):
            return []
        self._pieces.append(payload)
        self.device.counters.chunks_received += 1
        if len(payload) == CHUNK and sum(map(len, self._pieces)) < self._wanted["fw_size"]:
            return [self._ask()]
        data = b"".join(self._pieces)
        told: list[Action] = [self._state("DOWNLOADED")]
        if hashlib.sha256(data).hexdigest() != self._wanted["fw_checksum"]:
            return [*told, *self.gave_up("Checksum verification failed")]
        return [*told, self._state("VERIFIED"), *self.install(data)]

    def installed(self) -> list[Action]:
        self._came_from = self.device.version
        after_s = self.settings.flash_s + REBOOT_AFTER_S
        return [self._state("UPDATING"), Reboot(after_s)]

    def not_installed(self, text: str) -> list[Action]:
        self._wanted = None
        return [self._state("FAILED", fw_error=text)]

    # -- words

    def _running(self) -> dict[str, Any]:
        return {"current_fw_title": self.title, "current_fw_version": self.device.version}

    def _state(self, state: str, **more: object) -> Publish:
        return self._telemetry(**self._running(), fw_state=state, **more)

    def _telemetry(self, **values: object) -> Publish:
        return Publish(self._topic("v1/devices/me/telemetry"), as_json(values))

    def _reply(self, number: str, answer: object) -> Publish:
        return Publish(self._topic(f"v1/devices/me/rpc/response/{number}"), as_json(answer))

    def _topic(self, leaf: str) -> str:
        return f"{self.settings.prefix}/{leaf}" if self.settings.prefix else leaf
