"""Acknowledgments that came to the cloud, and ends of awaiting attempts to tell gateways."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row

from cloud.storage.database import Session
from cloud.storage.dialect import change, change_many, fetch, fetch_one

Key = tuple[str, int]
_NAMES: Final = "run, ordinal, attempt, org, success, result, accumulator, text, by, at"


def keep(session: Session, values: Mapping[str, Any]) -> bool:
    """Keep the first acknowledgment of an attempt; False when there is one."""
    given = ", ".join(f":{name}" for name in _NAMES.split(", "))
    return bool(
        change(
            session,
            f"INSERT INTO acknowledgments ({_NAMES}) VALUES ({given}) "
            "ON CONFLICT (run, ordinal, attempt) DO NOTHING",
            **values,
        )
    )


def of_attempt(session: Session, run: str, ordinal: int, attempt: int) -> Row[Any] | None:
    return fetch_one(
        session,
        f"SELECT {_NAMES} FROM acknowledgments WHERE run = :run AND ordinal = :ordinal "
        "AND attempt = :attempt",
        run=run,
        ordinal=ordinal,
        attempt=attempt,
    )


def snapshot_of(session: Session, run: str, ordinal: int, attempt: int) -> str | None:
    """An attempt's newest snapshot, as JSON."""
    row = fetch_one(
        session,
        "SELECT snapshot FROM attempts WHERE run = :run AND ordinal = :ordinal "
        "AND attempt = :attempt",
        run=run,
        ordinal=ordinal,
        attempt=attempt,
    )
    return None if row is None else row.snapshot


def overdue(session: Session, now: int, limit: int) -> list[Key]:
    """Awaiting tasks whose time is over, by index."""
    rows = fetch(
        session,
        "SELECT run, ordinal FROM tasks WHERE status = 'awaiting' AND deadline < :now "
        "ORDER BY deadline LIMIT :limit",
        now=now,
        limit=limit,
    )
    return [(row.run, row.ordinal) for row in rows]


def note_untold(session: Session, ends: Sequence[Mapping[str, Any]]) -> None:
    """These awaiting attempts ended here: `run, ordinal, attempt, org, gateway, journal`."""
    change_many(
        session,
        "INSERT INTO untold_ends (run, ordinal, attempt, org, gateway, journal) VALUES "
        "(:run, :ordinal, :attempt, :org, :gateway, :journal) "
        "ON CONFLICT (run, ordinal, attempt) DO NOTHING",
        ends,
    )


def untold(
    session: Session, now: int, resend_after: int, silence: int, limit: int
) -> Sequence[Row[Any]]:
    """Ends to tell gateways online now, or again."""
    return fetch(
        session,
        "SELECT u.run, u.ordinal, u.attempt, u.org, u.gateway, g.session FROM untold_ends u "
        "JOIN gateways g ON g.org = u.org AND g.id = u.gateway AND g.journal = u.journal "
        "WHERE g.session IS NOT NULL AND g.last_heard_at >= :heard "
        "AND (u.sent_at IS NULL OR u.sent_at <= :before) ORDER BY u.run, u.ordinal LIMIT :limit",
        heard=now - silence,
        before=now - resend_after,
        limit=limit,
    )


def mark_told(session: Session, keys: Iterable[tuple[str, int, int]], now: int) -> None:
    change_many(
        session,
        "UPDATE untold_ends SET sent_at = :now WHERE run = :run AND ordinal = :ordinal "
        "AND attempt = :attempt",
        [{"run": r, "ordinal": o, "attempt": a, "now": now} for r, o, a in sorted(keys)],
    )


def forget_told(session: Session, keys: Collection[tuple[str, int, int]]) -> None:
    """Their gateways know."""
    change_many(
        session,
        "DELETE FROM untold_ends WHERE run = :run AND ordinal = :ordinal AND attempt = :attempt",
        [{"run": r, "ordinal": o, "attempt": a} for r, o, a in sorted(keys)],
    )


def save_snapshot(session: Session, run: str, ordinal: int, attempt: int, snapshot: str) -> None:
    change(
        session,
        "UPDATE attempts SET snapshot = :snapshot WHERE run = :run AND ordinal = :ordinal "
        "AND attempt = :attempt",
        run=run,
        ordinal=ordinal,
        attempt=attempt,
        snapshot=snapshot,
    )
