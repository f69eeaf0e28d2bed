"""Values that look like secrets are never shown, whoever wrote them into a job."""

import re
from typing import Final

from pydantic import JsonValue

MASK: Final = "***"
_NAMES: Final = re.compile(
    r"pass(word|wd|phrase)|secret|token|api[-_]?key|private[-_]?key|credential|authorization|cookie",
    re.IGNORECASE,
)


def masked(value: JsonValue, *, is_written: bool = True) -> JsonValue:
    """The same value with everything under a name that promises a secret replaced.

    In what somebody has written templates stay: they name a secret and do not hold it.
    """
    match value:
        case dict():
            return {
                key: MASK
                if _NAMES.search(key) and _is_told(inner, is_written)
                else masked(inner, is_written=is_written)
                for key, inner in value.items()
            }
        case list():
            return [masked(inner, is_written=is_written) for inner in value]
        case _:
            return value


def _is_told(value: JsonValue, is_written: bool) -> bool:
    """Whether it is a value itself, not nothing and not a template."""
    is_template = is_written and isinstance(value, str) and "{{" in value
    return value not in (None, "", [], {}) and not is_template
