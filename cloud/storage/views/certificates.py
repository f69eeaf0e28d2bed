"""The certificates of a device, as lists show them."""

from collections.abc import Sequence

from sqlalchemy import and_, or_
from sqlmodel import col

from cloud.storage.database import Session
from cloud.storage.schema_certificates import CertificateRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors
from cloud.storage.views.parts import bounded, moment, time
from contract.http import Page
from contract.http.certificates import Certificate
from contract.ids import task_id


def list_certificates(
    session: Session, org: str, device: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Certificate]:
    """A page of a device's certificates, the newest first; a device of the past may have some."""
    filters = cursors.fingerprint("certificates", org, device)
    after = cursors.decode(cursor, filters, int, str)
    limit = bounded(limit)
    issued, serial = col(CertificateRow.issued_at), col(CertificateRow.serial)
    query = of_org(CertificateRow, org).where(col(CertificateRow.device) == device)
    if after is not None:
        older = or_(issued < after[0], and_(issued == after[0], serial < after[1]))
        query = query.where(older)
    query = query.order_by(issued.desc(), serial.desc())
    rows: Sequence[CertificateRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page, more = rows[:limit], len(rows) > limit
    last = [page[-1].issued_at, page[-1].serial] if page else []
    return Page(
        items=[_certificate(row) for row in page],
        next_cursor=cursors.encode(last, filters) if more else None,
    )


def _certificate(row: CertificateRow) -> Certificate:
    return Certificate(
        serial=row.serial,
        device=row.device,
        fingerprint=row.fingerprint,
        not_before=moment(row.not_before),
        not_after=moment(row.not_after),
        issued_at=moment(row.issued_at),
        committed_at=time(row.committed_at),
        retired_at=time(row.retired_at),
        revoked_at=time(row.revoked_at),
        run=row.run,
        task=task_id(row.run, row.ordinal),
        step=row.step,
    )
