"""From template text to compiled parts: find the expressions, bound them, have them compiled.

Sizes are bounded before a parser sees a text. The parser is imported with the first expression.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from contract.template_values import Evaluate, Malformed

MAX_TEXT: Final = 262_144
MAX_EXPRESSION: Final = 4_000
MAX_EXPRESSIONS: Final = 200
MAX_NESTING: Final = 16


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression, the names it reads, and every dotted path it begins with a name."""

    evaluate: Evaluate
    names: frozenset[str]
    paths: frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Template:
    """The literal and the compiled parts of a text, in order."""

    parts: tuple[str | Expression, ...]


@lru_cache(maxsize=1024)
def template(text: str) -> Template:
    """Compile a text with `{{ }}` in it; raises Malformed."""
    if len(text) > MAX_TEXT:
        raise Malformed(f"a template has at most {MAX_TEXT:,} characters", 0)
    parts: list[str | Expression] = []
    position = 0
    trim = False
    while True:
        begin = text.find("{{", position)
        literal = text[position : begin if begin >= 0 else len(text)]
        _only_text(literal, position)
        if trim:
            literal = literal.lstrip()
        if begin < 0:
            parts.append(literal)
            return Template(tuple(part for part in parts if part != ""))
        end = _end_of_expression(text, begin + 2)
        source = text[begin + 2 : end]
        trim = source.endswith("-")
        if source.startswith("-"):
            literal, source = literal.rstrip(), source[1:]
        parts.append(literal)
        try:
            parts.append(expression(source.removesuffix("-") if trim else source))
        except Malformed as error:
            raise Malformed(error.reason, begin) from error
        if len(parts) > 2 * MAX_EXPRESSIONS:
            raise Malformed(f"a text has at most {MAX_EXPRESSIONS} expressions", begin)
        position = end + 2


def _only_text(literal: str, offset: int) -> None:
    for mark, meaning in (("{%", "statements"), ("{#", "comments")):
        found = literal.find(mark)
        if found >= 0:
            reason = f"templates have no {meaning}; for the text `{mark}` write {{{{ '{mark}' }}}}"
            raise Malformed(reason, offset + found)


_STEP: Final = re.compile(r"""[^'"(\[{}\])]*(?:('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(.))?""", re.S)


def _end_of_expression(text: str, begin: int) -> int:
    limit = begin + MAX_EXPRESSION
    position, depth = begin, 0
    while position < len(text):
        match = _STEP.match(text, position, min(len(text), limit + 2))
        if match is None or match.end() > limit + 1:
            break
        mark = match[2]
        if mark is None and match[1] is None:
            break
        if mark and mark in "'\"":
            raise Malformed("a text in quotes is not closed", match.start(2))
        if mark == "}" and depth == 0:
            if text.startswith("}}", match.start(2)):
                return match.start(2)
            raise Malformed("a `}` too many", match.start(2))
        if mark:
            depth += 1 if mark in "([{" else -1
            if depth > MAX_NESTING:
                raise Malformed(f"brackets nested deeper than {MAX_NESTING}", match.start(2))
        position = match.end()
    if len(text) > limit:
        raise Malformed(f"no `}}}}` within {MAX_EXPRESSION:,} characters", begin - 2)
    raise Malformed("`{{` without `}}`", begin - 2)


_ESCAPE: Final = re.compile(r"\\(?![\\'\"nrtbfva/0xuU])(.?)", re.S)
_STRING: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.S)


@lru_cache(maxsize=2048)
def expression(source: str) -> Expression:
    """Compile one expression without its braces; raises Malformed."""
    if len(source) > MAX_EXPRESSION:
        raise Malformed(f"an expression has at most {MAX_EXPRESSION:,} characters", 0)
    if not source.strip():
        raise Malformed("the expression is empty", 0)
    for quoted in _STRING.finditer(source):
        # Python warns of these, and may one day refuse them.
        wrong = re.sub(r"\\\\", "  ", quoted[0])
        if found := _ESCAPE.search(wrong):
            raise Malformed(f"unknown escape `{found[0]}`; write a backslash twice", quoted.start())
    # Jinja's two megabytes and 40 ms are left to those who have an expression.
    from contract.template_parser import parse

    compiler, evaluate = parse(source, MAX_NESTING)
    return Expression(evaluate, frozenset(compiler.names), frozenset(compiler.paths))
