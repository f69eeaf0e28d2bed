"""Takes secrets out of everything that leaves a step: results, texts, notes, log lines."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

from pydantic import JsonValue

T = TypeVar("T")
MASK: Final = "***"
# Shorter ones would blot out half of every log line; they are masked where they stand alone.
_SHORTEST_WITHIN: Final = 4


def mask(value: JsonValue, secrets: Mapping[str, str]) -> JsonValue:
    """The value with `***` in place of every secret, in texts and in keys of objects."""
    return _masked(value, _forms(secrets.values())) if secrets else value


def mask_text(text: str, secrets: Mapping[str, str]) -> str:
    return _text(text, _forms(secrets.values())) if secrets else text


def mask_fields(fact: T, secrets: Mapping[str, str]) -> T:
    """A frozen dataclass with every text and JSON value in it masked."""
    if not secrets:
        return fact
    forms = _forms(secrets.values())
    changed = {}
    for one in fields(fact):  # type: ignore[arg-type]
        value = getattr(fact, one.name)
        if isinstance(value, str | list | dict):
            found = _masked(value, forms)
            if found != value:
                changed[one.name] = found
    return replace(fact, **changed) if changed else fact  # type: ignore[type-var]


def _forms(values: Iterable[str]) -> list[str]:
    """Each secret as it may be written, the longest form first."""
    found: set[str] = set()
    for value in values:
        found |= {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
        found |= {quote(value, safe=""), quote_plus(value)}
    return sorted(found, key=lambda form: (-len(form), form))


def _masked(value: Any, forms: list[str]) -> Any:
    if isinstance(value, str):
        return _text(value, forms)
    if isinstance(value, list):
        return [_masked(item, forms) for item in value]
    if isinstance(value, dict):
        return {
            _text(key, forms) if isinstance(key, str) else key: _masked(item, forms)
            for key, item in value.items()
        }
    return value


def _text(text: str, forms: list[str]) -> str:
    for form in forms:
        if text == form:
            return MASK
        if len(form) >= _SHORTEST_WITHIN and form in text:
            text = text.replace(form, MASK)
    return text
