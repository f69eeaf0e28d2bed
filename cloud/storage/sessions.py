"""Which session each gateway is in."""

from collections.abc import Iterable

from cloud.storage.database import Session
from cloud.storage.dialect import any_of, fetch, listed


def current(session: Session, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The session of each of these `(org, gateway)` that is in one."""
    wanted = set(names)
    rows = fetch(
        session,
        f"SELECT org, id, session FROM gateways WHERE session IS NOT NULL "
        f"AND {any_of(session, 'id', 'ids')}",
        ids=listed(session, sorted({gateway for _, gateway in wanted})),
    )
    return {(row.org, row.id): row.session for row in rows if (row.org, row.id) in wanted}


def everybody(session: Session) -> list[tuple[str, str]]:
    """`(org, gateway)` of all that are in a session, by their names."""
    rows = fetch(session, "SELECT org, id FROM gateways WHERE session IS NOT NULL ORDER BY org, id")
    return [(row.org, row.id) for row in rows]
