"""A Shelly of the second generation: JSON-RPC on {prefix}/rpc, replies on {src}/rpc, events."""

from collections.abc import Mapping
from typing import Any, Final

from firmware_sim.gadget import REBOOT_AFTER_S, Gadget, as_json, object_in
from firmware_sim.messages import Action, Publish, Reboot

INVALID_ARGUMENT: Final = -105
NO_SUCH_METHOD: Final = -114
UNAVAILABLE: Final = -109


class _Error(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class ShellyGen2Personality(Gadget):
    """One switch with a power meter."""

    def topics(self) -> list[str]:
        return [f"{self.id}/rpc"]

    def presence(self, is_online: bool) -> Publish:
        return Publish(f"{self.id}/online", b"true" if is_online else b"false", retain=True)

    def connected(self) -> list[Action]:
        return [self.presence(True)]

    def serve(self, topic: str, text: str) -> list[Action]:
        request = object_in(text)
        source, method = request.get("src"), request.get("method")
        if not isinstance(source, str) or not source or any(sign in source for sign in "+#\0"):
            return []  # nobody to answer
        frame: dict[str, Any] = {"id": request.get("id"), "src": self.id, "dst": source}
        follow_ups: list[Action] = []
        given = request.get("params")
        try:
            params = given if isinstance(given, dict) else {}
            frame["result"] = self._perform(str(method), params, follow_ups)
        except _Error as error:
            frame["error"] = {"code": error.code, "message": str(error)}
        return [Publish(f"{source}/rpc", as_json(frame)), *follow_ups]

    def _perform(self, method: str, params: Mapping[str, Any], follow_ups: list[Action]) -> object:
        match method:
            case "Shelly.GetDeviceInfo":
                version = self.device.version
                return {"id": self.id, "gen": 2, "app": "Plus1PM", "ver": version,
                        "fw_id": f"20260101-000000/{version}-sim"}  # fmt: skip
            case "Shelly.GetStatus":
                return {"switch:0": self._status(), "sys": self._system()}
            case "Sys.GetStatus":
                return self._system()
            case "Switch.GetStatus":
                self._check_switch(params)
                return self._status()
            case "Switch.Set" | "Switch.Toggle":
                self._check_switch(params)
                before = self.relay
                wanted = params.get("on") if method == "Switch.Set" else not before
                if not isinstance(wanted, bool):
                    raise _Error(INVALID_ARGUMENT, "Argument 'on' is required!")
                self.switch(wanted)
                return {"was_on": before}
            case "Shelly.Reboot":
                follow_ups.append(Reboot(REBOOT_AFTER_S))
                return None
            case "Shelly.Update":
                follow_ups += self._update(params)
                return None
            case _:
                raise _Error(NO_SUCH_METHOD, f"Method {method} failed: no such handler")

    def _update(self, params: Mapping[str, Any]) -> list[Action]:
        if self.is_updating:
            raise _Error(UNAVAILABLE, "Update already in progress")
        url = params.get("url")
        if not isinstance(url, str):
            raise _Error(INVALID_ARGUMENT, "Argument 'url' or 'stage' is required!")
        return [self._event("ota_begin", msg="Downloading"), *self.fetch(url)]

    def updating(self, percent: int) -> list[Action]:
        return [self._event("ota_progress", msg="Downloading", progress_percent=percent)]

    def installed(self) -> list[Action]:
        done = self._event("ota_success", msg="Update applied, rebooting")
        return [done, Reboot(self.settings.flash_s + REBOOT_AFTER_S)]

    def not_installed(self, text: str) -> list[Action]:
        return [self._event("ota_error", msg=text)]

    def _event(self, event: str, **more: object) -> Publish:
        about = {"component": "sys", "event": event, **more}
        body = {"src": self.id, "dst": f"{self.id}/events", "method": "NotifyEvent"}
        return Publish(
            f"{self.id}/events/rpc", as_json({**body, "params": {"ts": 0, "events": [about]}})
        )

    def _check_switch(self, params: Mapping[str, Any]) -> None:
        if params.get("id") != 0:
            raise _Error(INVALID_ARGUMENT, f"Argument 'id', value {params.get('id')} not found!")

    def _status(self) -> dict[str, Any]:
        return {"id": 0, "output": self.relay, "apower": 11.5 if self.relay else 0.0}

    def _system(self) -> dict[str, Any]:
        return {"uptime": self.uptime_s, "restart_required": False, "available_updates": {}}
