"""The audit log, the newest line first."""

import json
from collections.abc import Sequence

from sqlmodel import col

from cloud.storage.database import Session
from cloud.storage.schema_audit import AuditRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors
from cloud.storage.views.parts import bounded, moment
from contract.http import Page
from contract.http.audit import AuditLine
from contract.http.runs import RunBy


def list_audit(
    session: Session,
    org: str,
    *,
    subject: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[AuditLine]:
    """A page of lines; of one subject, if it is named."""
    filters = cursors.fingerprint("audit", org, subject)
    after = cursors.decode(cursor, filters, int)
    limit = bounded(limit)
    query = of_org(AuditRow, org).order_by(col(AuditRow.number).desc())
    if subject is not None:
        query = query.where(col(AuditRow.subject) == subject)
    if after is not None:
        query = query.where(col(AuditRow.number) < after[0])
    rows: Sequence[AuditRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page = rows[:limit]
    return Page(
        items=[_line(row) for row in page],
        next_cursor=cursors.encode([page[-1].number], filters) if len(rows) > limit else None,
    )


def _line(row: AuditRow) -> AuditLine:
    return AuditLine(
        number=row.number or 0,
        at=moment(row.at),
        by=RunBy(id=row.by, name=row.by_name),
        action=row.action,
        subject=row.subject,
        detail=json.loads(row.detail),
    )
