"""What is append-only by nature: log lines and device states, in two numbered, bounded streams.

Numbers grow and are never used twice; they have gaps, one at each start of the process.
"""

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Final, Literal

from pydantic import ValidationError

from contract.messages import DeviceState, LogLine
from gateway.domain.retention import Kind, Stream, to_drop
from gateway.journal import meta

DEFAULT_BOUND: Final = 50_000
DEFAULT_MAX_BYTES: Final = 256_000_000
MAX_LINE_BYTES: Final = 8_192
# To count at every line costs more than to add it: the bounds are exceeded by so many at most.
LOOKS_EVERY: Final = 100
_LINES: Final = "limit.lines"
_BYTES: Final = "limit.bytes"
PLACES: Final[tuple[tuple[Stream, Kind], ...]] = (
    ("live", "logs"),
    ("live", "states"),
    ("backlog", "logs"),
    ("backlog", "states"),
)
Line = LogLine | DeviceState
_ORDER: Final = "order.states"
_NUMBER: Final[Literal["number"]] = "number"
_HELD: Final = "held"


def limit(db: Connection, max_lines: int, max_bytes: int) -> None:
    """From now on: so many lines in all streams together, and so large a journal."""
    meta.put(db, _LINES, str(max_lines))
    meta.put(db, _BYTES, str(max_bytes))
    # Counted anew at each start: another release may have been here that keeps no count.
    for stream, kind in PLACES:
        (held,) = db.execute(
            "SELECT count(*) FROM outbox WHERE stream = ? AND kind = ?", (stream, kind)
        ).fetchone()
        meta.put(db, f"{_HELD}.{stream}.{kind}", str(held))


def add(db: Connection, stream: Stream, lines: Sequence[Line], bound: int | None = None) -> None:
    """Append lines, numbered on in their stream; the `number` they bring is not used.

    Beyond `bound` lines (those of `limit` if not given) the least important go, and are counted.
    """
    is_due = False
    for kind, model in (("logs", LogLine), ("states", DeviceState)):
        mine = [line for line in lines if isinstance(line, model)]
        if not mine:
            continue
        last = meta.draw(db, f"{_NUMBER}.{stream}.{kind}", len(mine))
        before = last - len(mine)
        # Beside the number in its stream a sample has its place among those of all streams.
        ordered = meta.draw(db, _ORDER, len(mine)) - len(mine) if kind == "states" else 0
        rows = [
            (stream, kind, before + place, _json(line, before + place, ordered + place))
            for place, line in enumerate(mine, start=1)
        ]
        db.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?)", rows)
        meta.add(db, f"{_HELD}.{stream}.{kind}", len(mine))
        every = LOOKS_EVERY if bound is None else 1
        is_due |= last % every < len(mine)
    if is_due:
        _keep_within(db, bound or (meta.number(db, _LINES) or DEFAULT_BOUND))


def count_dropped(db: Connection, kind: Kind, count: int) -> None:
    """So many more were dropped before they came here."""
    meta.add(db, f"dropped.{kind}", count)


def _json(line: Line, number: int, order: int) -> str:
    named: dict[str, object] = {"number": number}
    if isinstance(line, DeviceState):
        named["order"] = order
    text = line.model_copy(update=named).model_dump_json(exclude_defaults=True)
    if len(text) <= MAX_LINE_BYTES // 6 or len(text.encode()) <= MAX_LINE_BYTES:
        return text
    # What a line says matters more than what stands beside it.
    less = {"values" if isinstance(line, DeviceState) else "data": {"cut": True}}
    return line.model_copy(update=named | less).model_dump_json(exclude_defaults=True)


def _keep_within(db: Connection, bound: int) -> None:
    counts = {place: _held(db, *place) for place in PLACES}
    if _size(db) > (meta.number(db, _BYTES) or DEFAULT_MAX_BYTES):
        # Results stay: a tenth of the lines makes room, again and again if need be.
        bound = min(bound, sum(counts.values()) * 9 // 10)
    for (stream, kind), gone in to_drop(counts, bound).items():
        deleted = db.execute(
            "DELETE FROM outbox WHERE stream = ?1 AND kind = ?2 AND number IN"
            " (SELECT number FROM outbox WHERE stream = ?1 AND kind = ?2 ORDER BY number LIMIT ?3)",
            (stream, kind, gone),
        ).rowcount
        meta.add(db, f"{_HELD}.{stream}.{kind}", -deleted)
        meta.add(db, f"dropped.{kind}", deleted)


def _size(db: Connection) -> int:
    """Bytes of the journal that are in use, without reading them."""
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _held(db: Connection, stream: str, kind: str) -> int:
    # Kept beside the lines: to count them is to read them all, and numbers have gaps.
    return meta.number(db, f"{_HELD}.{stream}.{kind}")


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


def drop_unreadable(db: Connection, limit: int) -> int:
    """Drop those of each stream's first lines that a damaged disk has changed; says how many."""
    gone = 0
    for stream, kind in PLACES:
        model = LogLine if kind == "logs" else DeviceState
        for number, line in first(db, stream, kind, limit, 2**40):
            try:
                model.model_validate_json(line)
            except ValidationError:
                db.execute(
                    "DELETE FROM outbox WHERE stream = ? AND kind = ? AND number = ?",
                    (stream, kind, number),
                )
                meta.add(db, f"{_HELD}.{stream}.{kind}", -1)
                meta.add(db, f"dropped.{kind}", 1)
                gone += 1
    return gone


def stored(db: Connection, stream: Stream, kind: Kind, number: int) -> None:
    """The cloud has everything of a stream up to and with this number."""
    deleted = db.execute(
        "DELETE FROM outbox WHERE stream = ? AND kind = ? AND number <= ?", (stream, kind, number)
    ).rowcount
    if deleted:
        meta.add(db, f"{_HELD}.{stream}.{kind}", -deleted)


def dropped(db: Connection) -> dict[str, int]:
    """How many lines of each kind were dropped since the journal was made."""
    found = db.execute("SELECT key FROM meta WHERE key LIKE 'dropped.%'").fetchall()
    return {key.removeprefix("dropped."): meta.number(db, key) for (key,) in found}


def count(db: Connection) -> int:
    (total,) = db.execute("SELECT count(*) FROM outbox").fetchone()
    return int(total)
