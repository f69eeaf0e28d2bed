"""Whom a run could not start on right now, and why: counted in one statement for each reason.

In the order in which dispatch asks, so that every target counts once.
"""

import json
from collections.abc import Collection
from typing import Any, Final

from cloud.storage.database import Session
from cloud.storage.dialect import fetch, fetch_one, is_sqlite
from cloud.storage.targets import DEVICES, ROWS, Shape, compile_query
from contract.ids import CENTRAL
from contract.query import Query

SAMPLE: Final = 5
Exclusion = tuple[str, int, list[str]]


def of_query(
    session: Session,
    org: str,
    shape: Shape,
    query: Query,
    table: str,
    verbs: Collection[str],
    heard: int,
    *,
    central: bool = False,
) -> list[Exclusion]:
    """`(reason, count, first ids)` for targets that fit but could not start.

    `heard` is the time before which a gateway counts as silent, `verbs` what the steps use. With
    `central` the central gateway performs the tasks, whatever they are about.
    """
    own = {"device": "devices.gateway", "gateway": "gateways.id"}
    gateway = ":central" if central else own.get(shape.resource, ":central")
    where, parameters = compile_query(query, sqlite=is_sqlite(session), shape=shape)
    joined = f"{shape.table} LEFT JOIN gateways g ON g.org = {shape.table}.org AND g.id = {gateway}"
    conditions: list[tuple[str, str]] = [
        ("gateway_unknown", "g.id IS NULL"),
        ("gateway_retired", "g.stop = 'retired'"),
        ("gateway_stopped", "g.stop <> ''"),
        ("gateway_offline", "(g.session IS NULL OR COALESCE(g.last_heard_at, 0) < :heard)"),
    ]
    old = _too_old(session, org, verbs)
    if old:
        conditions.append(("gateway_too_old", f"g.id IN ({', '.join(f':old_{n}' for n in old)})"))
    if shape is DEVICES and not central:
        conditions.append(("device_held", "devices.held_by IS NOT NULL"))
    given: dict[str, Any] = {**parameters, "org": org, "heard": heard}
    given |= {f"old_{n}": name for n, name in old.items()}
    if shape is ROWS:
        given["of_table"] = table
        where += " AND data_rows.of_table = :of_table"
    if gateway == ":central":
        given["central"] = CENTRAL
    found: list[Exclusion] = []
    before = "1 = 1"
    for reason, condition in conditions:
        source = (
            f"FROM {joined} WHERE {shape.table}.org = :org AND {where} AND {before} AND {condition}"
        )
        used = {name: v for name, v in given.items() if f":{name}" in source}
        row = fetch_one(session, f"SELECT count(*) AS number {source}", **used)
        if row is not None and row.number:
            ids = fetch(
                session,
                f"SELECT {shape.key} AS id {source} ORDER BY {shape.key} LIMIT {SAMPLE}",
                **used,
            )
            found.append((reason, row.number, [str(one.id) for one in ids]))
        before += (
            f" AND NOT {condition}" if condition.startswith("(") else f" AND NOT ({condition})"
        )
    return found


def _too_old(session: Session, org: str, verbs: Collection[str]) -> dict[int, str]:
    """Gateways that lack a step, numbered."""
    rows = fetch(session, "SELECT id, verbs FROM gateways WHERE org = :org", org=org)
    lacking = [row.id for row in rows if not set(verbs) <= set(json.loads(row.verbs))]
    return dict(enumerate(sorted(lacking)))
