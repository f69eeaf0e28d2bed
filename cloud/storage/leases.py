"""Which process does a piece of work, until when, by the database's clock."""

from cloud.storage.database import Session
from cloud.storage.dialect import change, fetch_one, is_sqlite


def _now(session: Session) -> str:
    if is_sqlite(session):
        return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"


def acquire(session: Session, name: str, holder: str, lasts: int) -> int | None:
    """Take a lease that is free, or renew one's own, for `lasts` ms.

    Returns its term, or None when somebody else holds it. The term grows with each new holder, and
    also when the same one comes back after its lease had run out.
    """
    now = _now(session)
    row = fetch_one(
        session,
        f"""
        INSERT INTO leases (name, holder, term, until) VALUES (:name, :holder, 1, {now} + :lasts)
        ON CONFLICT (name) DO UPDATE SET
            term = CASE WHEN leases.holder = excluded.holder AND leases.until > {now}
                THEN leases.term ELSE leases.term + 1 END,
            holder = excluded.holder, until = excluded.until
        WHERE leases.holder = excluded.holder OR leases.until <= {now}
        RETURNING term""",
        name=name,
        holder=holder,
        lasts=lasts,
    )
    return None if row is None else int(row.term)


def is_held(session: Session, name: str, holder: str, term: int) -> bool:
    """Whether a term still runs; nobody else can take the lease before this transaction ends."""
    lock = "" if is_sqlite(session) else " FOR SHARE"
    row = fetch_one(
        session,
        "SELECT term FROM leases WHERE name = :name AND holder = :holder AND term = :term "
        f"AND until > {_now(session)}{lock}",
        name=name,
        holder=holder,
        term=term,
    )
    return row is not None


def release(session: Session, name: str, holder: str, term: int) -> None:
    """Give a lease back, so that the next holder need not wait for its end."""
    change(
        session,
        "UPDATE leases SET until = 0 WHERE name = :name AND holder = :holder AND term = :term",
        name=name,
        holder=holder,
        term=term,
    )
