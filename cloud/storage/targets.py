"""A target query as SQL over any kind of target, on both databases.

Its meaning is that of `contract.query.matches`: every condition is true or false, never null, and
compares within one kind of value only.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

from contract.query import And, Compare, Exists, In, Like, Member, Not, Or, Path, Query, Scalar

_ORDERS: Final = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
Compiled = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Shape:
    """Where a kind of target lies: its table, and what stands behind each field of a query.

    `columns` are texts, `numbers` integers, `sections` JSON objects. Where `whole` is set, every
    other field is a key of that JSON object.
    """

    resource: str
    table: str
    key: str
    columns: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    whole: str | None = None

    @property
    def counts(self) -> bool:
        """Whether the key is a number."""
        return bool(self.numbers)


def _named(table: str, *names: str) -> dict[str, str]:
    return {name: f"{table}.{name}" for name in names}


DEVICES: Final = Shape(
    "device",
    "devices",
    "devices.id",
    _named("devices", "id", "type", "gateway", "name"),
    sections=_named("devices", "tags", "attributes", "state"),
)
GATEWAYS: Final = Shape(
    "gateway",
    "gateways",
    "gateways.id",
    _named("gateways", "id", "type", "name", "version"),
    sections={**_named("gateways", "tags", "attributes"), "state": "gateways.health"},
)
GROUPS: Final = Shape(
    "group",
    "groups",
    "groups.id",
    _named("groups", "id", "type", "name", "resource"),
    sections=_named("groups", "tags", "attributes"),
)
USERS: Final = Shape(
    "user",
    "contacts",
    "contacts.id",
    _named("contacts", "id", "type", "name", "email", "phone"),
    sections=_named("contacts", "tags", "attributes"),
)
ROWS: Final = Shape(
    "row", "data_rows", "data_rows.key", numbers={"id": "data_rows.key"}, whole="data_rows.data"
)
SHAPES: Final = {shape.resource: shape for shape in (DEVICES, GATEWAYS, GROUPS, USERS, ROWS)}


def in_table(shape: Shape) -> str:
    """For rows, the condition that they are of the data table in the parameter `of_table`."""
    return f" AND {shape.table}.of_table = :of_table" if shape is ROWS else ""


def compile_query(query: Query, *, sqlite: bool, shape: Shape = DEVICES) -> Compiled:
    """A condition on the shape's table, and its parameters, whose names begin with `q_`."""
    compiler = _Sqlite(shape) if sqlite else _Postgres(shape)
    return compiler.condition(query), compiler.parameters


class _Compiler(ABC):
    """What both have in common: junctions, columns, and the kinds of values.

    Conditions on JSON are given as what stands right of the value, as in `> :q_1`.
    """

    false = "1 = 0"

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.parameters: dict[str, Any] = {}

    def condition(self, query: Query) -> str:
        match query:
            case And(parts):
                return self._joined(parts, " AND ", "1 = 1")
            case Or(parts):
                return self._joined(parts, " OR ", "1 = 0")
            case Not(part):
                return f"NOT ({self.condition(part)})"
            case Compare(path, operator, value):
                return self._compare(path, _ORDERS[operator], value)
            case In(path, values):
                return self._any_of(path, values)
            case Exists(path):
                return self._exists(path)
            case Like(path, pattern):
                return self._like(path, pattern)
            case Member(groups):
                return self._member(groups)
            case _:
                assert_never(query)

    def _joined(self, parts: tuple[Query, ...], word: str, empty: str) -> str:
        if not parts:
            return empty
        return "(" + word.join(self.condition(part) for part in parts) + ")"

    def bind(self, value: Any) -> str:
        name = f"q_{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"

    def _member(self, groups: tuple[str, ...]) -> str:
        if self.shape.resource not in ("device", "user") or not groups:
            return self.false
        table = self.shape.table
        return (
            f"EXISTS (SELECT 1 FROM group_members m WHERE m.org = {table}.org "
            f"AND m.member = {table}.id AND m.of_group {self.among_texts(list(groups))})"
        )

    def _column(self, path: Path) -> str | None:
        return self.shape.columns.get(path[0]) if len(path) == 1 else None

    def _number(self, path: Path) -> str | None:
        return self.shape.numbers.get(path[0]) if len(path) == 1 else None

    def _json(self, path: Path) -> tuple[str, Path] | None:
        """The JSON column that holds a field, and the way inside it."""
        if path[0] in self.shape.sections:
            return (self.shape.sections[path[0]], path[1:]) if len(path) > 1 else None
        known = path[0] in self.shape.columns or path[0] in self.shape.numbers
        return None if self.shape.whole is None or known else (self.shape.whole, path)

    def _exists(self, path: Path) -> str:
        column = self._column(path) or self._number(path)
        if column is not None:
            return f"{column} IS NOT NULL"
        if len(path) == 1 and path[0] in self.shape.sections:
            return f"{self.shape.sections[path[0]]} IS NOT NULL"
        inside = self._json(path)
        return self.false if inside is None else self.json_exists(*inside)

    def _compare(self, path: Path, operator: str, value: Scalar) -> str:
        column, number, inside = self._column(path), self._number(path), self._json(path)
        if column is not None:
            if not isinstance(value, str):
                return self.false
            found = f"{self.text_column(column)} {operator} {self.text(value)}"
            return f"COALESCE({found}, 1 = 0)"
        if number is not None:
            if isinstance(value, str | bool):
                return self.false
            return f"{number} {operator} {self.number(value)}"
        if inside is None:
            return self.false
        if isinstance(value, bool):
            return self.json_boolean(*inside, value)
        if isinstance(value, str):
            return self.json_text(*inside, f"{operator} {self.text(value)}")
        return self.json_number(*inside, f"{operator} {self.number(value)}")

    def _any_of(self, path: Path, values: tuple[Scalar, ...]) -> str:
        texts = [value for value in values if isinstance(value, str)]
        numbers = [v for v in values if not isinstance(v, str | bool)]
        column, number, inside = self._column(path), self._number(path), self._json(path)
        if column is not None:
            found = f"{self.text_column(column)} {self.among_texts(texts)}"
            return f"COALESCE({found}, 1 = 0)" if texts else self.false
        if number is not None:
            return f"{number} {self.among_numbers(numbers)}" if numbers else self.false
        if inside is None:
            return self.false
        parts = [self.json_boolean(*inside, v) for v in {v for v in values if isinstance(v, bool)}]
        if texts:
            parts.append(self.json_text(*inside, self.among_texts(texts)))
        if numbers:
            parts.append(self.json_number(*inside, self.among_numbers(numbers)))
        return f"({' OR '.join(parts)})" if parts else self.false

    def _like(self, path: Path, pattern: str) -> str:
        column, inside = self._column(path), self._json(path)
        like = f"LIKE {self.text(pattern)} ESCAPE '\\'"
        if column is not None:
            return f"COALESCE({column} {like}, 1 = 0)"
        return self.false if inside is None else self.json_text(*inside, like)

    @abstractmethod
    def text_column(self, column: str) -> str: ...

    @abstractmethod
    def text(self, value: str) -> str: ...

    @abstractmethod
    def number(self, value: float) -> str: ...

    @abstractmethod
    def among_texts(self, values: list[str]) -> str: ...

    @abstractmethod
    def among_numbers(self, values: list[int | float]) -> str: ...

    @abstractmethod
    def json_exists(self, column: str, path: Path) -> str: ...

    @abstractmethod
    def json_boolean(self, column: str, path: Path, value: bool) -> str: ...

    @abstractmethod
    def json_text(self, column: str, path: Path, condition: str) -> str: ...

    @abstractmethod
    def json_number(self, column: str, path: Path, condition: str) -> str: ...


class _Sqlite(_Compiler):
    def text_column(self, column: str) -> str:
        return column

    def text(self, value: str) -> str:
        return self.bind(value)

    def number(self, value: float) -> str:
        return self.bind(value)

    def among_texts(self, values: list[str]) -> str:
        return f"IN (SELECT value FROM json_each({self.bind(json.dumps(values))}))"

    def among_numbers(self, values: list[int | float]) -> str:
        return f"IN (SELECT value FROM json_each({self.bind(json.dumps(values))}))"

    def _place(self, column: str, path: Path) -> str:
        inner = "".join(f'."{segment}"' for segment in path)
        return f"{column}, {self.bind('$' + inner)}"

    def json_exists(self, column: str, path: Path) -> str:
        return f"COALESCE(json_type({self._place(column, path)}), 'null') <> 'null'"

    def json_boolean(self, column: str, path: Path, value: bool) -> str:
        return f"COALESCE(json_type({self._place(column, path)}) = '{str(value).lower()}', 1 = 0)"

    def json_text(self, column: str, path: Path, condition: str) -> str:
        return self._of_kind(column, path, "'text'", condition)

    def json_number(self, column: str, path: Path, condition: str) -> str:
        return self._of_kind(column, path, "'integer', 'real'", condition)

    def _of_kind(self, column: str, path: Path, kinds: str, condition: str) -> str:
        place = self._place(column, path)
        return (
            f"CASE WHEN json_type({place}) IN ({kinds}) "
            f"THEN json_extract({place}) {condition} ELSE 1 = 0 END"
        )


class _Postgres(_Compiler):
    false = "FALSE"

    def text_column(self, column: str) -> str:
        return f'{column} COLLATE "C"'

    def text(self, value: str) -> str:
        return f"CAST({self.bind(value)} AS text)"

    def number(self, value: float) -> str:
        # As text: a float as the driver sends it would make the comparison one of floats.
        return f"CAST({self.bind(repr(value))} AS numeric)"

    def among_texts(self, values: list[str]) -> str:
        return f"= ANY(CAST({self.bind(values)} AS text[]))"

    def among_numbers(self, values: list[int | float]) -> str:
        return f"= ANY(CAST({self.bind([repr(value) for value in values])} AS numeric[]))"

    def _value(self, column: str, path: Path) -> str:
        # `->` by name leads through objects only; `#>` would also count into arrays.
        inner = "".join(f" -> CAST({self.bind(segment)} AS text)" for segment in path)
        return f"(CAST({column} AS jsonb){inner})"

    def json_exists(self, column: str, path: Path) -> str:
        return f"COALESCE(jsonb_typeof({self._value(column, path)}), 'null') <> 'null'"

    def json_boolean(self, column: str, path: Path, value: bool) -> str:
        return (
            f"COALESCE({self._value(column, path)} = CAST('{str(value).lower()}' AS jsonb), FALSE)"
        )

    def json_text(self, column: str, path: Path, condition: str) -> str:
        value = self._value(column, path)
        return (
            f"CASE WHEN jsonb_typeof({value}) = 'string' "
            f"THEN ({value} #>> '{{}}') COLLATE \"C\" {condition} ELSE FALSE END"
        )

    def json_number(self, column: str, path: Path, condition: str) -> str:
        value = self._value(column, path)
        return (
            f"CASE WHEN jsonb_typeof({value}) = 'number' "
            f"THEN CAST({value} AS numeric) {condition} ELSE FALSE END"
        )
