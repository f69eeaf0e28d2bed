"""Deployed profiles, by name and gateway."""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Row

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, fetch, listed
from cloud.storage.views import cursors
from cloud.storage.views.parts import bounded, moment
from contract.http import Page
from contract.http.fleet import GatewayProfile

# What is withdrawn and in nobody's way is no longer shown.
_SHOWN: Final = "(sha256 IS NOT NULL OR state <> 'held')"


def list_profiles(
    session: Session,
    org: str,
    *,
    name: str | None = None,
    gateway: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[GatewayProfile]:
    """A page of what is deployed, by gateway and name."""
    filters = cursors.fingerprint("profiles", org, name, gateway)
    after = cursors.decode(cursor, filters, str, str)
    limit = bounded(limit)
    conditions = ["org = :org", _SHOWN]
    if name is not None:
        conditions.append("name = :name")
    if gateway is not None:
        conditions.append("gateway = :gateway")
    if after is not None:
        conditions.append("(gateway, name) > (:after, :after_name)")
    wanted = {"name": name, "gateway": gateway}
    if after is not None:
        wanted |= {"after": after[0], "after_name": after[1]}
    rows = fetch(
        session,
        f"SELECT * FROM gateway_profiles WHERE {' AND '.join(conditions)} "
        "ORDER BY gateway, name LIMIT :limit",
        org=org,
        limit=limit + 1,
        **{key: value for key, value in wanted.items() if value is not None},
    )
    page, more = rows[:limit], len(rows) > limit
    last = [page[-1].gateway, page[-1].name] if more else []
    return Page(
        items=[_profile(row) for row in page],
        next_cursor=cursors.encode(last, filters) if more else None,
    )


def of_gateways(
    session: Session, org: str, gateways: Iterable[str]
) -> dict[str, list[GatewayProfile]]:
    """What is deployed to each of these."""
    rows = fetch(
        session,
        f"SELECT * FROM gateway_profiles WHERE org = :org AND {_SHOWN} "
        f"AND {any_of(session, 'gateway', 'ids')} ORDER BY name",
        org=org,
        ids=listed(session, list(gateways)),
    )
    found: dict[str, list[GatewayProfile]] = {}
    for row in rows:
        found.setdefault(row.gateway, []).append(_profile(row))
    return found


def _profile(row: Row[Any]) -> GatewayProfile:
    return GatewayProfile(
        name=row.name,
        gateway=row.gateway,
        sha256=row.sha256,
        size=row.size,
        state=row.state,
        problem=row.problem,
        wanted_at=moment(row.wanted_at),
    )
