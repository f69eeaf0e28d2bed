"""The context of a run, held to the JSON Schema that its job gives.

What reads schemas is imported with the first one: few jobs have any.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import JsonValue

from cloud.errors import Invalid
from contract.http.problems import ProblemItem

MAX_PROBLEMS: Final = 20


def schema_problems(schema: Mapping[str, JsonValue]) -> list[ProblemItem]:
    """What is wrong with a schema itself."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    from cloud.domain.context_schemas import pattern_problems

    try:
        found = [
            ProblemItem(key=_key("context_schema", place), message=text[:500])
            for place, text in pattern_problems(schema)
        ]
        if not found:
            Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        key = _key("context_schema", error.absolute_path)
        return [ProblemItem(key=key, message=error.message[:500])]
    except RecursionError:
        return [ProblemItem(key="context_schema", message="the schema is nested too deeply")]
    return found[:MAX_PROBLEMS]


def check_context(context: Mapping[str, JsonValue], schema: Mapping[str, JsonValue] | None) -> None:
    """Raise Invalid("context_invalid") with every place where the context breaks its schema."""
    if schema is None:
        return
    from referencing.exceptions import Unresolvable

    from cloud.domain.context_schemas import TooCostly, validator_of

    items = []
    try:
        for error in validator_of(schema).iter_errors(dict(context)):
            key = _key("context", error.absolute_path)
            items.append(ProblemItem(key=key, message=error.message[:500]))
            if len(items) == MAX_PROBLEMS:
                break
    except Unresolvable as error:
        items = [ProblemItem(key="context_schema", message=f"a reference leads nowhere: {error}")]
    except TooCostly as error:
        items = [ProblemItem(key="context_schema", message=str(error))]
    except RecursionError:
        items = [ProblemItem(key="context_schema", message="the schema refers to itself for ever")]
    if items:
        raise Invalid("context_invalid", f"{items[0].key}: {items[0].message}", items)


def _key(top: str, place: Iterable[str | int]) -> str:
    text = top
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text
