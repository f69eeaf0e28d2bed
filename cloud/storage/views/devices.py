"""Devices as lists and pages show them."""

import json
from collections.abc import Sequence

from sqlmodel import col

from cloud.errors import NotFound
from cloud.storage import claims
from cloud.storage.database import Session
from cloud.storage.schema import DeviceRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors
from cloud.storage.views.parts import bounded, time
from contract.http import Page
from contract.http.fleet import Device


def list_devices(
    session: Session,
    org: str,
    *,
    gateway: str | None = None,
    type: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Device]:
    """A page of devices by id."""
    filters = cursors.fingerprint("devices", org, gateway, type)
    after = cursors.decode(cursor, filters, str)
    limit = bounded(limit)
    query = of_org(DeviceRow, org).order_by(col(DeviceRow.id))
    if gateway is not None:
        query = query.where(col(DeviceRow.gateway) == gateway)
    if type is not None:
        query = query.where(col(DeviceRow.type) == type)
    if after is not None:
        query = query.where(col(DeviceRow.id) > after[0])
    rows: Sequence[DeviceRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page, more = rows[:limit], len(rows) > limit
    claimed = claims.of_devices(session, org, [row.id for row in page])
    return Page(
        items=[_device(row, claimed.get(row.id, ())) for row in page],
        next_cursor=cursors.encode([page[-1].id], filters) if more else None,
    )


def get_device(session: Session, org: str, device: str) -> Device:
    """Raises NotFound."""
    row: DeviceRow | None = session.execute(
        of_org(DeviceRow, org).where(col(DeviceRow.id) == device)
    ).scalar_one_or_none()
    if row is None:
        raise NotFound(f"device `{device}`")
    return _device(row, claims.of_device(session, org, device))


def _device(row: DeviceRow, claimed_by: Sequence[str] = ()) -> Device:
    return Device(
        id=row.id,
        gateway=row.gateway,
        claimed_by=list(claimed_by),
        type=row.type,
        name=row.name,
        driver=row.driver,
        address=row.address,
        link=row.link,
        tags=json.loads(row.tags),
        attributes=json.loads(row.attributes),
        state=json.loads(row.state),
        held_by=row.held_by,
        last_heard_at=time(row.last_heard_at),
        created_at=time(row.created_at),
    )
