"""What a database gives, as JSON within bounds: rows as objects, each kind of value defined."""

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from pydantic import JsonValue

from gateway.domain.plain_json import plain_text, size_of

# A step's result is cut to text beyond 32 KiB (plain_json); rows end before that.
MAX_BYTES: Final = 30_000
MAX_INTEGER: Final = 2**63
MAX_DEPTH: Final = 16


@dataclass(frozen=True)
class Statement:
    """`$1` in the text is the first of the parameters, which are bound and never part of it."""

    text: str
    parameters: tuple[JsonValue, ...]
    max_rows: int
    timeout_s: float


def value_of(value: object, depth: int = 0) -> JsonValue:
    """A value of a database in JSON's kinds.

    Numbers stay numbers where that loses nothing, else they are text; times are ISO 8601, an
    interval is seconds, bytes are base64; what JSON has no kind for is its text.
    """
    match value:
        case None | bool():
            return value
        case int():
            return value if -MAX_INTEGER <= value < MAX_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return _number(value)
        case str():
            return plain_text(value, len(value))
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return b64encode(bytes(value)).decode()
        case dict() if depth < MAX_DEPTH:
            return {str(key): value_of(item, depth + 1) for key, item in value.items()}
        case list() | tuple() if depth < MAX_DEPTH:
            return [value_of(item, depth + 1) for item in value]
        case _:
            return plain_text(str(value))


def _number(value: Decimal) -> JsonValue:
    if not value.is_finite() or abs(value.adjusted()) > 18:
        return str(value)
    if value == value.to_integral_value():
        whole = int(value)
        return whole if -MAX_INTEGER <= whole < MAX_INTEGER else str(value)
    near = float(value)
    return near if Decimal(repr(near)) == value else str(value)


def names_of(columns: Iterable[str]) -> list[str]:
    """The columns' names, each once: a second `id` is `id_2`."""
    names: list[str] = []
    for column in columns:
        name, number = column, 1
        while name in names:
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    return names


class Rows:
    """Takes rows until there are enough, or the next one would make them too large."""

    def __init__(self, columns: Iterable[str], max_rows: int) -> None:
        self.columns = names_of(columns)
        self.rows: list[JsonValue] = []
        self.truncated = False
        self._max_rows = max_rows
        self._left = MAX_BYTES - size_of(list[JsonValue](self.columns))

    def take(self, row: Sequence[object]) -> bool:
        """Keep a row; False when it is not kept, nor any after it."""
        if self.truncated or len(self.rows) >= self._max_rows:
            self.truncated = True
            return False
        made = {name: value_of(value) for name, value in zip(self.columns, row, strict=True)}
        size = size_of(made) + 1
        if size > self._left:
            self.truncated = True
            return False
        self._left -= size
        self.rows.append(made)
        return True

    def result(self, row_count: int) -> dict[str, JsonValue]:
        """`row_count` is the rows that are here, or those that a writing statement has touched."""
        return {
            "columns": list(self.columns),
            "rows": self.rows,
            "row_count": row_count,
            "truncated": self.truncated,
        }
