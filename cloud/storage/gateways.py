"""Gateways, their inventories and sessions."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue
from sqlmodel import col, select

from cloud.storage.database import Session
from cloud.storage.dialect import (
    any_of,
    change,
    change_many,
    fetch,
    fetch_one,
    for_update,
    is_sqlite,
    listed,
)
from cloud.storage.json_text import clean, to_json
from cloud.storage.schema import DeviceRow, GatewayRow
from contract.messages import InventoryDevice

# Presence is a hint, measured in heartbeats: it need not be written more often than this.
NOTED_EVERY_MS: Final = 1_000


def get(session: Session, org: str, gateway: str, *, lock: bool = False) -> GatewayRow | None:
    query = select(GatewayRow).where(GatewayRow.org == org, GatewayRow.id == gateway)
    if lock and not is_sqlite(session):
        query = query.with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).first()


def get_device(session: Session, org: str, device: str, *, lock: bool = False) -> DeviceRow | None:
    query = select(DeviceRow).where(DeviceRow.org == org, DeviceRow.id == device)
    if lock and not is_sqlite(session):
        query = query.with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).first()


def get_devices(session: Session, org: str, ids: Iterable[str]) -> list[DeviceRow]:
    """Those of these devices that there are, by id, locked."""
    query = select(DeviceRow).where(DeviceRow.org == org, col(DeviceRow.id).in_(sorted(ids)))
    if not is_sqlite(session):
        query = query.with_for_update()
    found = query.order_by(DeviceRow.id).execution_options(populate_existing=True)
    return list(session.exec(found).all())


def heard(
    session: Session, messages: Iterable[tuple[str, str, str | None]], now: int
) -> set[tuple[str, str, str | None]]:
    """Note `(org, gateway, session)` of messages; returns those that are in session."""
    named = set(messages)
    rows = fetch(
        session,
        "SELECT org, id, session, last_heard_at FROM gateways WHERE session IS NOT NULL "
        f"AND {any_of(session, 'id', 'ids')}",
        ids=listed(session, sorted({gateway for _, gateway, _ in named})),
    )
    known = {(row.org, row.id, row.session): row.last_heard_at for row in rows}
    found = named & known.keys()
    change_many(
        session,
        "UPDATE gateways SET last_heard_at = :now WHERE org = :org AND id = :gateway "
        "AND session = :session",
        [
            {"org": org, "gateway": gateway, "session": name, "now": now}
            for org, gateway, name in sorted(found, key=str)
            if now - (known[org, gateway, name] or 0) >= NOTED_EVERY_MS
        ],
    )
    return found


_INVENTORY = "type, name, driver, address, bus, link, tags, attributes"


def save_inventory(
    session: Session, org: str, gateway: str, devices: Iterable[InventoryDevice], now: int
) -> tuple[list[str], list[str], list[str]]:
    """Take over what a gateway says it owns; the ids that changed, the foreign ones, those let go.

    A device that another gateway owns is left alone; one that is no longer named has no owner.
    Tags and attributes that people gave a device stand over those its gateway gives.
    """
    named = {device.id: _row(org, gateway, device, now) for device in devices}
    rows = fetch(
        session,
        f"SELECT id, gateway, edits, {_INVENTORY} FROM devices WHERE org = :org "
        f"AND (gateway = :gateway OR {any_of(session, 'id', 'ids')}) "
        f"ORDER BY id{for_update(session)}",
        org=org,
        gateway=gateway,
        ids=listed(session, sorted(named)),
    )
    known = {row.id: row for row in rows}
    for row in rows:
        if row.id in named:
            _apply_edits(named[row.id], row.edits)
    foreign = [i for i, row in known.items() if row.gateway not in (None, gateway)]
    changed = [
        row
        for device, row in sorted(named.items())
        if device not in foreign and (device not in known or _differs(known[device], row))
    ]
    _upsert(session, changed)
    gone = [i for i, row in known.items() if row.gateway == gateway and i not in named]
    change_many(
        session,
        "UPDATE devices SET gateway = NULL, link = 'unknown' WHERE org = :org AND id = :id "
        "AND gateway = :gateway",
        [{"org": org, "id": device, "gateway": gateway} for device in gone],
    )
    return [row["id"] for row in changed], foreign, gone


def add_to_inventory(
    session: Session, org: str, gateway: str, device: InventoryDevice, now: int
) -> None:
    """Take over one device that no gateway owns, beside what the gateway has."""
    row = _row(org, gateway, device, now)
    known = fetch_one(
        session, "SELECT edits FROM devices WHERE org = :org AND id = :id", org=org, id=device.id
    )
    _apply_edits(row, None if known is None else known.edits)
    _upsert(session, [row])


def _apply_edits(row: dict[str, Any], edits: str | None) -> None:
    for section, changes in json.loads(edits or "{}").items():
        row[section] = to_json(edited(json.loads(row[section]), changes))


def _upsert(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    names = _INVENTORY.split(", ")
    change_many(
        session,
        f"INSERT INTO devices (org, id, gateway, {_INVENTORY}, state, created_at) VALUES "
        f"(:org, :id, :gateway, {', '.join(f':{name}' for name in names)}, '{{}}', :now) "
        "ON CONFLICT (org, id) DO UPDATE SET gateway = excluded.gateway, "
        + ", ".join(f"{name} = excluded.{name}" for name in names)
        + " WHERE devices.gateway IS NULL OR devices.gateway = excluded.gateway",
        rows,
    )


def edited(
    values: Mapping[str, JsonValue], changes: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """The values with the changes over them; a null takes one away."""
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


def _row(org: str, gateway: str, device: InventoryDevice, now: int) -> dict[str, Any]:
    return {
        "org": org,
        "id": device.id,
        "gateway": gateway,
        "type": clean(device.type),
        "name": clean(device.name),
        "driver": clean(device.driver),
        "address": clean(device.address),
        "bus": clean(device.bus),
        "link": device.link,
        "tags": to_json(device.tags),
        "attributes": to_json(device.attributes),
        "now": now,
    }


def _differs(known: Any, row: Mapping[str, Any]) -> bool:
    if known.gateway is None:
        return True
    return any(getattr(known, name) != row[name] for name in _INVENTORY.split(", "))


def ended_attempts(
    session: Session, org: str, gateway: str, names: Iterable[tuple[str, int, int]]
) -> dict[tuple[str, int, int], Any]:
    """The attempts among these `(run, ordinal, attempt)` that this gateway has ever had."""
    wanted = set(names)
    by_run: dict[str, set[int]] = {}
    for run, ordinal, _ in wanted:
        by_run.setdefault(run, set()).add(ordinal)
    return {
        (row.run, row.ordinal, row.attempt): row
        for run, ordinals in sorted(by_run.items())
        for row in fetch(
            session,
            "SELECT run, ordinal, attempt, revision, late_revision, failure_code FROM attempts "
            f"WHERE run = :run AND {any_of(session, 'ordinal', 'ordinals')} AND org = :org "
            "AND gateway = :gateway",
            run=run,
            ordinals=listed(session, sorted(ordinals)),
            org=org,
            gateway=gateway,
        )
        if (row.run, row.ordinal, row.attempt) in wanted
    }


def send_again(session: Session, keys: Iterable[tuple[str, int]]) -> None:
    """Offer these anew at once: they never arrived."""
    change_many(
        session,
        "UPDATE tasks SET sent_at = NULL WHERE run = :run AND ordinal = :ordinal "
        "AND status = 'offered'",
        [{"run": run, "ordinal": ordinal} for run, ordinal in sorted(keys)],
    )


def expect_soon(session: Session, keys: Iterable[tuple[str, int]], deadline: int) -> None:
    """Give open attempts at most until `deadline` to be reported."""
    change_many(
        session,
        "UPDATE tasks SET deadline = :deadline WHERE run = :run AND ordinal = :ordinal "
        "AND (deadline IS NULL OR deadline > :deadline)",
        [{"run": r, "ordinal": ordinal, "deadline": deadline} for r, ordinal in sorted(keys)],
    )


def held_devices(session: Session, org: str, gateway: str) -> list[tuple[str, str]]:
    """The gateway's devices that a task holds: `(device, task)`."""
    rows = fetch(
        session,
        "SELECT id, held_by FROM devices WHERE org = :org AND gateway = :gateway "
        "AND held_by IS NOT NULL ORDER BY id",
        org=org,
        gateway=gateway,
    )
    return [(row.id, row.held_by) for row in rows]


def free_device(session: Session, org: str, device: str, task: str) -> None:
    change(
        session,
        "UPDATE devices SET held_by = NULL WHERE org = :org AND id = :device AND held_by = :task",
        org=org,
        device=device,
        task=task,
    )


def has_open_attempt(session: Session, org: str, device: str, run: str, ordinal: int) -> bool:
    row = fetch_one(
        session,
        "SELECT status FROM tasks WHERE run = :run AND ordinal = :ordinal AND org = :org "
        "AND device = :device AND status IN ('offered', 'accepted', 'running', 'awaiting')",
        run=run,
        ordinal=ordinal,
        org=org,
        device=device,
    )
    return row is not None
