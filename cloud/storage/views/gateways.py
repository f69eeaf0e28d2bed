"""Gateways with what they have in hand."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlmodel import col

from cloud.domain.dispatch import CONFLICT_MS, SILENCE_MS
from cloud.errors import NotFound
from cloud.storage import admissions, claims
from cloud.storage.database import Session
from cloud.storage.dialect import any_of, fetch, listed
from cloud.storage.schema import OPEN, GatewayRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors, profiles
from cloud.storage.views.parts import bounded, time, waiting
from contract.http import Page
from contract.http.fleet import Gateway
from contract.ids import CENTRAL


def list_gateways(
    session: Session, org: str, now: int, *, cursor: str | None = None, limit: int = 50
) -> Page[Gateway]:
    """A page of gateways by id."""
    filters = cursors.fingerprint("gateways", org)
    after = cursors.decode(cursor, filters, str)
    limit = bounded(limit)
    query = of_org(GatewayRow, org).order_by(col(GatewayRow.id))
    if after is not None:
        query = query.where(col(GatewayRow.id) > after[0])
    rows: Sequence[GatewayRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page = rows[:limit]
    more = len(rows) > limit
    return Page(
        items=_gateways(session, org, page, now),
        next_cursor=cursors.encode([page[-1].id], filters) if more else None,
    )


def get_gateway(session: Session, org: str, gateway: str, now: int) -> Gateway:
    """Raises NotFound."""
    row: GatewayRow | None = session.execute(
        of_org(GatewayRow, org).where(col(GatewayRow.id) == gateway)
    ).scalar_one_or_none()
    if row is None:
        raise NotFound(f"gateway `{gateway}`")
    return _gateways(session, org, [row], now)[0]


def _gateways(session: Session, org: str, rows: Iterable[GatewayRow], now: int) -> list[Gateway]:
    found = list(rows)
    ids = listed(session, [row.id for row in found])
    where = f"org = :org AND {any_of(session, 'gateway', 'ids')} GROUP BY gateway"

    def numbers(sql: str) -> dict[str, int]:
        return {row.gateway: row.number for row in fetch(session, sql, org=org, ids=ids)}

    select = "SELECT gateway, count(*) AS number FROM"
    devices = numbers(f"{select} devices WHERE {where}")
    open_tasks = numbers(f"{select} tasks WHERE {OPEN} AND {where}")
    refused = numbers(f"{select} refused WHERE {where}")
    orphaned = numbers(f"{select} refused WHERE code = 'unknown_task' AND {where}")
    claimed = claims.of_gateways(session, org, [row.id for row in found if row.foreign_devices])
    refusals = admissions.refusals_of(session, org, [row.id for row in found])
    deployed = profiles.of_gateways(session, org, [row.id for row in found])
    return [
        _gateway(
            row,
            now,
            devices=devices.get(row.id, 0),
            open_tasks=open_tasks.get(row.id, 0),
            refused_items=refused.get(row.id, 0),
            orphaned_tasks=orphaned.get(row.id, 0),
            profiles=deployed.get(row.id, []),
            foreign_devices=row.foreign_devices,
            claims=claimed.get(row.id, []),
            turned_away=refusals.get(row.id),
        )
        for row in found
    ]


def _gateway(row: GatewayRow, now: int, **more: Any) -> Gateway:
    online = (
        row.session is not None
        and row.last_heard_at is not None
        and now - row.last_heard_at <= SILENCE_MS
    )
    in_conflict = row.conflict_at is not None and now - row.conflict_at <= CONFLICT_MS
    wait = None if online else "gateway_offline"
    if in_conflict:
        wait = "in_conflict"
    if row.stop:
        wait = "gateway_retired" if row.stop == "retired" else "gateway_stopped"
    return Gateway(
        id=row.id,
        name=row.name,
        central=row.id == CENTRAL,
        type=row.type,
        tags=json.loads(row.tags),
        attributes=json.loads(row.attributes),
        online=online,
        in_conflict=in_conflict,
        state=row.stop or "working",  # type: ignore[arg-type]
        stop_run=row.stop_run,
        version=row.version,
        verbs=json.loads(row.verbs),
        journal=row.journal,
        dropped=json.loads(row.dropped),
        health=json.loads(row.health),
        last_heard_at=time(row.last_heard_at),
        created_at=time(row.created_at),
        waiting_for=waiting(wait),
        **more,
    )
