"""A Zigbee device as Zigbee2MQTT shows it: its own topics, and the bridge's for updates.

The broker sees the bridge, so a device that restarts keeps its connection. Several devices of one
base each answer the bridge's requests that name them.
"""

from typing import Any

from contract.device.mcuboot import parse_version
from firmware_sim.gadget import REBOOT_AFTER_S, Gadget, as_json, object_in
from firmware_sim.messages import Action, Publish, Reboot


class Zigbee2MqttPersonality(Gadget):
    """A plug with a meter."""

    _transaction: object = None
    _before: dict[str, Any] | None = None

    @property
    def base(self) -> str:
        return self.settings.prefix or "zigbee2mqtt"

    def topics(self) -> list[str]:
        own = f"{self.base}/{self.id}"
        return [f"{own}/get", f"{own}/set", f"{self.base}/bridge/request/device/ota_update/#"]

    def presence(self, is_online: bool) -> Publish:
        body = as_json({"state": "online" if is_online else "offline"})
        return Publish(f"{self.base}/{self.id}/availability", body, retain=True)

    def connected(self) -> list[Action]:
        told: list[Action] = [self.presence(True)]
        if self._before is not None:
            came_from, self._before = self._before, None
            data = {"id": self.id, "from": came_from, "to": self._installed()}
            told += [self._state(), self._answer("update", "ok", self._transaction, data=data)]
        return told

    def serve(self, topic: str, text: str) -> list[Action]:
        request = object_in(text)
        leaf = topic.removeprefix(f"{self.base}/")
        if leaf == f"{self.id}/get":
            return [self._state()]
        if leaf == f"{self.id}/set":
            return self._set(request.get("state"))
        if request.get("id") != self.id:
            return []
        verb = leaf.removeprefix("bridge/request/device/ota_update/")
        return self._ota(verb, request)

    def _set(self, word: object) -> list[Action]:
        wanted = {"ON": True, "OFF": False, "TOGGLE": not self.relay}.get(str(word).upper())
        if wanted is None:
            return []
        self.switch(wanted)
        return [self._state()]

    def _ota(self, verb: str, request: Any) -> list[Action]:
        transaction = request.get("transaction")
        busy = "OTA update or check for update already in progress"
        match verb:
            case "check" if not self.is_updating:
                data = {"id": self.id, "update_available": False}
                return [self._answer("check", "ok", transaction, data=data), self._state()]
            case "schedule" | "unschedule":
                return [self._answer(verb, "ok", transaction, data={"id": self.id})]
            case "update" if not self.is_updating:
                url = request.get("url")
                if not isinstance(url, str):
                    error = "No image currently available"
                    return [self._answer(verb, "error", transaction, error=error)]
                self._transaction = transaction
                return self.fetch(url)
            case "check" | "update":
                return [self._answer(verb, "error", transaction, error=busy)]
            case _:
                error = "No OTA in progress to abort"
                return [self._answer(verb, "error", transaction, error=error)]

    def updating(self, percent: int) -> list[Action]:
        return [self._state("updating", progress=percent, remaining=1)]

    def installed(self) -> list[Action]:
        self._before = self._installed()
        return [Reboot(self.settings.flash_s + REBOOT_AFTER_S, stays_connected=True)]

    def not_installed(self, text: str) -> list[Action]:
        return [self._answer("update", "error", self._transaction, error=text), self._state()]

    def _installed(self) -> dict[str, Any]:
        version = self.device.version
        return {"file_version": file_version(version), "software_build_id": version}

    def _state(self, state: str = "idle", **more: int) -> Publish:
        number = file_version(self.device.version)
        update = {"state": state, "installed_version": number, "latest_version": number, **more}
        body = {"state": "ON" if self.relay else "OFF", "power": 0, "update": update}
        return Publish(f"{self.base}/{self.id}", as_json(body))

    def _answer(self, verb: str, status: str, transaction: object, **more: object) -> Publish:
        body = {"data": {}, "status": status, **more}
        if transaction is not None:
            body["transaction"] = transaction
        return Publish(f"{self.base}/bridge/response/device/ota_update/{verb}", as_json(body))


def file_version(version: str) -> int:
    """The number Zigbee files have for a version: 2.0.1 is 0x02000001."""
    found = parse_version(version)
    return found.major << 24 | found.minor << 16 | found.revision
