"""The journal's own facts: its random id, how often the process has started, its counters."""

from dataclasses import dataclass
from sqlite3 import Connection
from typing import Final

from gateway.errors import JournalDamaged

# So many numbers are reserved at once; each reservation costs a sync, and each start a block.
BLOCK: Final = 10_000
_RESERVED: Final = "reserved."


@dataclass(frozen=True)
class Identity:
    """`journal` is made once, with the file; `boot` counts the starts of the process."""

    journal: str
    boot: int


def begin(db: Connection, new_journal: str) -> Identity:
    """Called once a start: keeps the journal's id, or gives it this one, and counts the boot."""
    journal = get(db, "journal") or new_journal
    boot = number(db, "boot") + 1
    put(db, "journal", journal)
    put(db, "boot", str(boot))
    _pass_over_reserved(db)
    return Identity(journal, boot)


@dataclass(frozen=True)
class Marks:
    """The word that goes with the next hello, and the one before it that was welcomed."""

    mark: str
    last: str


def next_mark(db: Connection, word: str) -> Marks:
    """The marks of the next hello, kept before it is said.

    The one that was not welcomed yet is said again: the cloud may know it or not.
    """
    mark, last = get(db, "mark") or "", get(db, "welcomed_mark") or ""
    if mark == last:
        mark = word
        put(db, "mark", mark)
    return Marks(mark, last)


def mark_welcomed(db: Connection, time: int = 0) -> None:
    """The hello that carried the mark has been answered, at that time by the cloud's clock.

    A power cut may forget this.
    """
    put(db, "welcomed_mark", get(db, "mark") or "")
    if time:
        put(db, "time", str(time))


def get(db: Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def number(db: Connection, key: str) -> int:
    """A counter; 0 where there is none yet. Raises JournalDamaged when it is no number."""
    text = get(db, key) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise JournalDamaged(f"The journal is damaged: its {key} is {text[:40]!r}.")
    return int(text)


def put(db: Connection, key: str, value: str) -> None:
    db.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def add(db: Connection, key: str, count: int) -> int:
    """Raise a counter that starts at 0; returns its new value."""
    total = number(db, key) + count
    put(db, key, str(total))
    return total


def draw(db: Connection, key: str, count: int) -> int:
    """Raise a counter whose numbers are told to others; returns its new value.

    No number is drawn twice, also after a power cut that forgets who drew it: numbers lie below a
    mark that is synced before anybody can tell of them, and the next start goes on above it.
    """
    total = add(db, key, count)
    if total > number(db, _RESERVED + key):
        put(db, _RESERVED + key, str(total + BLOCK))
        db.execute("SELECT sync_before_answering()").fetchone()
    return total


def _pass_over_reserved(db: Connection) -> None:
    found = db.execute("SELECT key, value FROM meta WHERE key LIKE 'reserved.%'").fetchall()
    for name, _ in found:
        key = str(name).removeprefix(_RESERVED)
        put(db, key, str(max(number(db, name), number(db, key))))
