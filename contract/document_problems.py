"""What is wrong with a document, said for people: pydantic's errors without pydantic's words."""

import re
import types
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from contract.document_nodes import Node, labels

Loc: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. Lines and columns count from 1; `key` is `steps[2].with.image`."""

    source: str
    line: int
    column: int
    key: str
    message: str
    nearest: str | None = None
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.source}:{self.line}:{self.column}: {key}{self.message}"


class DocumentInvalid(ValueError):
    """The document cannot be used; `problems` are all that were found, in the order of lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class Said:
    """One error of pydantic's: where, of what type, in which words."""

    loc: Loc
    kind: str
    message: str


_MISMATCHES: Final = ("_type", "_parsing", "literal_error", "enum", "model_attributes_type")


def merged(errors: Iterable[ErrorDetails], root: Node) -> list[Said]:
    """Turn pydantic's errors into one for each thing that is wrong.

    A value that fits no member of a union is reported once per member. Kept is what the member
    says that came closest; if none came close, one line says all that is possible.
    """
    said = [Said(tuple(error["loc"]), error["type"], _sentence(error)) for error in errors]
    return _merged_unions(said, root, 0)


def _merged_unions(said: list[Said], root: Node, depth: int) -> list[Said]:
    groups: dict[Loc, dict[str | int, list[Said]]] = defaultdict(lambda: defaultdict(list))
    kept: list[Said] = []
    for one in said:
        skipped = [index for index in labels(root, one.loc) if _is_label(one, index)]
        if depth < len(skipped):
            index = skipped[depth]
            groups[one.loc[:index]][one.loc[index]].append(one)
        else:
            kept.append(one)
    for prefix, members in groups.items():
        kept.extend(_closest(prefix, list(members.values()), root, depth))
    return kept


def _is_label(one: Said, index: int) -> bool:
    return not (one.kind == "missing" and index == len(one.loc) - 1)


def _closest(prefix: Loc, members: list[list[Said]], root: Node, depth: int) -> list[Said]:
    close = [said for said in members if not any(_is_mismatch(one, prefix) for one in said)]
    if close:
        return _merged_unions(min(close, key=len), root, depth + 1)
    if len(members) == 1:
        return _merged_unions(members[0], root, depth + 1)
    words = dict.fromkeys(one.message for said in members for one in said)
    return [Said(prefix, "union", "; or ".join(words))]


def _is_mismatch(one: Said, prefix: Loc) -> bool:
    return len(one.loc) == len(prefix) + 1 and one.kind.endswith(_MISMATCHES)


_OBJECT: Final = re.compile(r"a valid dictionary( or (instance|object).*)?$")


def _sentence(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == "union_tag_invalid":
        expected = re.findall(r"'([^']*)'", context["expected_tags"])
        near = get_close_matches(context["tag"], expected, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        key = context["discriminator"].strip("'")
        return f"`{context['tag']}` is no known {key}{hint} (known: {', '.join(expected)})"
    if error["type"] == "union_tag_not_found":
        return f"missing key {context['discriminator'].replace(chr(39), '`')}"
    message = _OBJECT.sub("an object", error["msg"])
    for opening in ("Value error, ", "Assertion failed, "):
        message = message.removeprefix(opening)
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def known_keys(model: type[BaseModel], loc: Loc, skipped: Collection[int] = ()) -> tuple[str, ...]:
    """Return the keys that a model knows at a place, in the order of its fields.

    `skipped` are the indexes in `loc` that name members of unions.
    """
    kinds: list[Any] = [model]
    for index, name in enumerate(loc):
        if index in skipped:
            kinds = [kind for kind in kinds if _answers_to(kind, name)] or kinds
        else:
            kinds = _below(kinds, name)
    found: dict[str, None] = {}
    for kind in kinds:
        if _is_model(kind):
            found.update(dict.fromkeys(_fields(kind)))
    return tuple(found)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {
        info.validation_alias
        if isinstance(info.validation_alias, str)
        else (info.alias or name): info.annotation
        for name, info in model.model_fields.items()
    }


def _below(kinds: list[Any], name: str | int) -> list[Any]:
    found: list[Any] = []
    for kind in kinds:
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(name, str) and _is_model(kind) and name in _fields(kind):
            found.extend(_alternatives(_fields(kind)[name]))
        elif isinstance(name, int) and _holds(origin, Sequence) and arguments:
            found.extend(_alternatives(arguments[0]))
        elif isinstance(name, str) and _holds(origin, Mapping) and len(arguments) == 2:
            found.extend(_alternatives(arguments[1]))
    return found


def _holds(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)


def _answers_to(kind: Any, label: str | int) -> bool:
    if not _is_model(kind):
        return False
    literals = [
        get_args(field.annotation)
        for field in kind.model_fields.values()
        if get_origin(field.annotation) is Literal
    ]
    return kind.__name__ == label or any(label in values for values in literals)


def _alternatives(kind: Any) -> list[Any]:
    if hasattr(kind, "__value__"):
        return _alternatives(kind.__value__)
    origin = get_origin(kind)
    if origin is Annotated:
        return _alternatives(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return [each for part in get_args(kind) for each in _alternatives(part)]
    if _is_model(kind) and getattr(kind, "__pydantic_root_model__", False):
        return _alternatives(kind.model_fields["root"].annotation)
    return [kind]
