"""Turns Jinja's tree of an expression into closures of our own, by a white list of its nodes.

No code is generated and no constant is folded, so nothing runs before a budget counts it.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from jinja2 import nodes

from contract import template_filters as filters
from contract import template_values as values
from contract.template_values import Budget, Evaluate, Malformed, Missing, Refused, Scope

MAX_TREE_DEPTH: Final = 80

_ARITHMETIC: Final[dict[type[nodes.BinExpr], Callable[[Any, Any, Budget], Any]]] = {
    nodes.Add: values.add,
    nodes.Sub: values.subtract,
    nodes.Mul: values.multiply,
    nodes.Div: values.divide,
    nodes.FloorDiv: values.divide_whole,
    nodes.Mod: values.remainder,
    nodes.Pow: values.power,
}
_COMPARISONS: Final[dict[str, Callable[[Any, Any, Budget], bool]]] = {
    "eq": values.equal,
    "ne": lambda left, right, budget: not values.equal(left, right, budget),
    "in": values.contains,
    "notin": lambda left, right, budget: not values.contains(left, right, budget),
    "lt": values.less,
    "lteq": values.less_or_equal,
    "gt": values.greater,
    "gteq": values.greater_or_equal,
}
_CONSTANTS: Final = {"null": None}


class Compiler:
    """Turns a Jinja tree into closures; whatever it does not name is refused."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.paths: set[tuple[str, ...]] = set()
        self._depth = 0

    def present(self, node: nodes.Node) -> Evaluate:
        """Compile a part whose value must be there."""
        inner = self.maybe(node)
        if not isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem | nodes.Filter):
            return inner

        def evaluate(scope: Scope, budget: Budget) -> Any:
            value = inner(scope, budget)
            if isinstance(value, Missing):
                raise Refused(value.reason)
            return value

        return evaluate

    def maybe(self, node: nodes.Node) -> Evaluate:
        """Compile a part whose value may be missing."""
        self._depth += 1
        if self._depth > MAX_TREE_DEPTH:
            raise Malformed("the expression is nested too deep", 0)
        try:
            return self._compile(node)
        finally:
            self._depth -= 1

    def _compile(self, node: nodes.Node) -> Evaluate:
        match node:
            case nodes.Const():
                return _constant(node.value)
            case nodes.Name():
                return self._name(node.name)
            case nodes.Getattr():
                return self._getattr(node)
            case nodes.Getitem():
                return self._getitem(node)
            case nodes.List() | nodes.Tuple():
                return _list(tuple(self.present(item) for item in node.items))
            case nodes.Dict():
                return self._dict(node)
            case nodes.And() | nodes.Or():
                return self._junction(node)
            case nodes.Not():
                part = self.present(node.node)
                return lambda scope, budget: not part(scope, budget)
            case nodes.Neg() | nodes.Pos():
                return self._signed(node)
            case nodes.CondExpr():
                return self._condition(node)
            case nodes.Compare():
                return self._compare(node)
            case nodes.Concat():
                return self._concat(node)
            case nodes.Filter():
                return self._filter(node)
            case nodes.Test():
                return self._test(node)
            case nodes.Call():
                return self._call(node)
            case nodes.BinExpr() if type(node) in _ARITHMETIC:
                return self._arithmetic(node)
        raise Malformed(f"`{type(node).__name__.lower()}` is not part of the dialect", 0)

    def _name(self, name: str) -> Evaluate:
        if name in _CONSTANTS:
            return _constant(_CONSTANTS[name])
        self.names.add(name)
        self.paths.add((name,))

        def evaluate(scope: Scope, budget: Budget) -> Any:
            if name in scope:
                return scope[name]
            known = ", ".join(sorted(map(str, scope))[:20])
            return Missing(f"there is no name `{name}` (names: {known})")

        return evaluate

    def _getattr(self, node: nodes.Getattr) -> Evaluate:
        if path := _path_of(node):
            self.paths.add(path)
        inner, key = self.maybe(node.node), node.attr
        return lambda scope, budget: values.attribute(inner(scope, budget), key)

    def _getitem(self, node: nodes.Getitem) -> Evaluate:
        inner = self.maybe(node.node)
        if isinstance(node.arg, nodes.Slice):
            return self._slice(inner, node.arg)
        if path := _path_of(node):
            self.paths.add(path)
        key = self.present(node.arg)
        return lambda scope, budget: values.attribute(inner(scope, budget), key(scope, budget))

    def _slice(self, inner: Evaluate, node: nodes.Slice) -> Evaluate:
        bounds = [
            self.present(b) if b else _constant(None) for b in (node.start, node.stop, node.step)
        ]

        def evaluate(scope: Scope, budget: Budget) -> Any:
            value = inner(scope, budget)
            if isinstance(value, Missing):
                return value
            if not isinstance(value, str | list):
                raise Refused(f"{values.kind(value)} has no parts from one index to another")
            found = [bound(scope, budget) for bound in bounds]
            if any(item is not None and type(item) is not int for item in found):
                raise Refused("an index is a whole number")
            budget.charge(len(value))
            return value[slice(*found)]

        return evaluate

    def _dict(self, node: nodes.Dict) -> Evaluate:
        pairs = tuple((self.present(pair.key), self.present(pair.value)) for pair in node.items)

        def evaluate(scope: Scope, budget: Budget) -> Any:
            found = {key(scope, budget): value(scope, budget) for key, value in pairs}
            if not all(isinstance(key, str) for key in found):
                raise Refused("the keys of an object are texts")
            return found

        return evaluate

    def _junction(self, node: nodes.And | nodes.Or) -> Evaluate:
        left, right = self.present(node.left), self.present(node.right)
        if isinstance(node, nodes.And):
            return lambda scope, budget: left(scope, budget) and right(scope, budget)
        return lambda scope, budget: left(scope, budget) or right(scope, budget)

    def _signed(self, node: nodes.Neg | nodes.Pos) -> Evaluate:
        part, sign = self.present(node.node), -1 if isinstance(node, nodes.Neg) else 1

        def evaluate(scope: Scope, budget: Budget) -> Any:
            value = part(scope, budget)
            if not values.is_number(value):
                raise Refused(f"{values.kind(value)} has no sign")
            return values.number(value * sign)

        return evaluate

    def _condition(self, node: nodes.CondExpr) -> Evaluate:
        if node.expr2 is None:
            raise Malformed("an `if` needs its `else`", 0)
        test = self.present(node.test)
        yes, no = self.present(node.expr1), self.present(node.expr2)
        return lambda scope, budget: (yes if test(scope, budget) else no)(scope, budget)

    def _compare(self, node: nodes.Compare) -> Evaluate:
        first = self.present(node.expr)
        rest = tuple((_COMPARISONS[op.op], self.present(op.expr)) for op in node.ops)

        def evaluate(scope: Scope, budget: Budget) -> bool:
            left = first(scope, budget)
            for holds, operand in rest:
                right = operand(scope, budget)
                if not holds(left, right, budget):
                    return False
                left = right
            return True

        return evaluate

    def _concat(self, node: nodes.Concat) -> Evaluate:
        parts = tuple(self.present(part) for part in node.nodes)

        def evaluate(scope: Scope, budget: Budget) -> str:
            texts = [values.text_of(part(scope, budget), budget) for part in parts]
            budget.allow(sum(map(len, texts)))
            return "".join(texts)

        return evaluate

    def _arithmetic(self, node: nodes.BinExpr) -> Evaluate:
        compute = _ARITHMETIC[type(node)]
        left, right = self.present(node.left), self.present(node.right)
        return lambda scope, budget: compute(left(scope, budget), right(scope, budget), budget)

    def _filter(self, node: nodes.Filter) -> Evaluate:
        if node.node is None or node.dyn_args or node.dyn_kwargs:
            raise Malformed("a filter takes a value and plain arguments", 0)
        if node.name in filters.PICKERS:
            return self._picker(node)
        function = _known("filter", node.name, filters.FILTERS)
        lenient = node.name in filters.ACCEPT_MISSING
        value = self.maybe(node.node) if lenient else self.present(node.node)
        return self._applied(node.name, function, value, node.args, node.kwargs)

    def _test(self, node: nodes.Test) -> Evaluate:
        if node.dyn_args or node.dyn_kwargs:
            raise Malformed("a test takes plain arguments", 0)
        function = _known("test", node.name, filters.TESTS)
        lenient = node.name in filters.TEST_MISSING
        value = self.maybe(node.node) if lenient else self.present(node.node)
        return self._applied(node.name, function, value, node.args, node.kwargs)

    def _call(self, node: nodes.Call) -> Evaluate:
        if not isinstance(node.node, nodes.Name) or node.node.name not in filters.FUNCTIONS:
            raise Malformed(
                "only `range(...)` can be called; the rest are filters: {{ value | items }}",
                0,
            )
        if node.dyn_args or node.dyn_kwargs or node.kwargs or not node.args:
            raise Malformed("`range` takes one to three numbers", 0)
        name = node.node.name
        first = self.present(node.args[0])
        return self._applied(name, filters.FUNCTIONS[name], first, node.args[1:], [])

    def _applied(
        self,
        name: str,
        function: Callable[..., Any],
        value: Evaluate,
        args: list[nodes.Expr],
        kwargs: Sequence[nodes.Keyword | nodes.Pair],
    ) -> Evaluate:
        given = tuple(self.present(arg) for arg in args)
        named = tuple((str(pair.key), self.present(pair.value)) for pair in kwargs)
        _check_call(name, function, len(given), [key for key, _ in named])
        if not given and not named:
            return lambda scope, budget: function(budget, value(scope, budget))

        def evaluate(scope: Scope, budget: Budget) -> Any:
            return function(
                budget,
                value(scope, budget),
                *[arg(scope, budget) for arg in given],
                **{key: arg(scope, budget) for key, arg in named},
            )

        return evaluate

    def _picker(self, node: nodes.Filter) -> Evaluate:
        # map('upper'), map(attribute='a.b', default=0), select('gt', 3), selectattr('on', 'eq', 1)
        value = self.present(node.node)  # type: ignore[arg-type]  # checked by _filter
        named = {str(pair.key): self.present(pair.value) for pair in node.kwargs}
        args = list(node.args)
        by_attribute = node.name.endswith("attr") or bool(named)
        key: Evaluate = _constant(None)
        default = named.pop("default", None)
        if node.name.endswith("attr"):
            if not args or named or default:
                raise Malformed(f"`{node.name}` takes a key, and a test with its arguments", 0)
            key = self.present(args.pop(0))
        elif node.name == "map" and by_attribute:
            found = named.pop("attribute", None)
            if found is None or named or args:
                raise Malformed("`map` takes a filter's name, or attribute= and default=", 0)
            key = found
        elif named or default:
            raise Malformed(f"`{node.name}` takes no named arguments", 0)
        apply = self._applied_to_each(node.name, args)
        keep, absent = not node.name.startswith("reject"), default
        mapping = node.name == "map"

        def evaluate(scope: Scope, budget: Budget) -> list[Any]:
            items = filters.FILTERS["list"](budget, value(scope, budget))
            name = key(scope, budget) if by_attribute else None
            if by_attribute and not isinstance(name, str | int):
                raise Refused("an attribute is named by a text")
            found = []
            for item in items:
                budget.charge(10)
                part = filters.follow(budget, item, name) if by_attribute else item
                if absent is not None and isinstance(part, Missing):
                    part = absent(scope, budget)
                result = apply(scope, budget, part)
                if mapping:
                    found.append(filters.present(result))
                elif bool(result) is keep:
                    found.append(item)
            return found

        return evaluate

    def _applied_to_each(
        self, picker: str, args: list[nodes.Expr]
    ) -> Callable[[Scope, Budget, Any], Any]:
        if not args:
            if picker in ("map", "select", "reject"):
                return lambda scope, budget, item: item
            return lambda scope, budget, item: False if isinstance(item, Missing) else item
        first = args[0]
        if not isinstance(first, nodes.Const) or not isinstance(first.value, str):
            raise Malformed(f"`{picker}` names its filter or test as a text in quotes", 0)
        name, what = first.value, "filter" if picker == "map" else "test"
        table = filters.FILTERS if picker == "map" else filters.TESTS
        function = _known(what, name, table)
        given = tuple(self.present(arg) for arg in args[1:])
        _check_call(name, function, len(given), [])
        lenient = name in filters.ACCEPT_MISSING or name in filters.TEST_MISSING

        def apply(scope: Scope, budget: Budget, item: Any) -> Any:
            value = item if lenient else filters.present(item)
            return function(budget, value, *[arg(scope, budget) for arg in given])

        return apply


def _constant(value: Any) -> Evaluate:
    if isinstance(value, str) and not value.isascii():
        value.encode()  # a lone surrogate is a ValueError, and no text anybody can send
    try:
        values.number(value)
    except Refused as error:
        raise Malformed(str(error), 0) from error
    return lambda scope, budget: value


def _list(items: tuple[Evaluate, ...]) -> Evaluate:
    return lambda scope, budget: [item(scope, budget) for item in items]


def _path_of(node: nodes.Node) -> tuple[str, ...]:
    keys: list[str] = []
    while not isinstance(node, nodes.Name):
        if isinstance(node, nodes.Getattr):
            keys.append(node.attr)
            node = node.node
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            keys.append(str(node.arg.value))
            node = node.node
        else:
            return ()
    return (node.name, *reversed(keys))


def _known(what: str, name: str, table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if name not in table:
        raise Malformed(f"there is no {what} `{name[:40]}` (known: {', '.join(sorted(table))})", 0)
    return table[name]


def _check_call(name: str, function: Callable[..., Any], given: int, named: list[str]) -> None:
    if any(left == right for left, right in pairwise(sorted(named))):
        raise Malformed(f"`{name}` is given an argument twice", 0)
    try:
        inspect.signature(function).bind(*[None] * (given + 2), **dict.fromkeys(named))
    except TypeError as error:
        raise Malformed(f"`{name}`: {error}", 0) from error
