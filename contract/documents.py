"""YAML and JSON text to models, and back; errors name file, line, key and the nearest known key.

YAML is read by the rules of version 1.2: only `true` and `false` are booleans, `on`, `22:00`,
dates and numbers with leading zeros are text, and a key that stands twice is an error.
"""

import re
from difflib import get_close_matches
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

from contract.document_nodes import (
    MAX_TEXT,
    DocumentBroken,
    Node,
    compose,
    key_path,
    labels,
    locate,
)
from contract.document_problems import DocumentInvalid, Problem, known_keys, merged

__all__ = ["MAX_TEXT", "DocumentInvalid", "Problem", "dump", "dump_value", "load", "load_value"]

MAX_PROBLEMS: Final = 50

M = TypeVar("M", bound=BaseModel)


def load(text: str, model: type[M], source: str) -> M:
    """Read a YAML or JSON text into a model; `source` is the file's name as errors show it.

    Raises DocumentInvalid with every problem found.
    """
    root = _compose(text, source)
    try:
        return model.model_validate(root.value)
    except ValidationError as error:
        problems = _problems(error, model, root, source)
    except RecursionError:
        problems = [Problem(source, root.line, root.column, "", "nested too deep")]
    raise DocumentInvalid(problems)


def load_value(text: str, source: str) -> JsonValue:
    """Read a YAML or JSON text as plain JSON values; raises DocumentInvalid."""
    value: JsonValue = _compose(text, source).value
    return value


def dump(model: BaseModel, *, defaults: bool = True) -> str:
    """Write a model as YAML in the order of its fields; without `defaults`, what was set only."""
    return dump_value(
        model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=not defaults)
    )


def dump_value(value: JsonValue) -> str:
    """Write a JSON value as YAML that `load_value`, and readers of YAML 1.1, read back the same."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )
    return text


def _compose(text: str, source: str) -> Node:
    try:
        return compose(text)
    except DocumentBroken as error:
        problem = Problem(source, error.line, error.column, error.path, error.message)
        raise DocumentInvalid([problem]) from error


def _problems(
    error: ValidationError, model: type[BaseModel], root: Node, source: str
) -> list[Problem]:
    found = []
    for detail in merged(error.errors(include_url=False, include_input=False), root):
        place = locate(root, detail.loc)
        known: tuple[str, ...] = ()
        nearest: str | None = None
        line, column, path = place.node.line, place.node.column, place.path
        message = detail.message
        if detail.kind == "extra_forbidden":
            name = str(detail.loc[-1])
            known = known_keys(model, detail.loc[:-1], labels(root, detail.loc))
            near = get_close_matches(name, known, n=1, cutoff=0.6)
            nearest = near[0] if near else None
            hint = f"; did you mean `{nearest}`?" if near else ""
            listed = f" (known: {', '.join(known)})" if known else ""
            message = f"unknown key `{name}`{hint}{listed}"
            line, column = place.key_line, place.key_column
        elif detail.kind == "missing":
            name = str(detail.loc[-1])
            message = f"missing key `{name}`"
            path = key_path((*place.keys, name))
            line, column = place.key_line, place.key_column
        elif detail.kind == "string_type" and place.node.is_plain:
            message += "; put it in quotes"
        found.append(Problem(source, line, column, path, message, nearest, known))
    found.sort(key=lambda problem: (problem.line, problem.column))
    return found[:MAX_PROBLEMS]


class _Dumper(yaml.SafeDumper):
    """Writes lists indented, long texts as blocks, and in quotes what either YAML would misread."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    block = "\n" in text and not re.search(r"[^\n\x20-\x7e\xa0-\ud7ff]|^\s|[ \t]\n", text)
    # PyYAML writes these bare in single quotes, where a reader takes them for line breaks.
    escaped = re.search("[\x85\u2028\u2029\ufeff]", text)
    style = "|" if block else '"' if escaped else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
# YAML 1.1 would leave these plain as text; we, and every reader of 1.2, would read numbers.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+"),
    list("-+.0123456789"),
)
