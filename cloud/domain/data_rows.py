"""Values of data tables: what a typed column takes, and how a CSV cell becomes a value and back.

A cell is data, whatever it holds: `{"$ne": ""}` in a text column is that text, and in a json
column an object that no query takes for an operator.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from contract.http.targets import MAX_VALUES_BYTES, RESERVED_COLUMNS, Column

_TRUE: Final = frozenset({"true", "yes", "1"})
_FALSE: Final = frozenset({"false", "no", "0"})
MAX_COLUMNS: Final = 200


class RowInvalid(ValueError):
    """A row does not fit its table; `column` says where."""

    def __init__(self, column: str, reason: str) -> None:
        self.column = column
        super().__init__(f"{column}: {reason}" if column else reason)


def checked(values: Mapping[str, JsonValue], columns: Sequence[Column]) -> dict[str, JsonValue]:
    """The values a row keeps: those that are not null. Raises RowInvalid."""
    types = {column.name: column.type for column in columns}
    found: dict[str, JsonValue] = {}
    for name, value in values.items():
        if types:
            if name not in types:
                raise RowInvalid(name, f"the table has no such column, only {', '.join(types)}")
            _check_type(name, value, types[name])
        else:
            check_name(name)
        if value is not None:
            found[name] = value
    if len(found) > MAX_COLUMNS:
        raise RowInvalid("", f"a row has at most {MAX_COLUMNS} values")
    if len(json.dumps(found, ensure_ascii=False).encode()) > MAX_VALUES_BYTES:
        raise RowInvalid("", f"a row has at most {MAX_VALUES_BYTES} bytes")
    return found


def check_name(name: str) -> None:
    """Raise RowInvalid for what cannot be the name of a column."""
    if name in RESERVED_COLUMNS:
        raise RowInvalid(name, "this name has a meaning of its own")
    bad = not name or len(name) > 100 or not name.isprintable() or name.startswith("$")
    if bad or any(sign in name for sign in '."\\'):
        raise RowInvalid(name[:100], 'a name is up to 100 letters without dot, `"` and backslash')


def _check_type(name: str, value: JsonValue, kind: str) -> None:
    if value is None or kind == "json":
        return
    if kind == "text" and not isinstance(value, str):
        raise RowInvalid(name, "a text is expected")
    if kind == "boolean" and not isinstance(value, bool):
        raise RowInvalid(name, "true or false is expected")
    if kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise RowInvalid(name, "a number is expected")


def from_cell(name: str, cell: str, kind: str) -> JsonValue:
    """The value of a CSV cell in a column of this type; an empty one is none. Raises RowInvalid."""
    if cell == "":
        return None
    match kind:
        case "number":
            return _number(name, cell)
        case "boolean":
            word = cell.strip().lower()
            if word not in _TRUE | _FALSE:
                raise RowInvalid(name, f"`{cell[:40]}` is neither true nor false")
            return word in _TRUE
        case "json":
            try:
                value: JsonValue = json.loads(cell, parse_constant=_no_constant)
            except (ValueError, RecursionError):
                raise RowInvalid(name, f"`{cell[:40]}` is not JSON") from None
            return value
        case _:
            return cell


def _number(name: str, cell: str) -> int | float:
    text = cell.strip()
    try:
        number: int | float = int(text) if text.lstrip("+-").isdecimal() else float(text)
        is_good = -(2**63) <= number < 2**63 and math.isfinite(number)
    except (ValueError, OverflowError):
        is_good = False
    if not is_good or "_" in text or len(text) > 40:
        raise RowInvalid(name, f"`{cell[:40]}` is no number")
    return number


def _no_constant(word: str) -> JsonValue:
    raise ValueError(word)


def to_cell(value: JsonValue) -> str:
    """A value as a CSV cell; what is not text is written as JSON, nothing as an empty cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
