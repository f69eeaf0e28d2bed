"""The context of a run, held to the JSON Schema that its job gives."""

from collections.abc import Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from cloud.errors import Invalid
from contract.http.problems import ProblemItem

MAX_PROBLEMS: Final = 20
# Only what the schema itself defines: no reference is ever fetched.
_NOTHING_ELSE: Final[Registry[Any]] = Registry()


def schema_problems(schema: Mapping[str, JsonValue]) -> list[ProblemItem]:
    """What is wrong with a schema itself."""
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        return [ProblemItem(key=_key("context_schema", error), message=error.message[:500])]
    return []


def check_context(context: Mapping[str, JsonValue], schema: Mapping[str, JsonValue] | None) -> None:
    """Raise Invalid("context_invalid") with every place where the context breaks its schema."""
    if schema is None:
        return
    validator = Draft202012Validator(dict(schema), registry=_NOTHING_ELSE)
    items = []
    try:
        for error in validator.iter_errors(dict(context)):
            items.append(ProblemItem(key=_key("context", error), message=error.message[:500]))
            if len(items) == MAX_PROBLEMS:
                break
    except Unresolvable as error:
        items = [ProblemItem(key="context_schema", message=f"a reference leads nowhere: {error}")]
    except RecursionError:
        items = [ProblemItem(key="context_schema", message="the schema refers to itself for ever")]
    if items:
        raise Invalid("context_invalid", f"{items[0].key}: {items[0].message}", items)


def _key(top: str, error: ValidationError | SchemaError) -> str:
    text = top
    for part in error.absolute_path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text
