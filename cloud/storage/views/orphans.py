"""What gateways hold of tasks that were never heard of here."""

import json
from typing import Any

from cloud.errors import NotFound
from cloud.storage import gateways, recovery
from cloud.storage.database import Session
from cloud.storage.views import cursors
from cloud.storage.views.parts import bounded, moment
from contract.http import Page
from contract.http.fleet import Orphan


def list_orphans(
    session: Session, org: str, gateway: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Orphan]:
    """A page by task and attempt. Raises NotFound."""
    if gateways.get(session, org, gateway) is None:
        raise NotFound(f"gateway `{gateway}`")
    filters = cursors.fingerprint("orphans", org, gateway)
    after = cursors.decode(cursor, filters, str, int)
    limit = bounded(limit)
    start = None if after is None else (str(after[0]), int(after[1]))
    rows = recovery.orphans(session, org, gateway, start, limit + 1)
    page, more = rows[:limit], len(rows) > limit
    last = [page[-1].task, page[-1].attempt] if more else []
    return Page(
        items=[_orphan(gateway, row) for row in page],
        next_cursor=cursors.encode(last, filters) if more else None,
    )


def _orphan(gateway: str, row: Any) -> Orphan:
    told = json.loads(row.raw)
    return Orphan(
        gateway=gateway,
        task=row.task,
        attempt=row.attempt,
        revision=row.revision,
        status=str(told.get("status", "")),
        outcome=None if row.detail == recovery.MARKED else told,
        at=moment(row.at),
    )
