"""Cuts blocks of a CSV file into whole records, however the file was cut into blocks."""

import csv
from dataclasses import dataclass
from typing import Final

MAX_RECORD_BYTES: Final = 256 * 1024
BOM: Final = b"\xef\xbb\xbf"


class CsvInvalid(ValueError):
    """The file cannot be read further; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        super().__init__(f"line {line}: {reason}")


@dataclass(frozen=True)
class Record:
    """The cells of a record, and the line it begins at; `reason` if it cannot be read."""

    line: int
    cells: list[str]
    reason: str = ""


def records_of(block: bytes, line: int, *, is_last: bool) -> tuple[list[Record], int, int]:
    """The whole records at the beginning of a block that begins at `line` (from 1).

    Returns them, the bytes they take and the line after them. Quoted cells may hold line ends.
    Raises CsvInvalid when the block holds no end of its first record.
    """
    found: list[Record] = []
    used, at = 0, line
    start, lines, quotes = 0, 0, 0
    for piece in block.splitlines(keepends=True):
        end = start + len(piece)
        complete_line = piece.endswith((b"\n", b"\r")) or is_last
        # A lone CR at the block's end may be half of a CR LF.
        if piece.endswith(b"\r") and end == len(block) and not is_last:
            complete_line = False
        lines += 1
        quotes += piece.count(b'"')
        start = end
        if not complete_line:
            break
        if quotes % 2 and not (is_last and end == len(block)):
            continue
        raw = block[used:end]
        if raw.strip():
            found.append(_record(raw, at))
        used, at = end, at + lines
        lines = quotes = 0
    if not used and len(block) >= MAX_RECORD_BYTES:
        raise CsvInvalid(
            line, f"a record of more than {MAX_RECORD_BYTES} bytes; a quote left open?"
        )
    return found, used, at


def _record(raw: bytes, line: int) -> Record:
    try:
        text = raw.removeprefix(BOM if line == 1 else b"").decode()
    except UnicodeDecodeError:
        return Record(line, [], "not UTF-8")
    if "\0" in text:
        return Record(line, [], "holds a NUL")
    try:
        (cells,) = csv.reader([text.rstrip("\r\n")], strict=True)
    except (csv.Error, ValueError) as error:
        return Record(line, [], f"not CSV: {error}")
    return Record(line, cells)
