"""What the settings say of devices: what all have, and what each driver's kind adds."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib.abc import Traversable
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model

from contract.documents import DocumentInvalid, load
from contract.durations import Duration, parse_duration
from contract.ids import Id
from contract.plugins import PlugInBroken
from gateway.collect_settings import Collect, collects
from gateway.drivers.base import Bus, DriverKind, Surroundings
from gateway.drivers.registry import Drivers
from gateway.errors import SettingsInvalid
from gateway.runner.collects import Collects

PATIENCE: Final = parse_duration("30s")
BY_ID: Final = Path("/dev/serial/by-id")


class DeviceSettings(BaseModel):
    """What all devices have. The model of one driver's devices adds the driver's options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[DriverKind | None] = None
    broken: ClassVar[str] = ""

    id: Id = Field(description="the device's name in jobs; small letters, digits, hyphens")
    driver: str = Field(description="which driver speaks with it")
    type: str = Field(default="", max_length=128, description="for target queries")
    name: str = Field(default="", max_length=128, description="as people call it")
    tags: dict[str, JsonValue] = Field(default_factory=dict, description="for target queries")
    attributes: dict[str, JsonValue] = Field(default_factory=dict)
    patience: Duration = Field(
        default=PATIENCE,
        description="how long a task waits for the silent device before it begins, and may fail",
    )
    sleepy: bool = Field(
        default=False, description="the device sleeps: tasks wait for it as long as they may"
    )
    collect: list[Collect] = Field(
        default_factory=list, max_length=50, description="its state, asked or heard in a schedule"
    )

    @property
    def options(self) -> BaseModel | None:
        """What its driver is told; None where the driver cannot be loaded."""
        if self.kind is None:
            return None
        model = self.kind.options
        given = self.model_dump(include=set(model.model_fields), exclude_unset=True, by_alias=True)
        return model.model_validate(given)

    @property
    def profile_name(self) -> str | None:
        """The profile it names, if its driver works with profiles."""
        if self.kind is None or self.kind.profile is None:
            return None
        return cast(str, getattr(self, "profile"))  # noqa: B009 (the driver's own key)

    def collects(self, surroundings: Surroundings) -> tuple[Collects, ...]:
        """What is collected of its state; nothing where its driver cannot be loaded."""
        kind, options = self.kind, self.options
        if kind is None:
            return ()
        return tuple(collects(each, self.id, kind, options, surroundings) for each in self.collect)

    @property
    def shares(self) -> Bus | None:
        """What it shares with other devices."""
        return None if self.kind is None else self.kind.bus(self.options)


class _Broken(DeviceSettings):
    """A device whose driver cannot be loaded: nobody knows which keys it may have."""

    model_config = ConfigDict(extra="allow")


def device_union(drivers: Drivers, named: Collection[str]) -> Any:
    """The type of one device: told apart by `driver`. Only drivers in `named` are imported."""
    models = [_model_of(name, drivers, name in named) for name in drivers.names]
    return Annotated[reduce(or_, models), Field(discriminator="driver")]


def _model_of(name: str, drivers: Drivers, is_named: bool) -> Any:
    tag: Any = (Literal[name], Field(description="which driver speaks with it"))
    if not is_named:
        return create_model(name, __base__=DeviceSettings, driver=tag)
    try:
        kind = drivers.kind(name)
        taken = set(DeviceSettings.model_fields) & set(kind.options.model_fields)
        if taken:
            listed = ", ".join(sorted(taken))
            raise PlugInBroken(
                f"driver `{name}`: its options take names that all devices use: {listed}"
            )
    except PlugInBroken as error:
        broken = create_model(name, __base__=_Broken, driver=tag)
        broken.broken = str(error)
        return broken
    model: Any = create_model(name, __base__=(DeviceSettings, kind.options), driver=tag)
    model.kind = kind
    return model


def drivers_named(values: object) -> set[str]:
    """The drivers that settings name, in whatever shape the settings are."""
    devices = values.get("devices") if isinstance(values, dict) else None
    items = devices if isinstance(devices, list) else []
    found = (item.get("driver") for item in items if isinstance(item, dict))
    return {name for name in found if isinstance(name, str)}


def check_devices(devices: Iterable[DeviceSettings]) -> None:
    """No id twice, and no two devices in one place. Raises ValueError."""
    ids: set[str] = set()
    on_bus: dict[str, list[tuple[DeviceSettings, Bus]]] = {}
    for device in devices:
        if device.id in ids:
            raise ValueError(f"devices: `{device.id}` stands twice")
        ids.add(device.id)
        kind = device.kind
        if kind is not None and kind.listen is None and any(c.published for c in device.collect):
            raise ValueError(f"devices: `{device.id}`: what {device.driver} says is not published")
        bus = device.shares
        if bus is not None:
            neighbours = on_bus.setdefault(bus.name, [])
            if neighbours:
                _check_neighbours(*neighbours[0], device, bus)
                _check_seats(neighbours, device, bus)
            neighbours.append((device, bus))


def _check_neighbours(first: DeviceSettings, one: Bus, second: DeviceSettings, other: Bus) -> None:
    both = f"devices: `{first.id}` and `{second.id}` share {_place(one)}"
    if first.driver != second.driver:
        raise ValueError(f"{both} but not its driver ({first.driver}, {second.driver})")
    if one.seat is None or other.seat is None:
        raise ValueError(both)
    for manner, value in one.manners.items():
        if other.manners.get(manner) != value:
            differ = f"({value}, {other.manners.get(manner)})"
            raise ValueError(f"{both} but not its `{manner}` {differ}")


def _check_seats(
    neighbours: Sequence[tuple[DeviceSettings, Bus]], device: DeviceSettings, bus: Bus
) -> None:
    for neighbour, its in neighbours:
        if its.seat == bus.seat:
            both = f"`{neighbour.id}` and `{device.id}`"
            raise ValueError(f"devices: {both} are both {bus.seat} on {_place(bus)}")


def _place(bus: Bus) -> str:
    return bus.name.replace("serial:", "the port ", 1)


def port_advice(devices: Iterable[DeviceSettings]) -> list[str]:
    """Which serial ports have a name that survives replugging, and are given by another."""
    shared = {bus.name for device in devices if (bus := device.shares) is not None}
    found = []
    for port in sorted(name.removeprefix("serial:") for name in shared if "serial:" in name):
        better = stable_name(port)
        if better is not None:
            found.append(f"the port {port} may get another name when it is replugged: use {better}")
    return found


def stable_name(path: str, folder: Path = BY_ID) -> str | None:
    """The name of the same port that survives replugging, where it has one and `path` is not it."""
    wanted = os.path.realpath(path)
    if Path(path).parent == folder or not folder.is_dir():
        return None
    links = sorted(str(link) for link in folder.iterdir())
    return next((link for link in links if os.path.realpath(link) == wanted), None)


@dataclass(frozen=True)
class ProfilesRead:
    """Profiles by name.

    `missing` are names that devices give and nobody has, and who gives them; `unusable` are
    deployed files, and why another of the name is used instead.
    """

    found: dict[str, BaseModel]
    missing: dict[str, str]
    unusable: dict[str, str]


def read_profiles(
    folder: Path,
    devices: Sequence[DeviceSettings],
    more: Sequence[Traversable] = (),
    deployed: Path | None = None,
) -> ProfilesRead:
    """The profiles that devices name: a deployed file, else one in `folder`, else of a package.

    Raises SettingsInvalid with every problem of a file that people have put there.
    """
    found: dict[str, BaseModel] = {}
    missing: dict[str, str] = {}
    unusable: dict[str, str] = {}
    problems: list[str] = []
    for name, users in sorted(users_of_profiles(devices).items()):
        first, kind = users[0], users[0].kind
        assert kind is not None and kind.profile is not None
        other = next((device for device in users if device.kind is not kind), None)
        if other is not None:
            text = f"`{first.id}` and `{other.id}` have one profile, and two drivers"
            problems.append(f"profile `{name}`: {text}")
            continue
        if deployed is not None:
            try:
                model = read_profile(name, kind.profile, [deployed])
            except (OSError, UnicodeDecodeError, DocumentInvalid) as error:
                unusable[name] = str(error)
            else:
                if model is not None:
                    found[name] = model
                    continue
        try:
            model = read_profile(name, kind.profile, [folder, *more])
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"profile `{name}`: {error}")
        except DocumentInvalid as error:
            problems.append(str(error))
        else:
            if model is not None:
                found[name] = model
                continue
            known = ", ".join(sorted(_profiles_in([folder, *more]))) or "none"
            missing[name] = f"device {first.id}: no profile `{name}` in {folder} ({known})"
    if problems:
        raise SettingsInvalid("\n".join(problems))
    return ProfilesRead(found, missing, unusable)


def users_of_profiles(devices: Iterable[DeviceSettings]) -> dict[str, list[DeviceSettings]]:
    """The devices that name each profile."""
    users: dict[str, list[DeviceSettings]] = {}
    for device in devices:
        if device.profile_name is not None:
            users.setdefault(device.profile_name, []).append(device)
    return users


def read_profile(
    name: str, model: type[BaseModel], folders: Sequence[Traversable]
) -> BaseModel | None:
    """The first file of that name. Raises OSError, UnicodeDecodeError and DocumentInvalid."""
    for folder in folders:
        path = folder / f"{name}.yaml"
        if path.is_file():
            return load(path.read_text(encoding="utf-8"), model, str(path))
    return None


def _profiles_in(folders: Sequence[Traversable]) -> set[str]:
    names = (file.name for folder in folders if folder.is_dir() for file in folder.iterdir())
    return {name.removesuffix(".yaml") for name in names if name.endswith(".yaml")}
