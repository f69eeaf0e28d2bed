"""A target query as SQL over the devices table, on both databases.

Its meaning is that of `contract.query.matches`: every condition is true or false, never null, and
compares within one kind of value only.
"""

import json
from abc import ABC, abstractmethod
from typing import Any, Final, assert_never

from contract.query import (
    COLUMNS,
    SECTIONS,
    And,
    Compare,
    Exists,
    In,
    Like,
    Member,
    Not,
    Or,
    Path,
    Query,
    Scalar,
)

_ORDERS: Final = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
Compiled = tuple[str, dict[str, Any]]


def compile_query(query: Query, *, sqlite: bool) -> Compiled:
    """A condition on `devices`, and its parameters, whose names begin with `q_`."""
    compiler = _Sqlite() if sqlite else _Postgres()
    return compiler.condition(query), compiler.parameters


class _Compiler(ABC):
    """What both have in common: junctions, columns, and the kinds of values.

    Conditions on JSON are given as what stands right of the value, as in `> :q_1`.
    """

    false = "1 = 0"

    def __init__(self) -> None:
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
            case Member():
                # No release yet keeps groups, so nothing is a member of one.
                return self.false
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

    def _exists(self, path: Path) -> str:
        if len(path) == 1 and path[0] in COLUMNS:
            return f"devices.{path[0]} IS NOT NULL"
        return self.json_exists(path) if path[0] in SECTIONS else self.false

    def _compare(self, path: Path, operator: str, value: Scalar) -> str:
        if len(path) == 1 and path[0] in COLUMNS:
            if not isinstance(value, str):
                return self.false
            found = f"{self.text_column(path[0])} {operator} {self.text(value)}"
            return f"COALESCE({found}, 1 = 0)"
        if path[0] not in SECTIONS or len(path) == 1:
            return self.false
        if isinstance(value, bool):
            return self.json_boolean(path, value)
        if isinstance(value, str):
            return self.json_text(path, f"{operator} {self.text(value)}")
        return self.json_number(path, f"{operator} {self.number(value)}")

    def _any_of(self, path: Path, values: tuple[Scalar, ...]) -> str:
        texts = [value for value in values if isinstance(value, str)]
        numbers = [v for v in values if not isinstance(v, str | bool)]
        if len(path) == 1 and path[0] in COLUMNS:
            found = f"{self.text_column(path[0])} {self.among_texts(texts)}"
            return f"COALESCE({found}, 1 = 0)" if texts else self.false
        if path[0] not in SECTIONS or len(path) == 1:
            return self.false
        parts = [self.json_boolean(path, v) for v in {v for v in values if isinstance(v, bool)}]
        if texts:
            parts.append(self.json_text(path, self.among_texts(texts)))
        if numbers:
            parts.append(self.json_number(path, self.among_numbers(numbers)))
        return f"({' OR '.join(parts)})" if parts else self.false

    def _like(self, path: Path, pattern: str) -> str:
        like = f"LIKE {self.text(pattern)} ESCAPE '\\'"
        if len(path) == 1 and path[0] in COLUMNS:
            return f"COALESCE(devices.{path[0]} {like}, 1 = 0)"
        if path[0] not in SECTIONS or len(path) == 1:
            return self.false
        return self.json_text(path, like)

    @abstractmethod
    def text_column(self, name: str) -> str: ...

    @abstractmethod
    def text(self, value: str) -> str: ...

    @abstractmethod
    def number(self, value: float) -> str: ...

    @abstractmethod
    def among_texts(self, values: list[str]) -> str: ...

    @abstractmethod
    def among_numbers(self, values: list[int | float]) -> str: ...

    @abstractmethod
    def json_exists(self, path: Path) -> str: ...

    @abstractmethod
    def json_boolean(self, path: Path, value: bool) -> str: ...

    @abstractmethod
    def json_text(self, path: Path, condition: str) -> str: ...

    @abstractmethod
    def json_number(self, path: Path, condition: str) -> str: ...


class _Sqlite(_Compiler):
    def text_column(self, name: str) -> str:
        return f"devices.{name}"

    def text(self, value: str) -> str:
        return self.bind(value)

    def number(self, value: float) -> str:
        return self.bind(value)

    def among_texts(self, values: list[str]) -> str:
        return f"IN (SELECT value FROM json_each({self.bind(json.dumps(values))}))"

    def among_numbers(self, values: list[int | float]) -> str:
        return f"IN (SELECT value FROM json_each({self.bind(json.dumps(values))}))"

    def _place(self, path: Path) -> str:
        inner = "".join(f'."{segment}"' for segment in path[1:])
        return f"devices.{path[0]}, {self.bind('$' + inner)}"

    def json_exists(self, path: Path) -> str:
        return f"COALESCE(json_type({self._place(path)}), 'null') <> 'null'"

    def json_boolean(self, path: Path, value: bool) -> str:
        return f"COALESCE(json_type({self._place(path)}) = '{str(value).lower()}', 1 = 0)"

    def json_text(self, path: Path, condition: str) -> str:
        return self._of_kind(path, "'text'", condition)

    def json_number(self, path: Path, condition: str) -> str:
        return self._of_kind(path, "'integer', 'real'", condition)

    def _of_kind(self, path: Path, kinds: str, condition: str) -> str:
        place = self._place(path)
        return (
            f"CASE WHEN json_type({place}) IN ({kinds}) "
            f"THEN json_extract({place}) {condition} ELSE 1 = 0 END"
        )


class _Postgres(_Compiler):
    false = "FALSE"

    def text_column(self, name: str) -> str:
        return f'devices.{name} COLLATE "C"'

    def text(self, value: str) -> str:
        return f"CAST({self.bind(value)} AS text)"

    def number(self, value: float) -> str:
        # As text: a float as the driver sends it would make the comparison one of floats.
        return f"CAST({self.bind(repr(value))} AS numeric)"

    def among_texts(self, values: list[str]) -> str:
        return f"= ANY(CAST({self.bind(values)} AS text[]))"

    def among_numbers(self, values: list[int | float]) -> str:
        return f"= ANY(CAST({self.bind([repr(value) for value in values])} AS numeric[]))"

    def _value(self, path: Path) -> str:
        # `->` by name leads through objects only; `#>` would also count into arrays.
        inner = "".join(f" -> CAST({self.bind(segment)} AS text)" for segment in path[1:])
        return f"(CAST(devices.{path[0]} AS jsonb){inner})"

    def json_exists(self, path: Path) -> str:
        return f"COALESCE(jsonb_typeof({self._value(path)}), 'null') <> 'null'"

    def json_boolean(self, path: Path, value: bool) -> str:
        return f"COALESCE({self._value(path)} = CAST('{str(value).lower()}' AS jsonb), FALSE)"

    def json_text(self, path: Path, condition: str) -> str:
        value = self._value(path)
        return (
            f"CASE WHEN jsonb_typeof({value}) = 'string' "
            f"THEN ({value} #>> '{{}}') COLLATE \"C\" {condition} ELSE FALSE END"
        )

    def json_number(self, path: Path, condition: str) -> str:
        value = self._value(path)
        return (
            f"CASE WHEN jsonb_typeof({value}) = 'number' "
            f"THEN CAST({value} AS numeric) {condition} ELSE FALSE END"
        )
