"""The scenario file: which devices there are, what goes wrong on them, and the seed.

Problems are named with file, line and key; images of devices are built on demand with imgtool.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.device.mcuboot import ImageInvalid, parse_version
from contract.documents import load
from contract.durations import Duration
from contract.ids import DEFAULT_ORG, GatewayId, Id, OrgId
from contract.topics import Address
from firmware_sim import faults as plan
from firmware_sim import flash
from firmware_sim.device import Device, Identity
from firmware_sim.endpoints.connections import AT_ONCE
from firmware_sim.gadget import GadgetSettings
from firmware_sim.images import build_image
from firmware_sim.line import LineFaults
from firmware_sim.modbus_server import Registers
from firmware_sim.personalities.cloud_gateway import CloudGatewaySettings
from firmware_sim.personalities.line_json import LineJsonSettings
from firmware_sim.personalities.modbus import ModbusSettings, Unit
from firmware_sim.personalities.mqtt import MqttSettings
from firmware_sim.personalities.smp import SmpSettings

DEFAULT_PTY_DIR: Final = Path("/tmp/roundsman-sim")

ON_LINES: Final = ("line_json", "modbus")

Broker = Annotated[str, Field(pattern=r"^mqtt://")]
Probability = Annotated[float, Field(ge=0, le=1)]


class ScenarioInvalid(Exception):
    """The scenario names something that cannot be: says which device and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SilenceSpec(_Strict):
    """No answers from a request number or a time on, for so many requests or so long."""

    after_requests: Annotated[int, Field(ge=1)] | None = None
    requests: Annotated[int, Field(ge=1)] | None = None
    after: Duration | None = None
    lasts: Duration | None = None

    @model_validator(mode="after")
    def _has_one_start(self) -> "SilenceSpec":
        if (self.after_requests is None) == (self.after is None):
            raise ValueError("give one of `after_requests` and `after`")
        return self


class UnplugSpec(_Strict):
    """The line is gone for a while, after so many upload chunks or so long after the start."""

    lasts: Duration
    after_chunks: Annotated[int, Field(ge=1)] | None = None
    after: Duration | None = None

    @model_validator(mode="after")
    def _has_one_start(self) -> "UnplugSpec":
        if (self.after_chunks is None) == (self.after is None):
            raise ValueError("give one of `after_chunks` and `after`")
        return self


class ChatterSpec(_Strict):
    """Garbage that nobody asked for; as much as fills a line of 115200 baud."""

    after: Duration
    lasts: Duration
    bytes_per_s: Annotated[float, Field(gt=0, le=1_200_000)] = 11_520

    def planned(self) -> plan.Chatter:
        return plan.Chatter(
            self.after.total_seconds(), self.lasts.total_seconds(), self.bytes_per_s
        )


class FaultsSpec(_Strict):
    """What goes wrong; see firmware_sim.faults.Faults for each."""

    lost_lines: Probability = 0
    corrupted_lines: Probability = 0
    torn_replies: Probability = 0
    late_replies: Probability = 0
    late_by: Duration = timedelta(seconds=3)
    doubled_replies: Probability = 0
    log_noise: Probability = 0
    silences: list[SilenceSpec] = []
    unplugs: list[UnplugSpec] = []
    chatters: list[ChatterSpec] = []
    reboot_after_chunks: list[Annotated[int, Field(ge=1)]] = []
    refuse_upload: Annotated[int, Field(ge=1, le=255)] | None = None
    test_boot: plan.TestBoot = plan.TestBoot.RUNS
    new_certificate: plan.NewCertificate = plan.NewCertificate.CONNECTS
    disconnect_after_requests: list[Annotated[int, Field(ge=1)]] = []
    disconnect_for: Duration = timedelta(seconds=2)

    def for_device(self, seed: str) -> plan.Faults:
        return plan.Faults(
            seed=seed,
            lost_lines=self.lost_lines,
            corrupted_lines=self.corrupted_lines,
            torn_replies=self.torn_replies,
            late_replies=self.late_replies,
            late_by_s=self.late_by.total_seconds(),
            doubled_replies=self.doubled_replies,
            log_noise=self.log_noise,
            silences=tuple(
                plan.Silence(
                    each.after_requests, each.requests, _seconds(each.after), _seconds(each.lasts)
                )
                for each in self.silences
            ),
            unplugs=tuple(
                plan.Unplug(each.lasts.total_seconds(), each.after_chunks, _seconds(each.after))
                for each in self.unplugs
            ),
            chatters=tuple(each.planned() for each in self.chatters),
            reboot_after_chunks=tuple(self.reboot_after_chunks),
            refuse_upload=self.refuse_upload,
            test_boot=self.test_boot,
            new_certificate=self.new_certificate,
            disconnect_after_requests=tuple(self.disconnect_after_requests),
            disconnect_for_s=self.disconnect_for.total_seconds(),
        )


class LineFaultsSpec(_Strict):
    """What is wrong with a shared line; see firmware_sim.line.LineFaults for each."""

    flipped: Probability = 0
    dropped: Probability = 0
    doubled: Probability = 0
    bursts: Probability = 0
    echo: bool = False
    split: bool = False
    chatters: list[ChatterSpec] = []
    unplugs: list[UnplugSpec] = []

    def for_line(self, seed: str) -> LineFaults:
        return LineFaults(
            seed=seed,
            **self.model_dump(include={"flipped", "dropped", "doubled", "bursts", "echo", "split"}),
            chatters=tuple(each.planned() for each in self.chatters),
            unplugs=tuple(
                plan.Unplug(each.lasts.total_seconds(), each.after_chunks, _seconds(each.after))
                for each in self.unplugs
            ),
        )


_Address = Annotated[int, Field(ge=0, le=65535)]
_Bit = Annotated[int, Field(ge=0, le=1)]


class RegistersSpec(_Strict):
    """What each device of a group holds at first, by address; what is not there is illegal.

    `exceptions` are the codes of Modbus exceptions, by the address that is refused with them.
    """

    coils: dict[_Address, _Bit] = {}
    discrete: dict[_Address, _Bit] = {}
    holding: dict[_Address, _Address] = {}
    input: dict[_Address, _Address] = {}
    exceptions: dict[_Address, Annotated[int, Field(ge=1, le=11)]] = {}

    def for_device(self) -> Registers:
        return Registers(**{name: dict(table) for name, table in self})


class FurtherImageSpec(_Strict):
    """Image 1, 2 ... of a device, beside its application: a network core's, for example."""

    version: str = "1.0.0"
    image_size: Annotated[int, Field(ge=1024, le=8 << 20)] = 4096
    slot_size: Annotated[int, Field(ge=4096, le=64 << 20)] = 512 * 1024


class GroupSpec(_Strict):
    """Devices that are alike: `id` with `count` gives id-1, id-2 ...; or `ids` names each."""

    personality: Literal[
        "smp", "mqtt", "line_json", "modbus", "tasmota", "shelly_gen1", "shelly_gen2",
        "zigbee2mqtt", "esphome", "losant", "thingsboard", "aws_jobs", "gateways",
    ]  # fmt: skip
    id: Id | None = None
    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    ids: list[Id] = []
    type: str = "device"
    hardware: str = "sim"
    version: str = "1.0.0"
    image: Path | None = None
    image_size: Annotated[int, Field(ge=1024, le=8 << 20)] = 8192
    slot_size: Annotated[int, Field(ge=4096, le=64 << 20)] = 512 * 1024
    boot_time: Duration = timedelta(milliseconds=300)
    faults: FaultsSpec = FaultsSpec()
    faults_of: dict[Id, FaultsSpec] = {}
    # smp
    zephyr: Literal["4.4.0", "3.4.0"] = "4.4.0"
    buf_size: Annotated[int, Field(ge=96, le=65536)] = 384
    buf_count: Annotated[int, Field(ge=1, le=64)] = 4
    baud: Annotated[int, Field(ge=300, le=12_000_000)] | None = None
    rx_lines: Annotated[int, Field(ge=1)] | None = None
    turnaround: Duration = timedelta(milliseconds=2)
    erase_time: Duration = timedelta(milliseconds=50)
    certificates: bool = True
    boot_mode: flash.Mode = flash.Mode.SWAP
    slot_addresses: tuple[int, int] | None = None
    further_images: Annotated[list[FurtherImageSpec], Field(max_length=7)] = []
    bricked: bool = False
    # modbus
    unit: Annotated[int, Field(ge=1, le=247)] = 1
    listen: Annotated[str, Field(pattern=r"^[^:\s]+:\d{1,5}$")] | None = None
    registers: RegistersSpec = RegistersSpec()
    # line_json, modbus: the whole group is on one line
    line: Id | None = None
    line_faults: LineFaultsSpec = LineFaultsSpec()
    # mqtt, and the families that are devices on a broker
    broker: Broker | None = None
    qos: Annotated[int, Field(ge=0, le=1)] = 1
    topic_prefix: Annotated[str, Field(pattern=r"^[^#+\s]+$")] | None = None
    offers: str | None = None
    flash_time: Duration = timedelta(milliseconds=500)
    # gateways: `broker` is the cloud's
    devices_each: Annotated[int, Field(ge=0, le=10_000)] = 10
    task_time: Duration = timedelta(seconds=1)
    failures: Probability = 0
    org: Id = DEFAULT_ORG
    tokens: Path | None = None

    @model_validator(mode="after")
    def _is_named(self) -> "GroupSpec":
        if (self.id is None) == (not self.ids):
            raise ValueError("give one of `id` (with `count`) and `ids`")
        unknown = sorted(set(self.faults_of) - set(self.device_ids()))
        if unknown:
            raise ValueError(f"`faults_of` names no device of this group: {', '.join(unknown)}")
        if self.personality == "modbus" and self.unit + len(self.device_ids()) - 1 > 247:
            raise ValueError("units go up to 247")
        try:
            parse_version(self.version)
            for further in self.further_images:
                parse_version(further.version)
            if self.offers is not None:
                parse_version(self.offers)
        except ImageInvalid as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def line_name(self) -> str:
        return self.line or self.id or self.ids[0]

    def device_ids(self) -> list[str]:
        if self.id is None:
            return list(self.ids)
        return [f"{self.id}-{number}" for number in range(1, self.count + 1)]


class Scenario(_Strict):
    """A whole scenario file. `pty_dir` and `image` are relative to the working directory."""

    seed: int | str = 0
    broker: Broker = "mqtt://127.0.0.1:1883"
    connects_at_once: Annotated[int, Field(ge=1, le=10_000)] = AT_ONCE
    pty_dir: Path = DEFAULT_PTY_DIR
    record: Path | None = None
    devices: Annotated[list[GroupSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_each_id_once(self) -> "Scenario":
        ids = [device_id for group in self.devices for device_id in group.device_ids()]
        twice = sorted({each for each in ids if ids.count(each) > 1}) if len(ids) < 1000 else []
        if twice or len(set(ids)) < len(ids):
            raise ValueError(f"a device id stands twice: {', '.join(twice)}")
        lines = [g.line_name for g in self.devices if g.personality in ON_LINES]
        taken = sorted({line for line in lines if lines.count(line) > 1})
        if taken:
            raise ValueError(f"a line belongs to one group: {', '.join(taken)}")
        return self


@dataclass(frozen=True, slots=True)
class SmpSpec:
    """A device on a pty, ready to be given its line."""

    device: Device
    settings: SmpSettings
    baud: int | None

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.device,)


@dataclass(frozen=True, slots=True)
class MqttSpec:
    """A device on the broker."""

    device: Device
    settings: MqttSettings
    broker: str | None = None
    qos: int = 1

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.device,)


@dataclass(frozen=True, slots=True)
class LineSpec:
    """Devices that share one line."""

    line: str
    devices: tuple[Device, ...]
    faults: LineFaults
    settings: LineJsonSettings
    baud: int | None


@dataclass(frozen=True, slots=True)
class ModbusSpec:
    """Units that share one line, or one TCP server at `listen`."""

    line: str
    units: dict[int, Unit]
    faults: LineFaults
    settings: ModbusSettings
    baud: int | None
    listen: str | None

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(unit.device for unit in self.units.values())


@dataclass(frozen=True, slots=True)
class GadgetSpec:
    """A device of a family on the broker."""

    device: Device
    family: str
    settings: GadgetSettings
    broker: str | None = None
    qos: int = 1

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.device,)


@dataclass(frozen=True, slots=True)
class CloudGatewaySpec:
    """A gateway on the cloud's broker; its device is the gateway itself."""

    device: Device
    settings: CloudGatewaySettings
    broker: str | None = None
    qos: int = 1

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.device,)


Spec = SmpSpec | MqttSpec | LineSpec | ModbusSpec | GadgetSpec | CloudGatewaySpec


def read_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises DocumentInvalid (file, line, key) or OSError."""
    return load(path.read_text(encoding="utf-8"), Scenario, str(path))


def make_devices(scenario: Scenario) -> Iterator[Spec]:
    """Build every device with its flash and its plan; the seed alone decides what goes wrong.

    Raises ScenarioInvalid for an image that is none or does not fit its slot.
    """
    for group in scenario.devices:
        image = _initial_image(group, scenario.seed)
        try:
            factory = flash.fresh(image, group.slot_size, group.boot_mode, group.slot_addresses)
        except ImageInvalid as error:
            raise ScenarioInvalid(f"{group.device_ids()[0]}: {error}") from error
        devices = (_device(group, i, factory, scenario.seed) for i in group.device_ids())
        if group.personality == "line_json":
            yield LineSpec(
                group.line_name,
                tuple(devices),
                group.line_faults.for_line(f"{scenario.seed}/{group.line_name}"),
                LineJsonSettings(group.turnaround.total_seconds()),
                group.baud,
            )
        elif group.personality == "modbus":
            yield _modbus(group, devices, scenario.seed)
        elif group.personality == "gateways":
            yield from _cloud_gateways(group, devices)
        elif group.personality in ("smp", "mqtt"):
            yield from (_with_settings(group, device) for device in devices)
        else:
            settings = _gadget_settings(group, scenario.seed)
            own = (group.broker, group.qos)
            yield from (GadgetSpec(device, group.personality, settings, *own) for device in devices)


def _gadget_settings(group: GroupSpec, seed: int | str) -> GadgetSettings:
    return GadgetSettings(
        group.topic_prefix,
        turnaround_s=group.turnaround.total_seconds(),
        flash_s=group.flash_time.total_seconds(),
        offered=None if group.offers is None else _built(group.offers, group.image_size, str(seed)),
    )


def _cloud_gateways(group: GroupSpec, devices: Iterator[Device]) -> Iterator[CloudGatewaySpec]:
    tokens = _tokens(group.tokens)
    for device in devices:
        name = device.identity.id
        settings = CloudGatewaySettings(
            Address(OrgId(group.org), GatewayId(name)),
            group.devices_each,
            group.task_time.total_seconds(),
            group.failures,
            tokens.get(name),
        )
        yield CloudGatewaySpec(device, settings, group.broker, group.qos)


def _tokens(path: Path | None) -> dict[str, str]:
    """Tokens by gateway, from a JSON object. Raises ScenarioInvalid."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScenarioInvalid(f"tokens: {path}: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(t, str) for t in found.values()):
        raise ScenarioInvalid(f"tokens: {path}: not a JSON object of texts")
    return found


def _modbus(group: GroupSpec, devices: Iterator[Device], seed: int | str) -> ModbusSpec:
    return ModbusSpec(
        group.line_name,
        {n: Unit(d, group.registers.for_device()) for n, d in enumerate(devices, group.unit)},
        group.line_faults.for_line(f"{seed}/{group.line_name}"),
        ModbusSettings(group.turnaround.total_seconds()),
        group.baud,
        group.listen,
    )


def _device(group: GroupSpec, device_id: str, factory: flash.Flash, seed: int | str) -> Device:
    if group.bricked:
        factory = replace(factory, running=flash.UNBOOTABLE)
    return Device(
        Identity(device_id, group.type, group.hardware),
        factory,
        group.faults_of.get(device_id, group.faults).for_device(f"{seed}/{device_id}"),
        group.boot_time.total_seconds(),
        further=[
            flash.fresh(
                _built(each.version, each.image_size, f"{seed}/{n}"),
                each.slot_size,
                group.boot_mode,
            )
            for n, each in enumerate(group.further_images, 1)
        ],
    )


def _with_settings(group: GroupSpec, device: Device) -> SmpSpec | MqttSpec:
    if group.personality == "mqtt":
        return MqttSpec(
            device,
            MqttSettings(
                group.topic_prefix or "dev",
                turnaround_s=group.turnaround.total_seconds(),
                flash_s=group.flash_time.total_seconds(),
            ),
            group.broker,
            group.qos,
        )
    settings = SmpSettings(
        zephyr=group.zephyr,
        buf_size=group.buf_size,
        buf_count=group.buf_count,
        # At a true baud rate the lines arrive one by one, and the pool never fills.
        rx_lines=group.rx_lines if group.baud is None else None,
        turnaround_s=group.turnaround.total_seconds(),
        erase_s=group.erase_time.total_seconds(),
        certificates=group.certificates,
    )
    return SmpSpec(device, settings, group.baud)


def _initial_image(group: GroupSpec, seed: int | str) -> bytes:
    if group.image is None:
        address = group.slot_addresses[0] if group.slot_addresses else None
        return _built(group.version, group.image_size, str(seed), address)
    try:
        return group.image.read_bytes()
    except OSError as error:
        raise ScenarioInvalid(f"{group.device_ids()[0]}: {error}") from error


@lru_cache(maxsize=64)
def _built(version: str, size: int, seed: str, address: int | None = None) -> bytes:
    return build_image(version, size, f"factory/{seed}", address=address)


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
