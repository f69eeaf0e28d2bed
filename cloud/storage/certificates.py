"""CAs by org, and certificates given to devices."""

from collections.abc import Mapping
from typing import Any

from cloud.storage.database import Session
from cloud.storage.dialect import change, fetch_one
from cloud.storage.schema_certificates import AuthorityRow

_COLUMNS = (
    "org, serial, device, fingerprint, not_before, not_after, issued_at, run, ordinal, "
    "attempt, step"
)


def authority(session: Session, org: str) -> AuthorityRow | None:
    return session.get(AuthorityRow, org)


def keep_authority(session: Session, values: Mapping[str, Any]) -> None:
    """Keep an org's CA; the first one stays, whoever else has made one at the same moment."""
    names = "org, certificate, sealed_key, created_at"
    given = ", ".join(f":{name}" for name in names.split(", "))
    change(
        session,
        f"INSERT INTO authorities ({names}) VALUES ({given}) ON CONFLICT (org) DO NOTHING",
        **values,
    )


def keep(session: Session, values: Mapping[str, Any]) -> None:
    given = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
    change(session, f"INSERT INTO certificates ({_COLUMNS}) VALUES ({given})", **values)


def given(session: Session, org: str, device: str, fingerprint: str) -> tuple[str, int] | None:
    """Serial and end of a certificate, if the device was given it."""
    row = fetch_one(
        session,
        "SELECT serial, not_after FROM certificates WHERE org = :org AND device = :device "
        "AND fingerprint = :fingerprint",
        org=org,
        device=device,
        fingerprint=fingerprint,
    )
    return None if row is None else (str(row.serial), int(row.not_after))


def commit(session: Session, org: str, device: str, serial: str, now: int) -> int:
    """Note that a device keeps a certificate for good; how many others of it are retired now."""
    change(
        session,
        "UPDATE certificates SET committed_at = COALESCE(committed_at, :now), retired_at = NULL "
        "WHERE org = :org AND serial = :serial",
        org=org,
        serial=serial,
        now=now,
    )
    return change(
        session,
        "UPDATE certificates SET retired_at = :now WHERE org = :org AND device = :device "
        "AND serial <> :serial AND retired_at IS NULL",
        org=org,
        device=device,
        serial=serial,
        now=now,
    )
