"""Makes any value a bounded JSON value: what a device says may be anything, and of any size."""

import json
import math
from typing import Final

from pydantic import JsonValue

MAX_DEPTH: Final = 32
MAX_TEXT: Final = 4000
MAX_RESULT_BYTES: Final = 32 * 1024


def plain_text(text: str, limit: int = MAX_TEXT) -> str:
    """At most `limit` characters, none of which is half of one."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8")


def plain(value: object, depth: int = 0) -> JsonValue:
    """The value in JSON's kinds: what has no kind there becomes text, what is no number null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)[:64] if abs(value) < 2**512 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return plain_text(value, len(value))
    if depth >= MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {plain_text(str(key), 256): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return plain_text(str(value))


def size_of(value: JsonValue) -> int:
    """Bytes as JSON in UTF-8."""
    if value is None or isinstance(value, bool | int | float):
        return 8
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def cut(value: JsonValue, limit: int) -> tuple[JsonValue, bool]:
    """The value if it fits `limit` bytes; else the beginning of its JSON as text, and True."""
    if value is None or isinstance(value, bool | int | float) or size_of(value) <= limit:
        return value, False
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Quotes, backslashes and control characters grow in JSON; a sixth is sure to fit.
    kept = text.encode()[:limit].decode("utf-8", "ignore")
    while size_of(kept) > limit:
        kept = kept[: len(kept) * 3 // 4]
    return kept, True
