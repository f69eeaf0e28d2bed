"""An ESPHome device with a switch, a sensor, a restart button and an update component."""

from firmware_sim.gadget import REBOOT_AFTER_S, Gadget, as_json
from firmware_sim.messages import Action, Publish, Reboot


class EsphomePersonality(Gadget):
    """States are retained; one that does not change is not said again."""

    def topics(self) -> list[str]:
        return [f"{self.id}/{kind}/+/command" for kind in ("switch", "button", "update")]

    def presence(self, is_online: bool) -> Publish:
        return Publish(f"{self.id}/status", b"online" if is_online else b"offline", retain=True)

    def connected(self) -> list[Action]:
        sensor = Publish(f"{self.id}/sensor/temperature/state", b"21.5", retain=True)
        return [self.presence(True), self._relay_state(), sensor, self._update_state()]

    def serve(self, topic: str, text: str) -> list[Action]:
        match topic.removeprefix(f"{self.id}/"):
            case "switch/relay/command":
                wanted = {"ON": True, "OFF": False, "TOGGLE": not self.relay}.get(text.upper())
                if wanted is None or wanted is self.relay:
                    return []
                self.switch(wanted)
                return [self._relay_state()]
            case "button/restart/command":
                return [Reboot(REBOOT_AFTER_S)]
            case "update/firmware/command" if text == "INSTALL" and not self.is_updating:
                if self.settings.offered is None:
                    return []
                self.is_updating = True
                return [self._update_state(), *self.install(self.settings.offered)]
        return []

    def not_installed(self, text: str) -> list[Action]:
        return [self._update_state()]

    def _relay_state(self) -> Publish:
        state = b"ON" if self.relay else b"OFF"
        return Publish(f"{self.id}/switch/relay/state", state, retain=True)

    def _update_state(self) -> Publish:
        version = self.device.version
        known = {"installed_version": version, "latest_version": version, "title": "sim"}
        body = {**known, "in_progress": self.is_updating}
        return Publish(f"{self.id}/update/firmware/state", as_json(body), retain=True)
