"""Devices, as their gateways last described them."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import BinaryIO

from pydantic import JsonValue

from contract.http.certificates import Certificate
from contract.http.fleet import Device, MoveDevice
from contract.http.operations import Action, ActOnDevices
from contract.http.runs import Run
from contract.http.state import Sample
from contract.http.targets import EditDevice
from roundsman._sync import targets
from roundsman._sync.transport import Transport, parse


class Devices:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, device: str) -> Device:
        return self._transport.get(f"/devices/{device}", Device)

    def list(self, *, limit: int | None = None) -> Iterator[Device]:
        """All devices; `limit` is the size of a page."""
        return self._transport.items("/devices", Device, {"limit": limit})

    def state(
        self,
        device: str,
        *,
        keys: Collection[str] = (),
        period: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        zone: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[Sample]:
        """What a device was like over time, the oldest sample first; `limit` is a page's size.

        `keys` are the values wanted, all if there are none. `period` is `today`, `yesterday` (of
        `zone`, UTC if none) or so long until now (`2h 30m`); `start` and `end` go over its ends.
        """
        query: dict[str, str | int | None] = {
            "keys": ",".join(keys) or None,
            "period": period,
            "from": None if start is None else start.isoformat(),
            "to": None if end is None else end.isoformat(),
            "zone": zone,
            "order": "newest" if newest_first else None,
            "limit": limit,
        }
        return self._transport.items(f"/devices/{device}/state", Sample, query)

    def certificates(self, device: str, *, limit: int | None = None) -> Iterator[Certificate]:
        """The certificates a device was given, the newest first."""
        path = f"/devices/{device}/certificates"
        return self._transport.items(path, Certificate, {"limit": limit})

    def free(self, device: str) -> Device:
        """Free a device that an attempt still holds whose gateway will not speak of it again.

        Raises Conflict while the task that holds it is in flight.
        """
        answer = self._transport.send("POST", f"/devices/{device}/free", repeatable=True)
        return parse(answer, Device)

    def move(self, device: str, to: str, *, force: bool = False) -> Device:
        """Make a gateway that has the device in its configuration its owner.

        Raises Conflict where it has not, and while an attempt holds the device on the gateway
        before; `force` ends that as `gateway_lost`.
        """
        body = MoveDevice(to=to, force=force)
        answer = self._transport.send("POST", f"/devices/{device}/move", body=body)
        return parse(answer, Device)

    def edit(self, device: str, edit: EditDevice) -> Device:
        """Set tags and attributes, over those its gateway gives; a null takes one away."""
        return targets.edit(self._transport, f"/devices/{device}", edit, Device)

    def import_file(self, content: bytes | BinaryIO, *, mode: targets.Mode = "keep_good") -> Run:
        """Set tags and attributes from CSV: columns id, tags.NAME, attributes.NAME."""
        return targets.import_file(self._transport, "/devices/import", content, mode)

    def export(self, *, query: JsonValue = None) -> Run:
        return targets.select(self._transport, "/devices/export", query, False)

    def act(
        self,
        action: Action,
        *,
        query: JsonValue = None,
        devices: Sequence[str] = (),
        everything: bool = False,
    ) -> Run:
        """Do one thing to every device that fits, or to those listed; the run that does it.

        `action` is an EditThem, HoldThem, LiftThem, RunOnThem or DeleteThem of
        `contract.http.operations`.
        """
        body = ActOnDevices(query=query, devices=list(devices), all=everything, action=action)
        answer = self._transport.send("POST", "/devices/act", body=body, repeatable=False)
        return parse(answer, Run)

    def delete(self, *, query: JsonValue = None, everything: bool = False) -> Run:
        """Delete devices that no gateway owns."""
        return targets.select(self._transport, "/devices/delete", query, everything)
