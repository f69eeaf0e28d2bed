"""What has had its time goes: ended tasks become tombstones, tombstones go, bodies follow."""

from dataclasses import dataclass
from sqlite3 import Connection
from typing import Final

from gateway.domain.retention import Keeping

AT_ONCE: Final = 500
# A stamp that lies further ahead was made by a clock that was wrong.
AHEAD_MS: Final = 86_400_000


@dataclass(frozen=True)
class Pruned:
    buried: int
    gone: int


def prune(db: Connection, keeping: Keeping, now: int) -> Pruned:
    """One step of tidying, at most AT_ONCE rows of each kind; call again while it finds any.

    Only what the cloud has receipted goes: a result that was never stored stays for ever.
    """
    # Its time begins anew, or it would stay for ever.
    db.execute("UPDATE tasks SET receipt_at = ?1 WHERE receipt_at > ?1 + ?2", (now, AHEAD_MS))
    db.execute("UPDATE tombstones SET buried_at = ?1 WHERE buried_at > ?1 + ?2", (now, AHEAD_MS))
    due = db.execute(
        "SELECT task, attempt, revision, status, begun, coalesce(ended_at, receipt_at) FROM tasks"
        " WHERE receipt_at <= ? AND ended_at IS NOT NULL ORDER BY receipt_at LIMIT ?",
        (now - keeping.ended_ms, AT_ONCE),
    ).fetchall()
    db.executemany(
        "INSERT INTO tombstones VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (task) DO UPDATE SET"
        " attempt = excluded.attempt, revision = excluded.revision, status = excluded.status,"
        " begun = excluded.begun, ended_at = excluded.ended_at, buried_at = excluded.buried_at"
        " WHERE excluded.attempt > tombstones.attempt",
        [(*row, now) for row in due],
    )
    db.executemany("DELETE FROM tasks WHERE task = ? AND attempt = ?", [row[:2] for row in due])
    gone = db.execute(
        "DELETE FROM tombstones WHERE task IN (SELECT task FROM tombstones WHERE buried_at <= ?"
        " ORDER BY buried_at LIMIT ?)",
        (now - keeping.tombstones_ms, AT_ONCE),
    ).rowcount
    if due:
        db.execute(
            "DELETE FROM bodies WHERE NOT EXISTS"
            " (SELECT 1 FROM tasks WHERE tasks.run = bodies.run AND tasks.body = bodies.hash)"
        )
    return Pruned(len(due), gone)
