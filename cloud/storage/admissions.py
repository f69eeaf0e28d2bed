"""Who may speak for a gateway: marks, replacements' tokens, journals that are retired."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, change, change_many, fetch, fetch_one, listed
from cloud.storage.schema import GatewayRow
from cloud.storage.schema_admissions import AdmissionRow
from contract.admission import REFUSALS
from contract.http.fleet import TurnedAway


def get(session: Session, org: str, gateway: str) -> AdmissionRow:
    """The row of a gateway, which the caller has locked; a new one if there is none."""
    row = session.get(AdmissionRow, (org, gateway), populate_existing=True)
    return AdmissionRow(org=org, gateway=gateway) if row is None else row


def is_journal_retired(session: Session, org: str, gateway: str, journal: str) -> bool:
    found = fetch_one(
        session,
        "SELECT at FROM retired_journals WHERE org = :org AND gateway = :gateway "
        "AND journal = :journal",
        org=org,
        gateway=gateway,
        journal=journal,
    )
    return found is not None


def retire_journal(session: Session, org: str, gateway: str, journal: str, now: int) -> None:
    change_many(
        session,
        "INSERT INTO retired_journals (org, gateway, journal, at) "
        "VALUES (:org, :gateway, :journal, :now) ON CONFLICT (org, gateway, journal) DO NOTHING",
        [{"org": org, "gateway": gateway, "journal": journal, "now": now}],
    )


def restore_journal(session: Session, org: str, gateway: str, journal: str) -> None:
    change(
        session,
        "DELETE FROM retired_journals WHERE org = :org AND gateway = :gateway "
        "AND journal = :journal",
        org=org,
        gateway=gateway,
        journal=journal,
    )


def sessions_to_end(session: Session, limit: int = 100) -> Sequence[Row[Any]]:
    """`org, gateway, ended_session` of gateways that are still to be told that theirs is over."""
    return fetch(
        session,
        "SELECT org, gateway, ended_session FROM admissions WHERE ended_session IS NOT NULL "
        "ORDER BY org, gateway LIMIT :limit",
        limit=limit,
    )


def told_of_end(session: Session, told: Iterable[tuple[str, str, str]]) -> None:
    change_many(
        session,
        "UPDATE admissions SET ended_session = NULL WHERE org = :org AND gateway = :gateway "
        "AND ended_session = :session",
        [{"org": org, "gateway": gateway, "session": name} for org, gateway, name in sorted(told)],
    )


def devices_of(session: Session, org: str, gateway: str) -> list[str]:
    """The devices that a gateway owns."""
    rows = fetch(
        session,
        "SELECT id FROM devices WHERE org = :org AND gateway = :gateway ORDER BY id",
        org=org,
        gateway=gateway,
    )
    return [row.id for row in rows]


def let_devices_go(session: Session, org: str, gateway: str) -> None:
    """No gateway has its devices any more, and no attempt holds them."""
    change(
        session,
        "UPDATE devices SET gateway = NULL, link = 'unknown', held_by = NULL "
        "WHERE org = :org AND gateway = :gateway",
        org=org,
        gateway=gateway,
    )


def forget_session(row: GatewayRow) -> None:
    """Whatever was known of the process that spoke for it."""
    row.session = row.session_at = row.instance = row.previous_instance = row.conflict_at = None
    row.foreign_devices = row.digest_misses = 0


def refusals_of(session: Session, org: str, ids: Iterable[str]) -> dict[str, TurnedAway]:
    """Who was last turned away under the name of each of these gateways."""
    rows = fetch(
        session,
        "SELECT gateway, refused_code, refused_at FROM admissions WHERE org = :org "
        f"AND refused_code IS NOT NULL AND {any_of(session, 'gateway', 'ids')}",
        org=org,
        ids=listed(session, sorted(ids)),
    )
    return {
        row.gateway: TurnedAway(
            code=row.refused_code,
            why=REFUSALS.get(row.refused_code, row.refused_code),
            at=datetime.fromtimestamp(row.refused_at / 1000, UTC),
        )
        for row in rows
    }
