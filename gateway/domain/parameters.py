"""A step's `with`, rendered: all of it but what its verb renders itself, such as a loop's step."""

from collections.abc import Mapping

from pydantic import JsonValue

from contract.steps import VERBS
from contract.template_dialect import render


def rendered(
    uses: str, given: Mapping[str, JsonValue], scope: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """Raises TemplateError."""
    verb = VERBS.get(uses)
    raw = verb.raw if verb is not None else frozenset[str]()
    values = render({name: value for name, value in given.items() if name not in raw}, scope)
    assert isinstance(values, dict)
    return {**values, **{name: given[name] for name in sorted(raw) if name in given}}
