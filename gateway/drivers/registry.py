"""Which drivers there are, what each needs to know of a device, and how one is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, JsonValue, ValidationError

from gateway.domain.profiles import Profile
from gateway.drivers.base import Driver, OnDeviceLog
from gateway.drivers.mqtt import MqttDriver, MqttOptions
from gateway.drivers.smp import SmpDriver, SmpOptions
from gateway.errors import SettingsInvalid
from gateway.transports.base import MessageLink
from gateway.transports.serial_port import SerialPort


@dataclass(frozen=True)
class Surroundings:
    """What drivers share: the local broker, the profiles by name, and chance.

    `messages` is None where no broker is configured. `new_number` gives 0 to 255, `new_id` a
    fresh word.
    """

    messages: MessageLink | None
    profiles: Mapping[str, Profile]
    new_number: Callable[[], int]
    new_id: Callable[[], str]


@dataclass(frozen=True)
class DriverKind:
    """`make` takes device id, validated options, surroundings and where device logs go."""

    options: type[BaseModel]
    make: Callable[[str, Any, Surroundings, OnDeviceLog], Driver]
    summary: str


def make_driver(
    kind: str,
    device: str,
    options: Mapping[str, JsonValue],
    surroundings: Surroundings,
    on_log: OnDeviceLog,
) -> Driver:
    """Make the driver of one device; nothing is opened yet. Raises SettingsInvalid."""
    if kind not in DRIVERS:
        raise SettingsInvalid(f"device {device}: no driver `{kind}` (known: {', '.join(DRIVERS)})")
    found = DRIVERS[kind]
    try:
        checked = found.options.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(f"device {device}: {place}: {first['msg']}") from None
    return found.make(device, checked, surroundings, on_log)


def bus_of(kind: str, device: str, options: Mapping[str, JsonValue]) -> str:
    """The name of what the device shares with others: one exchange at a time goes over it.

    Devices behind the broker share nothing that needs turns.
    """
    port = options.get("port") if kind == "smp" else None
    return f"serial:{port}" if isinstance(port, str) else f"device:{device}"


def _make_smp(
    device: str, options: SmpOptions, surroundings: Surroundings, on_log: OnDeviceLog
) -> Driver:
    port = SerialPort(
        options.port,
        options.baud,
        dtr=options.dtr,
        rts=options.rts,
        parity=options.parity,
        rtscts=options.rtscts,
    )
    return SmpDriver(port, options, on_log, surroundings.new_number())


def _make_mqtt(
    device: str, options: MqttOptions, surroundings: Surroundings, on_log: OnDeviceLog
) -> Driver:
    profile = surroundings.profiles.get(options.profile)
    if profile is None:
        known = ", ".join(sorted(surroundings.profiles)) or "none"
        raise SettingsInvalid(f"device {device}: no profile `{options.profile}` (known: {known})")
    if surroundings.messages is None:
        raise SettingsInvalid(f"device {device}: MQTT devices need a local broker")
    return MqttDriver(
        device, profile, options.vars, surroundings.messages, on_log, surroundings.new_id
    )


DRIVERS: Final = {
    "smp": DriverKind(SmpOptions, _make_smp, "MCUmgr over a serial line"),
    "mqtt": DriverKind(MqttOptions, _make_mqtt, "topics and payloads of a profile"),
}
