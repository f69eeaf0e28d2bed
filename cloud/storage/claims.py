"""Devices that a gateway has in its configuration while another one owns them."""

from collections.abc import Collection, Iterable
from typing import Any

from cloud.storage import gateways
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, fetch_one, listed
from contract.messages import InventoryDevice


def keep(
    session: Session,
    org: str,
    gateway: str,
    devices: Iterable[InventoryDevice],
    foreign: Collection[str],
    now: int,
) -> None:
    """Keep what a gateway claims, and forget what it no longer does."""
    wanted = {device.id: device for device in devices if device.id in foreign}
    rows = fetch(
        session,
        "SELECT device FROM device_claims WHERE org = :org AND gateway = :gateway",
        org=org,
        gateway=gateway,
    )
    gone = {row.device for row in rows} - wanted.keys()
    if gone:
        change(
            session,
            "DELETE FROM device_claims WHERE org = :org AND gateway = :gateway "
            f"AND {any_of(session, 'device', 'ids')}",
            org=org,
            gateway=gateway,
            ids=listed(session, sorted(gone)),
        )
    change_many(
        session,
        "INSERT INTO device_claims (org, device, gateway, inventory, at) "
        "VALUES (:org, :device, :gateway, :inventory, :now) "
        "ON CONFLICT (org, device, gateway) DO UPDATE SET inventory = excluded.inventory",
        [
            {"org": org, "device": name, "gateway": gateway, "now": now,
             "inventory": device.model_dump_json()}
            for name, device in sorted(wanted.items())
        ],
    )  # fmt: skip


def take_over(session: Session, org: str, free: Collection[str], now: int) -> list[str]:
    """Give devices that were let go to the gateway that has claimed each for longest."""
    if not free:
        return []
    rows = fetch(
        session,
        f"SELECT device, gateway FROM device_claims WHERE org = :org "
        f"AND {any_of(session, 'device', 'ids')} ORDER BY device, at, gateway",
        org=org,
        ids=listed(session, sorted(free)),
    )
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row.device, row.gateway)
    for device, gateway in first.items():
        give(session, org, device, gateway, now)
    return list(first)


def give(session: Session, org: str, device: str, gateway: str, now: int) -> bool:
    """Make a claimant the owner; False if it does not claim the device."""
    row = fetch_one(
        session,
        "SELECT inventory FROM device_claims WHERE org = :org AND device = :device "
        "AND gateway = :gateway",
        org=org,
        device=device,
        gateway=gateway,
    )
    if row is None:
        return False
    change(
        session,
        "UPDATE devices SET gateway = NULL WHERE org = :org AND id = :device",
        org=org,
        device=device,
    )
    claimed = InventoryDevice.model_validate_json(row.inventory)
    gateways.add_to_inventory(session, org, gateway, claimed, now)
    drop(session, org, device, gateway)
    return True


def add(session: Session, org: str, gateway: str, device: InventoryDevice, now: int) -> None:
    """A gateway that has just lost a device to another still has it in its configuration."""
    known = {row.device for row in _of_gateway(session, org, gateway)}
    change_many(
        session,
        "INSERT INTO device_claims (org, device, gateway, inventory, at) "
        "VALUES (:org, :device, :gateway, :inventory, :now) "
        "ON CONFLICT (org, device, gateway) DO NOTHING",
        [{"org": org, "device": device.id, "gateway": gateway, "now": now,
          "inventory": device.model_dump_json()}],
    )  # fmt: skip
    _count(session, org, gateway, len(known | {device.id}))


def drop(session: Session, org: str, device: str, gateway: str) -> None:
    change(
        session,
        "DELETE FROM device_claims WHERE org = :org AND device = :device AND gateway = :gateway",
        org=org,
        device=device,
        gateway=gateway,
    )
    _count(session, org, gateway, len(_of_gateway(session, org, gateway)))


def drop_all(session: Session, org: str, gateway: str) -> None:
    change(
        session,
        "DELETE FROM device_claims WHERE org = :org AND gateway = :gateway",
        org=org,
        gateway=gateway,
    )


def of_device(session: Session, org: str, device: str) -> list[str]:
    """The gateways that claim a device which another one owns."""
    return of_devices(session, org, [device]).get(device, [])


def of_devices(session: Session, org: str, ids: Iterable[str]) -> dict[str, list[str]]:
    rows = fetch(
        session,
        "SELECT device, gateway FROM device_claims WHERE org = :org "
        f"AND {any_of(session, 'device', 'ids')} ORDER BY device, gateway",
        org=org,
        ids=listed(session, sorted(ids)),
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.device, []).append(row.gateway)
    return found


def of_gateways(session: Session, org: str, ids: Iterable[str]) -> dict[str, list[str]]:
    """The devices that each of these gateways claims, up to 20 of each."""
    rows = fetch(
        session,
        "SELECT gateway, device FROM device_claims WHERE org = :org "
        f"AND {any_of(session, 'gateway', 'ids')} ORDER BY gateway, device",
        org=org,
        ids=listed(session, sorted(ids)),
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.gateway, []).append(row.device)
    return {gateway: devices[:20] for gateway, devices in found.items()}


def _of_gateway(session: Session, org: str, gateway: str) -> list[Any]:
    return list(
        fetch(
            session,
            "SELECT device FROM device_claims WHERE org = :org AND gateway = :gateway",
            org=org,
            gateway=gateway,
        )
    )


def _count(session: Session, org: str, gateway: str, number: int) -> None:
    change(
        session,
        "UPDATE gateways SET foreign_devices = :number WHERE org = :org AND id = :gateway",
        org=org,
        gateway=gateway,
        number=number,
    )
