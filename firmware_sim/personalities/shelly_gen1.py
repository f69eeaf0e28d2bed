"""A Shelly of the first generation: states that are said, commands without replies."""

from firmware_sim.gadget import Gadget, as_json
from firmware_sim.messages import Action, Publish


class ShellyGen1Personality(Gadget):
    """One relay with a meter. It updates itself to what its maker offers, and to nothing else."""

    def topics(self) -> list[str]:
        own = f"shellies/{self.id}"
        return ["shellies/command", f"{own}/command", f"{own}/relay/0/command"]

    def presence(self, is_online: bool) -> Publish:
        return self._own("online", b"true" if is_online else b"false")

    def connected(self) -> list[Action]:
        meter = self._own("relay/0/power", b"11.50" if self.relay else b"0.00")
        return [self.presence(True), self._announce(), self._info(), self._relay_state(), meter]

    def serve(self, topic: str, text: str) -> list[Action]:
        if topic.endswith("/relay/0/command"):
            wanted = {"on": True, "off": False, "toggle": not self.relay}.get(text)
            if wanted is None:
                return []
            self.switch(wanted)
            return [self._relay_state()]
        match text:
            case "announce":
                return [self._announce()]
            case "update":
                return [self._info(), self._relay_state()]
            case "update_fw" if self.settings.offered is not None and not self.is_updating:
                self.is_updating = True
                return [self._info(), *self.install(self.settings.offered)]
        return []

    def _announce(self) -> Publish:
        about = {"id": self.id, "model": "SHSW-1", "mac": "0000005E0053", "ip": "192.0.2.8"}
        body = {**about, "new_fw": self._has_update(), "fw_ver": self.device.version}
        return Publish("shellies/announce", as_json(body))

    def _info(self) -> Publish:
        update = {
            "status": "updating" if self.is_updating else "idle",
            "has_update": self._has_update(),
            "new_version": self.device.version,
            "old_version": self.device.version,
        }
        return self._own("info", as_json({"update": update, "uptime": self.uptime_s}))

    def _has_update(self) -> bool:
        return self.settings.offered is not None

    def _relay_state(self) -> Publish:
        return self._own("relay/0", b"on" if self.relay else b"off")

    def _own(self, leaf: str, payload: bytes) -> Publish:
        return Publish(f"shellies/{self.id}/{leaf}", payload, retain=True)
