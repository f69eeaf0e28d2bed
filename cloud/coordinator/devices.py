"""People's edits of devices and gateways."""

import json

from cloud.coordinator.access import Caller
from cloud.coordinator.edits import apply_edits, bounded
from cloud.errors import NotFound
from cloud.storage import gateways
from cloud.storage.database import Session
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema import DeviceRow
from cloud.storage.views import devices as views
from cloud.storage.views import gateways as gateway_views
from contract.http.fleet import Device, Gateway
from contract.http.targets import EditDevice, EditGateway


def edit_device(session: Session, caller: Caller, device: str, edit: EditDevice) -> Device:
    """Set tags and attributes over those its gateway gives, for good. Raises NotFound, Invalid."""
    row = gateways.get_device(session, caller.org, device, lock=True)
    if row is None:
        raise NotFound(f"device `{device}`")
    save_edits(session, row, edit)
    session.flush()
    return views.get_device(session, caller.org, device)


def save_edits(session: Session, row: DeviceRow, edit: EditDevice) -> None:
    apply_edits(row, edit.tags, edit.attributes)
    edits = json.loads(row.edits or "{}")
    for section, changes in (("tags", edit.tags), ("attributes", edit.attributes)):
        if changes:
            # A null is kept: its gateway would bring back what people took away.
            edits[section] = {**edits.get(section, {}), **changes}
    row.edits = bounded(to_json(edits), "edits")
    session.add(row)


def edit_gateway(
    session: Session, caller: Caller, gateway: str, edit: EditGateway, now: int
) -> Gateway:
    """Raises NotFound and Invalid."""
    row = gateways.get(session, caller.org, gateway, lock=True)
    if row is None:
        raise NotFound(f"gateway `{gateway}`")
    row.name = row.name if edit.name is None else clean(edit.name)
    row.type = row.type if edit.type is None else clean(edit.type)
    apply_edits(row, edit.tags, edit.attributes)
    session.add(row)
    session.flush()
    return gateway_views.get_gateway(session, caller.org, gateway, now)
