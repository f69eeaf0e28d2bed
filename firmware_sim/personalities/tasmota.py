"""A Tasmota device: cmnd/ in, stat/ and tele/ out, and an update that disconnects it.

Sources: Tasmota's documentation on MQTT and commands; reference notes on its OTA code.
"""

from typing import Final

from firmware_sim.gadget import REBOOT_AFTER_S, Gadget, as_json
from firmware_sim.messages import Action, Disconnect, Publish, Reboot

DEFAULT_OTA_URL: Final = "http://ota.tasmota.com/tasmota/release/tasmota.bin.gz"


class TasmotaPersonality(Gadget):
    """The default FullTopic, one relay, no SetOption4."""

    ota_url = DEFAULT_OTA_URL
    _outcome = ""

    def topics(self) -> list[str]:
        return [f"cmnd/{self.id}/+"]

    def presence(self, is_online: bool) -> Publish:
        word = b"Online" if is_online else b"Offline"
        return Publish(f"tele/{self.id}/LWT", word, retain=True)

    def connected(self) -> list[Action]:
        return [self.presence(True), *self._tell_outcome()]

    def serve(self, topic: str, text: str) -> list[Action]:
        command = topic.rpartition("/")[2].lower()
        match command:
            case "power" | "power1":
                return self._power(text.strip().upper())
            case "status":
                return self._status(text.strip())
            case "state":
                return [self._result({"Uptime": self._uptime(), **self._relay()})]
            case "otaurl":
                self.ota_url = DEFAULT_OTA_URL if text == "1" else text or self.ota_url
                return [self._result({"OtaUrl": self.ota_url})]
            case "upgrade":
                return self._upgrade(text)
            case "restart":
                if text != "1":
                    return [self._result({"Restart": "1 to restart"})]
                return [self._result({"Restart": "Restarting"}), Reboot(REBOOT_AFTER_S)]
            case _:
                return [self._result({"Command": "Unknown", "Input": command.upper()})]

    def installed(self) -> list[Action]:
        return self._ended("Successful. Restarting")

    def not_installed(self, text: str) -> list[Action]:
        return self._ended(f"Failed {text}")

    def _ended(self, outcome: str) -> list[Action]:
        """What became of it is said as soon as somebody hears it."""
        self._outcome = outcome
        return [Disconnect(self.settings.flash_s)]

    def _tell_outcome(self) -> list[Action]:
        if not self._outcome:
            return []
        outcome, self._outcome = self._outcome, ""
        told = Publish(f"stat/{self.id}/UPGRADE", as_json({"Upgrade": outcome}))
        return [told, Reboot(REBOOT_AFTER_S)]

    def _upgrade(self, text: str) -> list[Action]:
        version = self.device.version
        if text != "1":
            return [self._result({"Upgrade": f"1 or >{version} to upgrade"})]
        told = self._result({"Upgrade": f"Version {version} from {self.ota_url}"})
        return [told, Disconnect(self.settings.flash_s, 0.05), *self.fetch(self.ota_url)]

    def _power(self, word: str) -> list[Action]:
        wanted = {"ON": True, "1": True, "OFF": False, "0": False}.get(word)
        if word in ("TOGGLE", "2"):
            wanted = not self.relay
        if wanted is not None:
            self.switch(wanted)
        state = "ON" if self.relay else "OFF"
        return [self._result(self._relay()), Publish(f"stat/{self.id}/POWER", state.encode())]

    def _status(self, number: str) -> list[Action]:
        match number:
            case "2":
                about = {"Version": f"{self.device.version}(tasmota)", "Hardware": "ESP8266EX"}
                return [self._stat("STATUS2", {"StatusFWR": about})]
            case "5":
                about = {"Hostname": self.id, "IPAddress": "192.0.2.7"}
                return [self._stat("STATUS5", {"StatusNET": about})]
            case _:
                about = {"Topic": self.id, "Power": str(int(self.relay))}
                return [self._stat("STATUS", {"Status": about})]

    def _relay(self) -> dict[str, str]:
        return {"POWER": "ON" if self.relay else "OFF"}

    def _uptime(self) -> str:
        minutes, seconds = divmod(self.uptime_s, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours // 24}T{hours % 24:02}:{minutes:02}:{seconds:02}"

    def _result(self, body: object) -> Publish:
        return self._stat("RESULT", body)

    def _stat(self, leaf: str, body: object) -> Publish:
        return Publish(f"stat/{self.id}/{leaf}", as_json(body))
