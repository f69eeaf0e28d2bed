"""One expression, parsed by Jinja and compiled by us. Jinja only parses.

What its tree may hold and means stands in the compiler; nesting is bounded before the parser sees
the expression.
"""

from typing import Final

from jinja2 import Environment, TemplateSyntaxError
from jinja2.parser import Parser

from contract.template_compiler import Compiler
from contract.template_values import Evaluate, Malformed

MAX_TOKENS: Final = 600
_ENVIRONMENT: Final = Environment(optimized=False, autoescape=False)  # it only parses


def parse(source: str, max_nesting: int) -> tuple[Compiler, Evaluate]:
    """The compiled expression, and the compiler, which knows what it reads. Raises Malformed."""
    try:
        _bound_tokens(source, max_nesting)
        parser = Parser(_ENVIRONMENT, source, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise Malformed(f"unexpected `{parser.stream.current.value}`", 0)
        compiler = Compiler()
        return compiler, compiler.present(tree)
    except TemplateSyntaxError as error:
        raise Malformed(str(error.message), 0) from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise Malformed(f"not an expression: {error}"[:200], 0) from error


_OPENING: Final = frozenset({"lparen", "lbracket", "lbrace"})
_CLOSING: Final = frozenset({"rparen", "rbracket", "rbrace"})


def _bound_tokens(source: str, max_nesting: int) -> None:
    depth = conditions = prefixes = 0
    stream = _ENVIRONMENT.lexer.tokenize(source, state="variable")
    for count, token in enumerate(stream):
        depth += (token.type in _OPENING) - (token.type in _CLOSING)
        conditions += token.test("name:if")
        prefixes = prefixes + 1 if token.type in ("sub", "add") or token.test("name:not") else 0
        if depth > max_nesting or prefixes > max_nesting or conditions > max_nesting:
            raise Malformed(f"nested deeper than {max_nesting}", 0)
        if count >= MAX_TOKENS:
            raise Malformed(f"an expression has at most {MAX_TOKENS} words and signs", 0)
