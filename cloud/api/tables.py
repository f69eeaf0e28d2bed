"""Rows as CSV (RFC 4180) that no spreadsheet runs, and as NDJSON: in chunks, constant memory."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

Cell = str | int | float | bool | datetime | None

# A cell that begins with one of these is a formula to a spreadsheet; a quote before it makes text.
# Source: OWASP, "CSV Injection". Tabs and line ends hide one.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_cell(value: object) -> str:
    """A value as a cell of CSV: times as RFC 3339, objects as JSON, formulas defused."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case datetime():
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case str():
            text = value.replace("\0", "")
        case _:
            text = json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text


def csv_chunk(rows: Iterable[Sequence[object]]) -> bytes:
    """Some rows as they stand in the file."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(
        [csv_cell(value) for value in row] for row in rows
    )
    return out.getvalue().encode()


async def csv_stream(
    header: Sequence[str], pages: AsyncIterator[Sequence[Sequence[object]]]
) -> AsyncIterator[bytes]:
    """A whole file from pages of rows; the next page is asked for when the last one is sent."""
    yield csv_chunk([header])
    async for page in pages:
        yield csv_chunk(page)


async def ndjson_stream(
    header: Sequence[str], pages: AsyncIterator[Sequence[Sequence[object]]]
) -> AsyncIterator[bytes]:
    """The same rows, an object a line."""
    async for page in pages:
        lines = [
            json.dumps(dict(zip(header, map(_json_value, row), strict=True)), ensure_ascii=False)
            for row in page
        ]
        yield "".join(f"{line}\n" for line in lines).encode()


def _json_value(value: Any) -> Any:
    return csv_cell(value) if isinstance(value, datetime) else value
