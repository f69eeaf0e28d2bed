"""Calls that were done, and the devices and rows they change."""

from collections.abc import Mapping
from typing import Any

from cloud.storage.database import Session
from cloud.storage.dialect import change, fetch_one, for_update


def result_of(session: Session, run: str, key: str) -> str | None:
    """The result of a call, as JSON, if it was done."""
    row = fetch_one(
        session, "SELECT result FROM calls WHERE run = :run AND key = :key", run=run, key=key
    )
    return None if row is None else str(row.result)


def remember(session: Session, values: Mapping[str, Any]) -> bool:
    """Keep a call; False when somebody else has just done it."""
    names = "run, key, org, ordinal, attempt, step, verb, result, at"
    given = ", ".join(f":{name}" for name in names.split(", "))
    return bool(
        change(
            session,
            f"INSERT INTO calls ({names}) VALUES ({given}) ON CONFLICT (run, key) DO NOTHING",
            **values,
        )
    )


def role_of(session: Session, token: str) -> str | None:
    """The role of a token by its id."""
    row = fetch_one(session, "SELECT role FROM tokens WHERE id = :id", id=token)
    return None if row is None else str(row.role)


def delete_device(session: Session, org: str, device: str) -> str:
    """Delete a device that nobody has: `deleted`, or why not: `absent`, `owned`, `held`."""
    row = fetch_one(
        session,
        f"SELECT gateway, held_by FROM devices WHERE org = :org AND id = :id{for_update(session)}",
        org=org,
        id=device,
    )
    if row is None:
        return "absent"
    if row.gateway is not None:
        return "owned"
    if row.held_by is not None:
        return "held"
    change(session, "DELETE FROM devices WHERE org = :org AND id = :id", org=org, id=device)
    change(
        session, "DELETE FROM group_members WHERE org = :org AND member = :id", org=org, id=device
    )
    return "deleted"
