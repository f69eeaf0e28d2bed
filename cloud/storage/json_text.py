"""Values as text that both databases can hold: PostgreSQL refuses NUL, jsonb also NaN."""

import json
import math
from typing import Any


def clean(text: str) -> str:
    return text.replace("\0", "�") if "\0" in text else text


def clean_or_none(text: str | None) -> str | None:
    return None if text is None else clean(text)


def to_json(value: Any) -> str:
    """JSON as people's letters, never escaped: SQLite compares the keys of a path as written."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_cleaned(value), ensure_ascii=False, allow_nan=False)
    if "\\u0000" in text:
        return json.dumps(_cleaned(value), ensure_ascii=False, allow_nan=False)
    return text


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(item) for key, item in value.items()}
    return value
