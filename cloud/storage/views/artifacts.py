"""Artifacts by name."""

from collections.abc import Sequence

from sqlmodel import col

from cloud.errors import NotFound
from cloud.storage.database import Session
from cloud.storage.schema import ArtifactRow
from cloud.storage.scope import of_org
from cloud.storage.views import cursors
from cloud.storage.views.parts import bounded, moment
from contract.http import Page
from contract.http.fleet import Artifact


def list_artifacts(
    session: Session, org: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Artifact]:
    """A page of artifacts by name."""
    filters = cursors.fingerprint("artifacts", org)
    after = cursors.decode(cursor, filters, str)
    limit = bounded(limit)
    query = of_org(ArtifactRow, org).order_by(col(ArtifactRow.name))
    if after is not None:
        query = query.where(col(ArtifactRow.name) > after[0])
    rows: Sequence[ArtifactRow] = session.execute(query.limit(limit + 1)).scalars().all()
    page, more = rows[:limit], len(rows) > limit
    return Page(
        items=[_artifact(row) for row in page],
        next_cursor=cursors.encode([page[-1].name], filters) if more else None,
    )


def get_artifact(session: Session, org: str, name: str) -> Artifact:
    """By its name. Raises NotFound."""
    row: ArtifactRow | None = session.execute(
        of_org(ArtifactRow, org).where(col(ArtifactRow.name) == name)
    ).scalar_one_or_none()
    if row is None:
        raise NotFound(f"artifact `{name}`")
    return _artifact(row)


def _artifact(row: ArtifactRow) -> Artifact:
    return Artifact(
        name=row.name,
        sha256=row.sha256,
        size=row.size,
        media_type=row.media_type,
        image_version=row.image_version,
        image_hash=row.image_hash,
        created_at=moment(row.created_at),
        created_by=row.created_by,
    )
