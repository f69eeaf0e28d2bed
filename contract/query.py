"""The target query: which devices, gateways or rows a job is about, as model-free JSON.

A query is read into a small tree of frozen nodes. `matches` is the meaning of that tree; storage
compiles the same tree to SQL. Templates may stand only where values stand.

A target document is a mapping with the columns `id`, `type`, `gateway`, `name`, the mappings
`tags`, `attributes` and `state`, and `group`, the list of ids of the groups it is a member of.
A row of a data table is a mapping of its columns. A null is the same as a missing field.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, Literal, TypeAlias, assert_never

from pydantic import JsonValue

from contract import template_dialect

Scalar: TypeAlias = str | int | float | bool
Path: TypeAlias = tuple[str, ...]
Order: TypeAlias = Literal["$eq", "$gt", "$gte", "$lt", "$lte"]

COLUMNS: Final = ("id", "type", "gateway", "name")
SECTIONS: Final = ("tags", "attributes", "state")
OPERATORS: Final = (
    "$and", "$or", "$not", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin",
    "$exists", "$like",
)  # fmt: skip

MAX_DEPTH: Final = 16
MAX_NODES: Final = 1_000
MAX_VALUES: Final = 10_000
MAX_TEXT: Final = 1_000
MAX_PATH: Final = 200
MAX_SEGMENTS: Final = 8


class QueryInvalid(ValueError):
    """The query cannot be used; `path` says where, as in `$or[1].tags.site`."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}" if path else reason)


@dataclass(frozen=True, slots=True)
class And:
    """True if every part is; without parts it is true for every target."""

    parts: "tuple[Query, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """True if at least one part is."""

    parts: "tuple[Query, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """True if the part is not; there is no third value."""

    part: "Query"


@dataclass(frozen=True, slots=True)
class Compare:
    """Compares within one kind (text, number, boolean); any other kind, or nothing, is false."""

    path: Path
    operator: Order
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    """True if the field equals one of the values."""

    path: Path
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """True if the field is there and is not null."""

    path: Path


@dataclass(frozen=True, slots=True)
class Like:
    r"""SQL's LIKE on text, case-sensitive: `%` any text, `_` one character, `\` the next as is."""

    path: Path
    pattern: str


@dataclass(frozen=True, slots=True)
class Member:
    """True if the target is a member of one of these groups."""

    groups: tuple[str, ...]


Query: TypeAlias = And | Or | Not | Compare | In | Exists | Like | Member
EVERYTHING: Final = And(())


def parse(query: JsonValue) -> Query:
    """Read a query whose values are data; a `{{ }}` in it is text like any other.

    Raises QueryInvalid.
    """
    return _Reader(lambda value, where: value, slack=4).read(query)


def check_query(query: JsonValue) -> frozenset[str]:
    """Check a query that may hold templates; returns the names its templates use.

    Raises QueryInvalid.
    """
    return read_with_templates(query)[1]


def read_with_templates(query: JsonValue) -> tuple[Query, frozenset[str]]:
    """Read a query that may hold templates, whose values are then unknown, and their names.

    Raises QueryInvalid.
    """
    names: set[str] = set()

    def operand(value: JsonValue, where: str) -> JsonValue:
        try:
            used = template_dialect.check_value(value)
        except template_dialect.TemplateInvalid as error:
            raise QueryInvalid(where, str(error)) from error
        names.update(used)
        if isinstance(value, str) and template_dialect.is_template(value):
            return _UNKNOWN
        return value

    found = _Reader(operand).read(query)
    return found, frozenset(names)


def render_query(query: JsonValue, scope: Mapping[str, JsonValue]) -> Query:
    """Render the templates that stand for values, and read the result.

    A rendered value never becomes a field, an operator or a part of the query: where one value
    is expected, a list or an object is refused. Only `$in` and `$nin` take a rendered list.
    Raises QueryInvalid, or TemplateFailed and TemplateInvalid of the template dialect.
    """
    return _Reader(lambda value, where: template_dialect.render(value, scope)).read(query)


class _Unknown(str):
    """Stands for a value that is known only when the template is rendered."""

    __slots__ = ()


_UNKNOWN: Final = _Unknown("?")


class _Reader:
    def __init__(self, operand: Callable[[JsonValue, str], JsonValue], slack: int = 1) -> None:
        # `to_json` writes every level out, so what people may nest is less than what is read back.
        self._operand = operand
        self._max_depth = MAX_DEPTH * slack
        self._max_nodes = MAX_NODES * slack
        self._nodes = 0

    def read(self, query: JsonValue) -> Query:
        return self._query(query, "", 0)

    def _query(self, query: JsonValue, where: str, depth: int) -> Query:
        if not isinstance(query, dict):
            raise QueryInvalid(where, "a query is an object such as {type: pump}")
        if depth > self._max_depth:
            raise QueryInvalid(where, f"nested deeper than {self._max_depth} levels")
        parts: list[Query] = []
        for key, value in query.items():
            here = f"{where}.{key[:MAX_PATH]}" if where else key[:MAX_PATH]
            if key.startswith("$"):
                parts.append(self._junction(key, value, here, depth))
            else:
                parts.extend(self._field(_path(key, here), value, here, depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _count(self, where: str) -> None:
        self._nodes += 1
        if self._nodes > self._max_nodes:
            raise QueryInvalid(where, f"the query has more than {self._max_nodes} parts")

    def _junction(self, key: str, value: JsonValue, where: str, depth: int) -> Query:
        self._count(where)
        if key == "$not":
            return Not(self._query(value, where, depth + 1))
        if key not in ("$and", "$or"):
            if key in OPERATORS:
                raise QueryInvalid(where, f"`{key}` stands below a field: {{type: {{{key}: ...}}}}")
            raise QueryInvalid(where, _unknown_operator(key))
        if not isinstance(value, list) or not value:
            raise QueryInvalid(where, f"`{key}` takes a list of at least one query")
        parts = tuple(
            self._query(part, f"{where}[{index}]", depth + 1) for index, part in enumerate(value)
        )
        return And(parts) if key == "$and" else Or(parts)

    def _field(self, path: Path, value: JsonValue, where: str, depth: int) -> Iterator[Query]:
        if depth > self._max_depth:
            raise QueryInvalid(where, f"nested deeper than {self._max_depth} levels")
        if not isinstance(value, dict):
            yield self._condition(path, "$eq", value, where)
            return
        if not value:
            raise QueryInvalid(where, "an empty object; write a value or an operator")
        for key, operand in value.items():
            here = f"{where}.{key[:MAX_PATH]}"
            if key == "$not":
                if not isinstance(operand, dict):
                    raise QueryInvalid(here, "`$not` takes an object of operators")
                self._count(here)
                inner = tuple(self._field(path, operand, here, depth + 1))
                yield Not(inner[0] if len(inner) == 1 else And(inner))
            else:
                yield self._condition(path, key, operand, here)

    def _condition(self, path: Path, key: str, operand: JsonValue, where: str) -> Query:
        self._count(where)
        if key not in OPERATORS or key in ("$and", "$or"):
            raise QueryInvalid(where, _unknown_operator(key))
        if isinstance(operand, dict):
            raise QueryInvalid(where, f"`{key}` does not take an object")
        value = self._operand(operand, where)
        if path == ("group",):
            return self._membership(key, value, where)
        match key:
            case "$eq" | "$ne":
                node = Not(Exists(path)) if value is None else self._equal(path, value, where)
                return _negated(node) if key == "$ne" else node
            case "$gt" | "$gte" | "$lt" | "$lte":
                found = _scalar(value, where)
                if isinstance(found, bool):
                    raise QueryInvalid(where, f"`{key}` compares numbers or texts")
                return Compare(path, _ORDERS[key], found)
            case "$in" | "$nin":
                chosen = self._any_of(path, value, where)
                return _negated(chosen) if key == "$nin" else chosen
            case "$exists":
                if not isinstance(value, bool | _Unknown):
                    raise QueryInvalid(where, "`$exists` takes true or false")
                return Exists(path) if value else Not(Exists(path))
            case _:
                return Like(path, _pattern(value, where))

    def _equal(self, path: Path, value: JsonValue, where: str) -> Query:
        return Compare(path, "$eq", _scalar(value, where))

    def _any_of(self, path: Path, value: JsonValue, where: str) -> Query:
        values = _list(value, where)
        scalars = tuple(_scalar(item, where) for item in values if item is not None)
        chosen = In(path, scalars)
        return chosen if len(scalars) == len(values) else Or((Not(Exists(path)), chosen))

    def _membership(self, key: str, value: JsonValue, where: str) -> Query:
        if key not in ("$eq", "$ne", "$in", "$nin"):
            raise QueryInvalid(where, "`group` takes a group's id, $ne, $in or $nin")
        found = [value] if key in ("$eq", "$ne") else _list(value, where)
        groups = tuple(item for item in found if isinstance(item, str))
        if isinstance(value, _Unknown):
            groups, found = (), []
        if len(groups) != len(found):
            raise QueryInvalid(where, "a group is named by its id, a text")
        return Not(Member(groups)) if key in ("$ne", "$nin") else Member(groups)


_ORDERS: Final[dict[str, Order]] = {"$gt": "$gt", "$gte": "$gte", "$lt": "$lt", "$lte": "$lte"}


def _negated(node: Query) -> Query:
    return node.part if isinstance(node, Not) else Not(node)


def _path(key: str, where: str) -> Path:
    segments = tuple(key.split("."))
    if len(key) > MAX_PATH or len(segments) > MAX_SEGMENTS:
        raise QueryInvalid(where, f"a field has at most {MAX_SEGMENTS} parts, {MAX_PATH} letters")
    for segment in segments:
        if not segment or segment.startswith("$") or not segment.isprintable():
            raise QueryInvalid(where, "a field is dotted names such as tags.site")
        if '"' in segment or "\\" in segment:
            raise QueryInvalid(where, 'a field holds no `"` and no backslash')
    return segments


def _scalar(value: JsonValue, where: str) -> Scalar:
    if value is None:
        raise QueryInvalid(where, "null has no order; use $exists")
    if isinstance(value, list):
        raise QueryInvalid(where, "one value is expected here, not a list; did you mean $in?")
    if isinstance(value, dict):
        raise QueryInvalid(where, "one value is expected here, not an object")
    if isinstance(value, str) and (len(value) > MAX_TEXT or "\0" in value):
        raise QueryInvalid(where, f"a text of at most {MAX_TEXT} letters, without NUL, is expected")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise QueryInvalid(where, "the number does not fit in 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise QueryInvalid(where, "the number is not finite")
    return value


def _list(value: JsonValue, where: str) -> list[JsonValue]:
    if isinstance(value, _Unknown):
        return []
    if not isinstance(value, list):
        raise QueryInvalid(where, "a list is expected here")
    if len(value) > MAX_VALUES:
        raise QueryInvalid(where, f"a list holds at most {MAX_VALUES} values")
    return value


def _pattern(value: JsonValue, where: str) -> str:
    found = _scalar(value, where)
    if not isinstance(found, str):
        raise QueryInvalid(where, "`$like` takes a text with % and _")
    if found.replace("\\\\", "").endswith("\\"):
        raise QueryInvalid(where, "a pattern does not end in a single backslash")
    return found


def _unknown_operator(key: str) -> str:
    near = get_close_matches(key, OPERATORS, n=1, cutoff=0.5) or get_close_matches(
        f"${key}", OPERATORS, n=1, cutoff=0.5
    )
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return f"unknown operator `{key[:MAX_PATH]}`{hint} (known: {' '.join(OPERATORS)})"


def matches(query: Query, document: Mapping[str, JsonValue]) -> bool:
    """Say whether a target document fits: the meaning every other implementation is held to."""
    match query:
        case And(parts):
            return all(matches(part, document) for part in parts)
        case Or(parts):
            return any(matches(part, document) for part in parts)
        case Not(part):
            return not matches(part, document)
        case Compare(path, operator, value):
            return _holds(operator, field(document, path), value)
        case In(path, values):
            found = field(document, path)
            return any(_holds("$eq", found, value) for value in values)
        case Exists(path):
            return field(document, path) is not None
        case Like(path, pattern):
            text = field(document, path)
            return isinstance(text, str) and _like(pattern).fullmatch(text) is not None
        case Member(groups):
            found = document.get("group")
            return isinstance(found, list) and any(group in found for group in groups)
        case _:
            assert_never(query)


def field(document: Mapping[str, JsonValue], path: Path) -> JsonValue:
    """Return the value a path leads to, through objects only; None if there is nothing."""
    value: object = document
    for segment in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(segment)
    return value  # type: ignore[return-value]  # what a document of JSON values holds


def to_json(query: Query) -> JsonValue:
    """Write a query as JSON that `parse` reads back to a query of the same meaning."""
    match query:
        case And(parts):
            return {"$and": [to_json(part) for part in parts]} if parts else {}
        case Or(parts):
            return {"$or": [to_json(part) for part in parts]}
        case Not(part):
            return {"$not": to_json(part)}
        case Compare(path, operator, value):
            return {".".join(path): {operator: value}}
        case In(path, values):
            return {".".join(path): {"$in": list(values)}}
        case Exists(path):
            return {".".join(path): {"$exists": True}}
        case Like(path, pattern):
            return {".".join(path): {"$like": pattern}}
        case Member(groups):
            return {"group": {"$in": list(groups)}}
        case _:
            assert_never(query)


def _kind(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def _holds(operator: Order, found: JsonValue, value: Scalar) -> bool:
    if _kind(found) != _kind(value):
        return False
    match operator:
        case "$eq":
            return found == value
        case "$gt":
            return found > value  # type: ignore[operator]  # both are of one kind
        case "$gte":
            return found >= value  # type: ignore[operator]
        case "$lt":
            return found < value  # type: ignore[operator]
        case "$lte":
            return found <= value  # type: ignore[operator]
        case _:
            assert_never(operator)


@lru_cache(maxsize=256)
def _like(pattern: str) -> re.Pattern[str]:
    # Runs of % are one %, and each is taken lazily up to the next literal by an atomic group:
    # the first fit is as good as any later one, so matching never backtracks exponentially.
    tokens: list[str] = []
    escaped = False
    for letter in pattern:
        if not escaped and letter == "\\":
            escaped = True
            continue
        if escaped or letter not in "%_":
            tokens.append(re.escape(letter))
        elif letter == "_":
            tokens.append(".")
        elif not tokens or tokens[-1] != "%":
            tokens.append("%")
        escaped = False
    pieces = _split(tokens)
    first, rest = pieces[0], pieces[1:]
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


def _split(tokens: list[str]) -> list[str]:
    pieces = [""]
    for token in tokens:
        if token == "%":
            pieces.append("")
        else:
            pieces[-1] += token
    return pieces
