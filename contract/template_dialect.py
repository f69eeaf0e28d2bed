"""The `{{ }}` of job documents: Jinja's expressions over JSON values, strict and bounded.

A text that is exactly one expression keeps its value's kind; in mixed text everything but text is
written as JSON. A missing name or key is an error, except before `is defined` and `| default(...)`.
Dots read keys of objects, never anything of Python. A rendered value is data, never rendered again.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

from contract import template_syntax as syntax
from contract import template_values as values
from contract.template_syntax import Expression
from contract.template_values import Budget, Malformed, Refused

_SHOWN: Final = 120
# What Python raises for operands that no rule of ours has refused before.
_OPERATION_FAILED: Final = (
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
)


class TemplateError(ValueError):
    """A template cannot be used. Either TemplateInvalid or TemplateFailed."""

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        return f"{self.reason} in `{_shown(self.text)}`"


class TemplateInvalid(TemplateError):
    """The text is no template of the dialect, whatever the data; `line`, `column` count from 1."""

    def __init__(self, text: str, reason: str, offset: int = 0) -> None:
        self.offset = offset
        self.line = text.count("\n", 0, offset) + 1
        self.column = offset - (text.rfind("\n", 0, offset) + 1) + 1
        super().__init__(text, reason)

    def _sentence(self) -> str:
        place = f" (line {self.line}, column {self.column})" if self.offset else ""
        return f"{super()._sentence()}{place}"


class TemplateFailed(TemplateError):
    """The template is well formed, but these data do not allow it; `names` are those in scope."""

    def __init__(self, text: str, reason: str, names: tuple[str, ...] = ()) -> None:
        self.names = names
        super().__init__(text, reason)


def is_template(text: str) -> bool:
    """Say whether a text holds an expression, and so is not just itself."""
    return "{{" in text


def check(text: str) -> frozenset[str]:
    """Check a text with `{{ }}`; returns the names it reads. Raises TemplateInvalid."""
    return frozenset(name for part in _expressions(text) for name in part.names)


def check_expression(text: str) -> frozenset[str]:
    """Check a bare expression, as in `when`; returns its names. Raises TemplateInvalid."""
    return _expression(text).names


def check_value(value: JsonValue) -> frozenset[str]:
    """Check every text in a JSON value; returns all names. Raises TemplateInvalid."""
    return frozenset(name for text in _texts(value) for name in check(text))


def references(text: str) -> frozenset[tuple[str, ...]]:
    """Return the dotted paths a text with `{{ }}` reads, each also with its shorter beginnings.

    `{{ steps.before.result }}` reads `("steps",)`, `("steps", "before")` and the whole of it.
    Raises TemplateInvalid.
    """
    return frozenset(path for part in _expressions(text) for path in part.paths)


def expression_references(text: str) -> frozenset[tuple[str, ...]]:
    """Return the dotted paths a bare expression reads, as `references` does for texts."""
    return _expression(text).paths


def render(value: JsonValue, scope: Mapping[str, JsonValue]) -> JsonValue:
    """Render every text in a JSON value; keys of objects stay as they are.

    Raises TemplateInvalid, or TemplateFailed when a name is missing, an operation is not possible
    or the result grows too large.
    """
    return _rendered(value, scope, Budget(), 0)


def evaluate(expression: str, scope: Mapping[str, JsonValue]) -> JsonValue:
    """Evaluate a bare expression, as in `when` and `expect`; braces around it are allowed.

    Raises TemplateInvalid and TemplateFailed.
    """
    compiled = _expression(expression)
    return _run(expression, compiled, scope, Budget())


def is_true(expression: str, scope: Mapping[str, JsonValue]) -> bool:
    """Evaluate a bare expression to a yes or no: null, false, 0 and empty values are no.

    Raises TemplateInvalid and TemplateFailed.
    """
    return bool(evaluate(expression, scope))


def _rendered(
    value: JsonValue, scope: Mapping[str, JsonValue], budget: Budget, depth: int
) -> JsonValue:
    if depth > values.MAX_VALUE_DEPTH:
        raise TemplateFailed("", f"nested deeper than {values.MAX_VALUE_DEPTH} levels")
    if isinstance(value, str):
        return _rendered_text(value, scope, budget) if "{" in value else value
    if isinstance(value, list):
        return [_rendered(item, scope, budget, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _rendered(item, scope, budget, depth + 1) for key, item in value.items()}
    return value


def _rendered_text(text: str, scope: Mapping[str, JsonValue], budget: Budget) -> JsonValue:
    parts = _template(text).parts
    if len(parts) == 1 and not isinstance(parts[0], str):
        return _run(text, parts[0], scope, budget)
    written: list[str] = []
    for part in parts:
        if isinstance(part, str):
            written.append(part)
            continue
        found = _run(text, part, scope, budget)
        try:
            written.append(values.text_of(found, budget))
            budget.allow(sum(map(len, written)))
        except Refused as error:
            raise TemplateFailed(text, str(error)) from error
    return "".join(written)


def _run(
    text: str, compiled: Expression, scope: Mapping[str, JsonValue], budget: Budget
) -> JsonValue:
    try:
        budget.charge(10)
        found = compiled.evaluate(scope, budget)
        if isinstance(found, list | dict | str):
            budget.weigh(found)
        result: JsonValue = values.detached(found, budget)
    except Refused as error:
        raise TemplateFailed(text, str(error), tuple(scope)) from error
    except _OPERATION_FAILED as error:
        raise TemplateFailed(text, f"not possible: {error}"[:300], tuple(scope)) from error
    return result


def _template(text: str) -> syntax.Template:
    try:
        return syntax.template(text)
    except Malformed as error:
        raise TemplateInvalid(text, error.reason, error.offset) from error


def _expressions(text: str) -> Iterator[Expression]:
    for part in _template(text).parts:
        if not isinstance(part, str):
            yield part


def _expression(text: str) -> Expression:
    if text.lstrip().startswith("{{"):
        parts = _template(text.strip()).parts
        if len(parts) == 1 and not isinstance(parts[0], str):
            return parts[0]
        raise TemplateInvalid(text, "one expression is expected here, without braces")
    try:
        return syntax.expression(text)
    except Malformed as error:
        raise TemplateInvalid(text, error.reason, error.offset) from error


def _texts(value: JsonValue) -> Iterator[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
