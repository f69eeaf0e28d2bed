"""What is append-only by nature: log lines and device states, in two numbered, bounded streams."""

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Final, Literal

from contract.messages import DeviceState, LogLine
from gateway.domain.retention import Kind, Stream, to_drop
from gateway.journal import meta

DEFAULT_BOUND: Final = 50_000
# To count at every line costs more than to add it: the bound is exceeded by a 500th at most.
LOOKS_WITHIN_BOUND: Final = 500
PLACES: Final[tuple[tuple[Stream, Kind], ...]] = (
    ("live", "logs"),
    ("live", "states"),
    ("backlog", "logs"),
    ("backlog", "states"),
)
Line = LogLine | DeviceState
_NUMBER: Final[Literal["number"]] = "number"


def add(db: Connection, stream: Stream, lines: Sequence[Line], bound: int = DEFAULT_BOUND) -> None:
    """Append lines, numbered on in their stream; the `number` they bring is not used."""
    is_due = False
    for kind, model in (("logs", LogLine), ("states", DeviceState)):
        mine = [line for line in lines if isinstance(line, model)]
        if not mine:
            continue
        last = meta.add(db, f"{_NUMBER}.{stream}.{kind}", len(mine))
        rows = [
            (stream, kind, last - len(mine) + place, _json(line, last - len(mine) + place))
            for place, line in enumerate(mine, start=1)
        ]
        db.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?)", rows)
        is_due |= last % max(bound // LOOKS_WITHIN_BOUND, 1) < len(mine)
    if is_due:
        _keep_within(db, bound)


def _json(line: Line, number: int) -> str:
    return line.model_copy(update={"number": number}).model_dump_json(exclude_defaults=True)


def _keep_within(db: Connection, bound: int) -> None:
    counts = {place: _span(db, *place) for place in PLACES}
    for (stream, kind), gone in to_drop(counts, bound).items():
        db.execute(
            "DELETE FROM outbox WHERE stream = ?1 AND kind = ?2 AND number < ?3 +"
            " (SELECT min(number) FROM outbox WHERE stream = ?1 AND kind = ?2)",
            (stream, kind, gone),
        )
        meta.add(db, f"dropped.{kind}", gone)


def _span(db: Connection, stream: str, kind: str) -> int:
    # Numbers have no gaps, so the ends tell the count without reading what lies between.
    low, high = db.execute(
        "SELECT (SELECT min(number) FROM outbox WHERE stream = ?1 AND kind = ?2),"
        " (SELECT max(number) FROM outbox WHERE stream = ?1 AND kind = ?2)",
        (stream, kind),
    ).fetchone()
    return 0 if low is None else int(high) - int(low) + 1


def first(
    db: Connection, stream: Stream, kind: Kind, limit: int, max_bytes: int
) -> list[tuple[int, str]]:
    """The oldest lines of a stream as (number, JSON), within both bounds."""
    lines: list[tuple[int, str]] = []
    size = 0
    cursor = db.execute(
        "SELECT number, line FROM outbox WHERE stream = ? AND kind = ? ORDER BY number LIMIT ?",
        (stream, kind, limit),
    )
    for number, line in cursor:
        size += len(line.encode()) + 1
        if lines and size > max_bytes:
            break
        lines.append((number, line))
    return lines


def stored(db: Connection, stream: Stream, kind: Kind, number: int) -> None:
    """The cloud has everything of a stream up to and with this number."""
    db.execute(
        "DELETE FROM outbox WHERE stream = ? AND kind = ? AND number <= ?", (stream, kind, number)
    )


def dropped(db: Connection) -> dict[str, int]:
    """How many lines of each kind were dropped since the journal was made."""
    found = db.execute("SELECT key, value FROM meta WHERE key LIKE 'dropped.%'")
    return {key.removeprefix("dropped."): int(value) for key, value in found}


def count(db: Connection) -> int:
    (total,) = db.execute("SELECT count(*) FROM outbox").fetchone()
    return int(total)
