"""Which drivers there are: our own, and those that installed packages bring.

A driver's module is imported when the first device names it, so a gateway carries the weight of
none that it does not use.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint as InstalledPoint
from typing import Final

from contract import plugins
from contract.plugins import EntryPoint, PlugInBroken
from gateway.drivers.base import DriverKind

OURS: Final[Mapping[str, str]] = {
    "smp": "gateway.drivers.smp:KIND",
    "mqtt": "gateway.drivers.mqtt:KIND",
    "line_json": "gateway.drivers.line_json:KIND",
    "modbus": "gateway.drivers.modbus:KIND",
    "aws_jobs": "gateway.drivers.aws_jobs:KIND",
}


class Drivers:
    """Driver kinds by name; one of ours is not replaced by another package's of the same name."""

    def __init__(self, installed: Iterable[EntryPoint] = ()) -> None:
        ours = [InstalledPoint(name, value, plugins.DRIVERS) for name, value in OURS.items()]
        self._points = plugins.by_name([*ours, *installed])
        self._kinds: dict[str, DriverKind] = {}
        self._broken: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._points)

    def kind(self, name: str) -> DriverKind:
        """The driver of that name, imported now if need be. Raises PlugInBroken, KeyError."""
        if name not in self._kinds and name not in self._broken:
            point = self._points[name]
            try:
                self._kinds[name] = plugins.load_plug_in(point, DriverKind, "driver")
            except PlugInBroken as error:
                self._broken[name] = str(error)
        if name in self._broken:
            raise PlugInBroken(self._broken[name])
        return self._kinds[name]
