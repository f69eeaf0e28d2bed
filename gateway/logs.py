"""Structured logs: one line per fact, readable on a terminal, JSON otherwise."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

LogFormat = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]


def configure_logs(level: Level, format: LogFormat, out: TextIO | None = None) -> None:
    """Send our lines, and the warnings of libraries, to `out` (standard error if not given)."""
    out = out or sys.stderr
    is_text = format == "text" or (format == "auto" and out.isatty())
    # structlog's own console renderer loads rich, which costs this process 6 MB.
    last = _as_text if is_text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(logging.WARNING)


class _ToStructlog(logging.Handler):
    """What libraries say through the standard library becomes a line of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        log.log(record.levelno, record.getMessage(), **fields)


def _as_text(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    time, level = str(event.pop("timestamp"))[11:23], event.pop("level")
    said, trace = event.pop("event"), event.pop("exception", None)
    fields = " ".join(f"{name}={value}" for name, value in event.items())
    line = f"{time} {level:<7} {said:<32} {fields}".rstrip()
    return f"{line}\n{trace}" if trace else line
