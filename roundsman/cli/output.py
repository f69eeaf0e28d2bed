"""Data on stdout in the format asked for; talk on stderr.

A table on a terminal; tab-separated values, full ids and no colour in a pipe; JSON for programs,
with the fields of the API.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, JsonValue

from roundsman.cli.options import Format

M = TypeVar("M", bound=BaseModel)

STYLES: Final = {
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "partially_succeeded": "yellow",
    "rescheduled": "yellow",
    "running": "cyan",
    "offered": "cyan",
    "accepted": "cyan",
    "awaiting": "cyan",
    "cancelled": "magenta",
    "replaced": "magenta",
}


@dataclass(frozen=True)
class Column(Generic[M]):
    """A column of a list: its title and what stands in it."""

    title: str
    value: Callable[[M], Any]


class Output:
    def __init__(self, format: Format | None) -> None:
        self.format = format or Format.TABLE
        self.is_terminal = sys.stdout.isatty()

    def items(self, items: Iterable[M], columns: Sequence[Column[M]]) -> None:
        """A list. NDJSON and tab-separated lines are written as they arrive."""
        match self.format:
            case Format.NDJSON:
                for item in items:
                    write(item.model_dump_json())
            case Format.JSON:
                write("[" + ",\n ".join(item.model_dump_json() for item in items) + "]")
            case Format.TABLE if self.is_terminal:
                rows = [[column.value(item) for column in columns] for item in items]
                self._table([column.title for column in columns], rows)
            case Format.TABLE:
                for item in items:
                    write("\t".join(cell(column.value(item)) for column in columns))

    def item(self, item: BaseModel, rows: Sequence[tuple[str, Any]]) -> None:
        """One thing; `rows` are the names and values people see."""
        if self.format is Format.TABLE:
            width = max(len(name) for name, _ in rows) + 2 if self.is_terminal else 0
            for name, value in rows:
                if self.is_terminal:
                    write(f"{name.ljust(width)}{cell(value, local=True)}")
                else:
                    write(f"{name}\t{cell(value)}")
        else:
            write(item.model_dump_json(indent=2 if self.format is Format.JSON else None))

    def rows(self, titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Further rows below an item; people only."""
        if self.format is not Format.TABLE:
            return
        if self.is_terminal:
            write("")
            self._table(titles, rows)
        else:
            for row in rows:
                write("\t".join(cell(value) for value in row))

    def say(self, text: str) -> None:
        """Talk, for people only."""
        if self.format is Format.TABLE:
            say(text)

    def _table(self, titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        if not rows:
            say("None.")
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in titles:
            table.add_column(title, no_wrap=title == "ID", overflow="fold")
        for row in rows:
            texts = [cell(value, local=True) for value in row]
            table.add_row(*(Text(text, style=STYLES.get(text, "")) for text in texts))
        Console(highlight=False).print(table)


def cell(value: Any, *, local: bool = False) -> str:
    """A value as one line without control characters: what devices say is not to be trusted."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return (
            f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
            if local
            else value.isoformat(timespec="seconds")
        )
    if isinstance(value, float):
        return f"{value:.0f} %"
    if isinstance(value, dict):
        return " ".join(f"{key}={_plain(inner)}" for key, inner in value.items())
    return "".join(c if c.isprintable() else " " for c in str(value))


def _plain(value: JsonValue) -> str:
    import json

    return cell(value) if isinstance(value, str) else json.dumps(value)


def write(text: str, *, at_once: bool = False) -> None:
    """A line of data; `at_once` where somebody behind a pipe waits for it."""
    sys.stdout.write(text + "\n")
    if at_once:
        sys.stdout.flush()


def say(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(text + "\n")


def may_draw() -> bool:
    """Whether a display that redraws itself makes sense here."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"
