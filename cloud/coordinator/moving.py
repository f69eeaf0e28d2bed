"""Handing a device from one gateway to another that has it in its configuration."""

from cloud.coordinator import audit
from cloud.coordinator.access import Caller
from cloud.coordinator.losing import lose
from cloud.errors import Conflict, NotFound
from cloud.storage import claims, gateways, tasks
from cloud.storage.database import Session
from cloud.storage.schema import DeviceRow
from cloud.storage.tasks import StoredTask
from cloud.storage.views import devices as views
from contract.http.fleet import Device, MoveDevice
from contract.lifecycle import TASK_OPEN
from contract.messages import Failure, InventoryDevice

MOVED = Failure(code="gateway_lost", text="its device was moved to another gateway")


def move_device(
    session: Session, caller: Caller, device: str, asked: MoveDevice, now: int
) -> tuple[Device, set[str]]:
    """Make a gateway that claims a device its owner; returns the runs touched too.

    An attempt open on the gateway before keeps the device: that raises Conflict, unless it is
    forced, which ends the attempt. Raises NotFound, and Conflict for a gateway without a claim.
    """
    row = gateways.get_device(session, caller.org, device, lock=True)
    if row is None:
        raise NotFound(f"device `{device}`")
    if row.gateway == asked.to:
        return views.get_device(session, caller.org, device), set()
    if asked.to not in claims.of_device(session, caller.org, device):
        text = f"`{asked.to}` does not have `{device}` in its configuration, or was not heard since"
        raise Conflict("not_claimed", text)
    before, touched = row.gateway, set[str]()
    holder = _holder(session, row)
    if holder is not None:
        if not asked.force:
            text = f"task `{holder.id}` holds it on `{holder.facts.gateway}`; force ends it"
            raise Conflict("task_open", text)
        lose(session, [holder], MOVED, now)
        touched.add(holder.run)
    old = _as_inventory(row)
    session.expire(row)
    claims.give(session, caller.org, device, asked.to, now)
    if before is not None and _is_enrolled(session, caller.org, before):
        claims.add(session, caller.org, before, old, now)
    touched |= tasks.unpark(session, [(caller.org, f"device:{device}")])
    audit.note(
        session, caller, now, "device.move", f"device/{device}",
        before=before, to=asked.to, force=asked.force,
    )  # fmt: skip
    return views.get_device(session, caller.org, device), touched


def _holder(session: Session, row: DeviceRow) -> StoredTask | None:
    run, _, ordinal = (row.held_by or "").rpartition("-")
    if not run:
        return None
    found = tasks.load(session, [(run, int(ordinal))]).get((run, int(ordinal)))
    return found if found is not None and found.facts.status in TASK_OPEN else None


def _is_enrolled(session: Session, org: str, gateway: str) -> bool:
    """Its own next hello will tell; until then its configuration stands as it was."""
    row = gateways.get(session, org, gateway)
    return row is not None and row.stop != "retired"


def _as_inventory(row: DeviceRow) -> InventoryDevice:
    return InventoryDevice(
        id=row.id, type=row.type, name=row.name, driver=row.driver, address=row.address, bus=row.bus
    )
