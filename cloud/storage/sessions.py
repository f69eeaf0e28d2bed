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
