r"""The short form of a query, for people: `type:pump AND tags.site:berlin AND NOT group:lab`.

`field:value` is equal, `!=` is not, `< <= > >=` order, `~` is LIKE with `%` and `_`, `field:*` says
that there is a value, `field:(a, b)` one of several. `NOT` binds strongest, then `AND`, then `OR`;
parentheses group. A bare number is a number, `true` and `false` are booleans, all else and
whatever stands in `"..."` is text (`\"` and `\\` inside). `{{ ... }}` stands for a value.
"""

import json
import re
from typing import Final, assert_never

from pydantic import JsonValue

from contract.query import (
    MAX_DEPTH,
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
    QueryInvalid,
    Scalar,
)

MAX_LENGTH: Final = 10_000
_BARE: Final = r"[^\s()\",:<>=!~{}]+"
_TOKEN: Final = re.compile(
    r'(?P<template>\{\{.*?\}\})|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<operator><=|>=|!=|[:<>=~])'
    rf"|(?P<sign>[(),])|(?P<bare>{_BARE})",
    re.DOTALL,
)
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_SAFE: Final = re.compile(_BARE)
_WORDS: Final = frozenset({"AND", "OR", "NOT"})
_OPERATORS: Final = {":": "$eq", "=": "$eq", "!=": "$ne", "<": "$lt", "<=": "$lte", ">": "$gt",
                     ">=": "$gte", "~": "$like"}  # fmt: skip
_SIGNS: Final = {"$eq": ":", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}


class QueryTextInvalid(QueryInvalid):
    """The text is no query; `position` counts characters from 1."""

    def __init__(self, position: int, reason: str) -> None:
        self.position = position
        super().__init__("", f"at character {position}: {reason}")


def parse_text(text: str) -> JsonValue:
    """The query as JSON; an empty text is the query that everything fits.

    Raises QueryTextInvalid.
    """
    if len(text) > MAX_LENGTH:
        raise QueryTextInvalid(MAX_LENGTH, f"a query has at most {MAX_LENGTH} characters")
    reader = _Reader(_tokens(text), len(text) + 1)
    return reader.all() if reader.tokens else {}


def query_of(value: JsonValue) -> JsonValue:
    """A query given as JSON or as text, as JSON. Raises QueryTextInvalid."""
    return parse_text(value) if isinstance(value, str) else value


Token = tuple[str, str, int]


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            what = "a text without its end" if text[at] == '"' else f"unexpected `{text[at]}`"
            raise QueryTextInvalid(at + 1, what)
        found.append((match.lastgroup or "", match.group(), at + 1))
        at = match.end()
    return found


class _Reader:
    def __init__(self, tokens: list[Token], end: int) -> None:
        self.tokens = tokens
        self._at = 0
        self._end = end
        self._depth = 0

    def all(self) -> JsonValue:
        found = self._junction("OR", "$or")
        if self._at < len(self.tokens):
            raise self._expected("AND or OR")
        return found

    def _junction(self, word: str, operator: str) -> JsonValue:
        parts = [self._part(word)]
        while self._takes("bare", word):
            parts.append(self._part(word))
        return parts[0] if len(parts) == 1 else {operator: parts}

    def _part(self, word: str) -> JsonValue:
        return self._junction("AND", "$and") if word == "OR" else self._factor()

    def _factor(self) -> JsonValue:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise QueryTextInvalid(self._position, f"nested deeper than {MAX_DEPTH} levels")
        try:
            if self._takes("bare", "NOT"):
                return {"$not": self._factor()}
            if self._takes("sign", "("):
                found = self._junction("OR", "$or")
                if not self._takes("sign", ")"):
                    raise self._expected("`)`")
                return found
            return self._condition()
        finally:
            self._depth -= 1

    def _condition(self) -> JsonValue:
        kind, text, _ = self._next("a field such as tags.site")
        if kind not in ("bare", "quoted") or (kind == "bare" and text in _WORDS):
            self._at -= 1
            raise self._expected("a field such as tags.site")
        field = json.loads(text) if kind == "quoted" else text
        kind, sign, _ = self._next("`:`, `!=`, `<`, `<=`, `>`, `>=` or `~`")
        if kind != "operator":
            self._at -= 1
            raise self._expected("`:`, `!=`, `<`, `<=`, `>`, `>=` or `~`")
        operator = _OPERATORS[sign]
        if operator in ("$eq", "$ne") and self._takes("sign", "("):
            return {field: {"$in" if operator == "$eq" else "$nin": self._list()}}
        if operator in ("$eq", "$ne") and self._takes("bare", "*"):
            return {field: {"$exists": operator == "$eq"}}
        value = self._value()
        return {field: value} if operator == "$eq" else {field: {operator: value}}

    def _list(self) -> list[JsonValue]:
        values: list[JsonValue] = []
        if self._takes("sign", ")"):
            return values
        while True:
            values.append(self._value())
            if self._takes("sign", ")"):
                return values
            if not self._takes("sign", ","):
                raise self._expected("`,` or `)`")

    def _value(self) -> JsonValue:
        kind, text, position = self._next("a value")
        if kind == "quoted":
            try:
                found: JsonValue = json.loads(text, strict=False)
            except ValueError:
                raise QueryTextInvalid(position, 'after `\\` stands `"`, `\\` or n') from None
            return found
        if kind == "template":
            return text
        if kind != "bare":
            self._at -= 1
            raise self._expected("a value")
        if text in ("true", "false"):
            return text == "true"
        if _NUMBER.fullmatch(text) and len(text) <= 40:
            number: JsonValue = json.loads(text)
            return number
        return text

    @property
    def _position(self) -> int:
        return self.tokens[self._at][2] if self._at < len(self.tokens) else self._end

    def _takes(self, kind: str, text: str) -> bool:
        if self._at < len(self.tokens) and self.tokens[self._at][:2] == (kind, text):
            self._at += 1
            return True
        return False

    def _next(self, wanted: str) -> Token:
        if self._at >= len(self.tokens):
            raise self._expected(wanted)
        self._at += 1
        return self.tokens[self._at - 1]

    def _expected(self, wanted: str) -> QueryTextInvalid:
        found = "the end"
        if self._at < len(self.tokens):
            found = f"`{self.tokens[self._at][1][:40]}`"
        return QueryTextInvalid(self._position, f"{wanted} is expected, not {found}")


def to_text(query: Query) -> str:
    """The short form of a query; `parse_text` reads it back to one of the same meaning."""
    return "" if query == And(()) else _written(query, top=True)


def _written(query: Query, *, top: bool = False) -> str:
    match query:
        case And(parts) | Or(parts):
            if not parts:
                return "(id:* OR NOT id:*)"
            word = " AND " if isinstance(query, And) else " OR "
            text = word.join(_written(part) for part in parts)
            return text if top or len(parts) == 1 else f"({text})"
        case Not(part):
            return f"NOT {_written(part)}"
        case Compare(path, operator, value):
            return f"{_field(path)}{_SIGNS[operator]}{_value_text(value)}"
        case In(path, values):
            return f"{_field(path)}:({', '.join(map(_value_text, values))})"
        case Exists(path):
            return f"{_field(path)}:*"
        case Like(path, pattern):
            return f"{_field(path)}~{_value_text(pattern)}"
        case Member(groups):
            if len(groups) == 1:
                return f"group:{_value_text(groups[0])}"
            return f"group:({', '.join(map(_value_text, groups))})"
        case _:
            assert_never(query)


def _field(path: Path) -> str:
    text = ".".join(path)
    return text if _SAFE.fullmatch(text) and text not in _WORDS else f'"{text}"'


def _value_text(value: Scalar) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    is_plain = _SAFE.fullmatch(value) and value not in ("*", "true", "false", *_WORDS)
    return value if is_plain and not _NUMBER.fullmatch(value) else json.dumps(value)
