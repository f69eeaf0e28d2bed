"""Holds that stand."""

from collections.abc import Sequence
from typing import cast

from sqlmodel import col

from cloud.storage.database import Session
from cloud.storage.schema import HoldRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors
from cloud.storage.views.parts import bounded, moment, time
from contract.http import Page
from contract.http.holds import Hold, HoldKind


def list_holds(
    session: Session, org: str, now: int, *, cursor: str | None = None, limit: int = 50
) -> Page[Hold]:
    filters = cursors.fingerprint("holds", org)
    after = cursors.decode(cursor, filters, str, str)
    limit = bounded(limit)
    query = of_org(HoldRow, org).order_by(col(HoldRow.kind), col(HoldRow.id))
    query = query.where(col(HoldRow.until).is_(None) | (col(HoldRow.until) > now))
    if after is not None:
        kind, last = after
        query = query.where(
            (col(HoldRow.kind) > kind) | ((col(HoldRow.kind) == kind) & (col(HoldRow.id) > last))
        )
    rows: Sequence[HoldRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page = rows[:limit]
    key = [page[-1].kind, page[-1].id] if len(rows) > limit else None
    return Page(
        items=[shown(row) for row in page],
        next_cursor=cursors.encode(key, filters) if key else None,
    )


def shown(row: HoldRow) -> Hold:
    return Hold(
        kind=cast(HoldKind, row.kind),
        id=row.id,
        reason=row.reason,
        until=time(row.until),
        by=row.by,
        at=moment(row.at),
    )
