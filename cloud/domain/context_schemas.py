"""JSON Schemas that strangers write, and what they may cost: nothing here takes long.

Patterns are matched by RE2, in time that grows with the text alone; Python's own `re` needed
minutes for `(a+)+$` and thirty letters. References are counted: forty that each refer twice to the
next one are a trillion.
"""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

MAX_PATTERN: Final = 1_000
MAX_PATTERNS: Final = 200
MAX_REFERENCES: Final = 20_000
# Only what the schema itself defines: no reference is ever fetched.
NOTHING_ELSE: Final[Registry[Any]] = Registry()
# Their content is data, whatever it looks like.
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_followed: ContextVar[list[int]] = ContextVar("followed")


class TooCostly(ValueError):
    """Following the schema would take too long."""


def validator_of(schema: Mapping[str, Any]) -> Any:
    """A validator for one use. While it is used it may raise TooCostly and RecursionError."""
    _followed.set([0])
    return _Bounded(dict(schema), registry=NOTHING_ELSE)


def pattern_problems(schema: object) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Patterns that cannot be used, each with its place in the schema."""
    found = list(_patterns(schema, ()))
    for place, _ in found[MAX_PATTERNS:][:1]:
        yield place, f"a schema has at most {MAX_PATTERNS} patterns"
    for place, pattern in found[:MAX_PATTERNS]:
        problem = _problem(pattern)
        if problem:
            yield place, problem


def _patterns(value: object, at: tuple[str | int, ...]) -> Iterator[tuple[Any, str]]:
    """Every pattern below; the deepest schema is bounded by the document it stands in."""
    waiting = [(value, at)]
    while waiting:
        value, at = waiting.pop()
        if isinstance(value, list):
            waiting.extend((inner, (*at, index)) for index, inner in enumerate(value))
        if not isinstance(value, dict):
            continue
        named = value.get("patternProperties")
        if isinstance(named, dict):
            yield from (((*at, "patternProperties", pattern), pattern) for pattern in named)
        if isinstance(value.get("pattern"), str):
            yield (*at, "pattern"), value["pattern"]
        waiting.extend((inner, (*at, key)) for key, inner in value.items() if key not in _DATA)


def _problem(pattern: str) -> str | None:
    if len(pattern) > MAX_PATTERN:
        return f"a pattern has at most {MAX_PATTERN} characters, not {len(pattern)}"
    try:
        _compiled(pattern)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        return f"this pattern cannot be used (RE2, without look-around and back-references): {said}"
    return None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError(f"{value[:200]!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, schema: Any
) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        for pattern, inner in patterns.items():
            for key in value:
                if _matches(pattern, key):
                    yield from validator.descend(value[key], inner, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, wanted: Any, value: Any, schema: Any
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key in value:
        if key in named or any(_matches(pattern, key) for pattern in patterns):
            continue
        if wanted is False:
            yield ValidationError(f"{key[:200]!r} is no property of it")
        else:
            yield from validator.descend(value[key], wanted, path=key)


def _unevaluated_properties(
    validator: Any, wanted: Any, value: Any, schema: Any
) -> Iterator[ValidationError]:
    if next(_patterns(validator.schema, ()), None) is not None:
        raise TooCostly("unevaluatedProperties cannot be used in a schema with patterns")
    yield from Draft202012Validator.VALIDATORS["unevaluatedProperties"](
        validator, wanted, value, schema
    )


def _counted(keyword: str) -> Any:
    plain = Draft202012Validator.VALIDATORS[keyword]

    def follow(validator: Any, target: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        count = _followed.get()
        count[0] += 1
        if count[0] > MAX_REFERENCES:
            raise TooCostly(f"more than {MAX_REFERENCES} references would have to be followed")
        yield from plain(validator, target, value, schema) or ()

    return follow


_Bounded: Final[Any] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "unevaluatedProperties": _unevaluated_properties,
        "$ref": _counted("$ref"),
        "$dynamicRef": _counted("$dynamicRef"),
    },
)
