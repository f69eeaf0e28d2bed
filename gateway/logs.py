"""Structured logs: one line per fact, readable on a terminal, JSON otherwise.

On the standard library alone: structlog loads rich where it is installed (docs/decisions).
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]

_OURS = logging.getLogger("gateway")


class Log:
    """`log.info("task accepted", task=..., device=...)`: what happened, and to whom."""

    def debug(self, said: str, **fields: object) -> None:
        self._say(logging.DEBUG, said, fields)

    def info(self, said: str, **fields: object) -> None:
        self._say(logging.INFO, said, fields)

    def warning(self, said: str, **fields: object) -> None:
        self._say(logging.WARNING, said, fields)

    def error(self, said: str, **fields: object) -> None:
        self._say(logging.ERROR, said, fields)

    def exception(self, said: str, **fields: object) -> None:
        """An error, with the trace of the exception that is being handled."""
        self._say(logging.ERROR, said, fields, sys.exc_info())

    def _say(self, level: int, said: str, fields: dict[str, object], error: Any = None) -> None:
        if _OURS.isEnabledFor(level):
            # Made here: finding the caller's file and line costs more than all the rest.
            record = logging.LogRecord(_OURS.name, level, "", 0, said, None, error)
            record.fields = fields
            _OURS.handle(record)


def configure_logs(level: Level, format: LogFormat, out: TextIO | None = None) -> None:
    """Send our lines, and the warnings of libraries, to `out` (standard error if not given)."""
    out = out or sys.stderr
    is_text = format == "text" or (format == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Text() if is_text else _Json())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    _OURS.setLevel(level.upper())


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] | None = getattr(record, "fields", None)
    return {"logger": record.name} if found is None else found


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {**_fields(record), "event": record.getMessage(), "level": record.levelname.lower()}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line["timestamp"] = at.replace("+00:00", "Z")
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=repr)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        said, level = record.getMessage(), record.levelname.lower()
        line = f"{at[11:23]} {level:<7} {said:<32} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
