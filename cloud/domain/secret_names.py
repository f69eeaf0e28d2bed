"""Which named secrets the steps of a job use."""

from collections.abc import Iterable, Iterator
from typing import Any

from contract.messages import OfferedStep
from contract.template_dialect import expression_references, references


class SecretUseInvalid(ValueError):
    """Secrets are used in a way that does not say which."""


def used_by(steps: Iterable[OfferedStep]) -> list[str]:
    """The names in `secrets.NAME`, sorted. Raises SecretUseInvalid for `secrets` as a whole."""
    names: set[str] = set()
    for step in steps:
        for paths in _paths(step):
            alone = ("secrets",) in paths
            named = {path[1] for path in paths if path[0] == "secrets" and len(path) > 1}
            if alone and not named:
                raise SecretUseInvalid(f"step `{step.id}`: write secrets.NAME")
            names |= named
    return sorted(names)


def _paths(step: OfferedStep) -> Iterator[frozenset[tuple[str, ...]]]:
    for text in _texts(step.with_):
        yield references(text)
    for expression in (step.when, step.expect):
        if expression is not None:
            yield expression_references(expression)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
