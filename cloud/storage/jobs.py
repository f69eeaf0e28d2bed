"""Jobs as rows, and whether a run of one is in flight."""

from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel, col, select

from cloud.storage.database import Session
from cloud.storage.dialect import for_update
from cloud.storage.schema import ArtifactRow, JobRow, RunRow


def get_job(session: Session, org: str, job: str, *, lock: bool = False) -> JobRow | None:
    query = select(JobRow).where(JobRow.org == org, JobRow.id == job)
    if lock and for_update(session):
        query = query.with_for_update()
    return session.exec(query).first()


def run_in_flight(session: Session, org: str, job: str) -> str | None:
    """The id of the job's run in flight, started and not ended; `runs_live` allows one."""
    query = select(RunRow.id).where(
        RunRow.org == org,
        RunRow.job == job,
        col(RunRow.ended_at).is_(None),
        col(RunRow.started_at).is_not(None),
    )
    return session.exec(query).first()


def insert(session: Session, row: SQLModel) -> bool:
    """Insert it, or say that a unique key forbids it; the transaction goes on either way."""
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True


def find_artifact(session: Session, org: str, name: str) -> ArtifactRow | None:
    """By its name, else by its sha256."""
    by_name = session.get(ArtifactRow, (org, name))
    if by_name is not None:
        return by_name
    query = select(ArtifactRow).where(ArtifactRow.org == org, ArtifactRow.sha256 == name)
    return session.exec(query).first()
