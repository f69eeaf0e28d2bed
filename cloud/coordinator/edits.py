"""Edits of tags and attributes, the same for every kind of target."""

import json
from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from cloud.errors import Invalid
from cloud.storage.gateways import edited
from cloud.storage.json_text import to_json
from contract.http.targets import MAX_VALUES_BYTES


class Tagged(Protocol):
    tags: str
    attributes: str


def apply_edits(
    row: Tagged, tags: Mapping[str, JsonValue] | None, attributes: Mapping[str, JsonValue] | None
) -> None:
    """Set these values on a row; a null takes one away. Raises Invalid when they grow too large."""
    if tags is not None:
        row.tags = bounded(to_json(edited(json.loads(row.tags), tags)), "tags")
    if attributes is not None:
        merged = edited(json.loads(row.attributes), attributes)
        row.attributes = bounded(to_json(merged), "attributes")


def bounded(text: str, what: str) -> str:
    if len(text.encode()) > MAX_VALUES_BYTES:
        raise Invalid("too_large", f"{what}: more than {MAX_VALUES_BYTES} bytes")
    return text
