"""Keyset cursors: opaque, the last key of a page, and bound to the list and its filters."""

import base64
import binascii
import json
from hashlib import sha256
from typing import Any

from cloud.errors import Invalid


def fingerprint(*filters: Any) -> str:
    """The list and its filters, in short."""
    return sha256(json.dumps(filters, default=str).encode()).hexdigest()[:12]


def encode(key: list[Any], filters: str) -> str:
    text = json.dumps([filters, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str | None, filters: str, *kinds: type) -> list[Any] | None:
    """The key after which a page begins; None for the first page. Raises Invalid."""
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found = json.loads(base64.urlsafe_b64decode(padded.encode()))
    except (binascii.Error, ValueError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != len(kinds) + 1
        or not all(isinstance(v, k) for v, k in zip(found[1:], kinds, strict=True))
    ):
        raise Invalid("invalid", "the cursor is none of ours")
    if found[0] != filters:
        raise Invalid("invalid", "the cursor belongs to another list, or to other filters")
    return found[1:]
