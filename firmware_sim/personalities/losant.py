"""A device that speaks as Losant's do: commands in, state out, nothing retained, no Will."""

from typing import Any

from firmware_sim.gadget import Gadget, as_json, object_in
from firmware_sim.messages import Action, Publish


class LosantPersonality(Gadget):
    """It holds one value, which the command `set` changes."""

    value: Any = 0

    def topics(self) -> list[str]:
        return [f"losant/{self.id}/command"]

    def connected(self) -> list[Action]:
        return [self._state(version=self.device.version, value=self.value)]

    def serve(self, topic: str, text: str) -> list[Action]:
        command = object_in(text)
        match command.get("name"):
            case "set":
                self.value = command.get("payload")
                self.device.experienced("set", {"value": self.value})
                return [self._state(value=self.value)]
            case "report":
                return [self._state(version=self.device.version, value=self.value)]
        return []

    def _state(self, **data: object) -> Publish:
        body = {"data": data, "time": int(self._now_s * 1000)}
        return Publish(f"losant/{self.id}/state", as_json(body))
