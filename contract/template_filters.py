"""The filters, tests and functions of the template dialect: a closed list, each one bounded.

Every filter is called with the budget, the value and its arguments, and returns a JSON value.
"""

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, Final

from contract import template_values as values
from contract.template_values import Budget, Missing, Refused, is_number, kind

_ABSENT: Final = Missing("no default")


def _text(name: str, value: Any, budget: Budget) -> str:
    if not isinstance(value, str):
        raise Refused(f"`{name}` takes a text, not {kind(value)}")
    budget.charge(len(value))
    return value


def _items(name: str, value: Any, budget: Budget) -> list[Any]:
    if isinstance(value, list):
        budget.charge(len(value))
        return value
    if isinstance(value, dict):
        budget.charge(len(value))
        return list(value)
    if isinstance(value, str):
        budget.charge(len(value))
        return list(value)
    raise Refused(f"`{name}` takes a list, not {kind(value)}")


def _default(budget: Budget, value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    return default_value if isinstance(value, Missing) or (boolean and not value) else value


def _lower(budget: Budget, value: Any) -> str:
    return _text("lower", value, budget).lower()


def _upper(budget: Budget, value: Any) -> str:
    return _text("upper", value, budget).upper()


def _capitalize(budget: Budget, value: Any) -> str:
    return _text("capitalize", value, budget).capitalize()


def _trim(budget: Budget, value: Any, chars: Any = None) -> str:
    return _text("trim", value, budget).strip(
        None if chars is None else _text("trim", chars, budget)
    )


def _replace(budget: Budget, value: Any, old: Any, new: Any, count: Any = None) -> str:
    text, old = _text("replace", value, budget), _text("replace", old, budget)
    new = _text("replace", new, budget)
    if not old:
        raise Refused("`replace` needs a text to look for")
    found = text.count(old)
    if count is not None:
        found = min(found, max(_whole("replace", count), 0))
    budget.allow(len(text) + found * max(len(new) - len(old), 0))
    return text.replace(old, new, found)


def _split(budget: Budget, value: Any, separator: Any = None) -> list[str]:
    text = _text("split", value, budget)
    budget.charge(len(text))
    if separator is None:
        return text.split()
    if not _text("split", separator, budget):
        raise Refused("`split` needs a separator")
    return text.split(separator)


def _length(budget: Budget, value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise Refused(f"{kind(value)} has no length")
    return len(value)


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"`{name}` takes a whole number, not {kind(value)}")
    return int(values.number(value))


def _int(budget: Budget, value: Any, default: Any = _ABSENT, base: Any = 10) -> Any:
    try:
        if isinstance(value, str):
            if len(value) > 400 or not 2 <= _whole("int", base) <= 36:
                raise ValueError
            digits = value.strip()
            if base == 10 and any(letter in ".eE" for letter in digits):
                return values.number(int(float(digits)))
            return values.number(int(digits, base))
        if isinstance(value, int | float):
            return values.number(int(value))
    except (ValueError, OverflowError):
        pass
    return _otherwise("a whole number", value, default)


def _float(budget: Budget, value: Any, default: Any = _ABSENT) -> Any:
    try:
        if isinstance(value, str | int | float) and (
            not isinstance(value, str) or len(value) < 400
        ):
            return values.number(float(value))
    except (ValueError, OverflowError):
        pass
    return _otherwise("a number", value, default)


def _otherwise(wanted: str, value: Any, default: Any) -> Any:
    # Jinja makes 0 of what is no number. A wrong number is worse than a failed step.
    if default is _ABSENT:
        shown = f" `{value[:40]}`" if isinstance(value, str) else ""
        raise Refused(f"{kind(value)}{shown} is not {wanted}")
    return default


def _string(budget: Budget, value: Any) -> str:
    return values.text_of(value, budget)


def _abs(budget: Budget, value: Any) -> Any:
    if not is_number(value):
        raise Refused(f"`abs` takes a number, not {kind(value)}")
    return abs(value)


def _round(budget: Budget, value: Any, precision: Any = 0, method: Any = "common") -> Any:
    if not is_number(value) or not -15 <= _whole("round", precision) <= 15:
        raise Refused("`round` takes a number and a precision from -15 to 15")
    values.number(value)
    if method == "common":
        result = round(value, precision)
    elif method in ("ceil", "floor"):
        step = math.ceil if method == "ceil" else math.floor
        result = step(value * 10**precision) / 10**precision
    else:
        raise Refused("`round` knows the methods common, ceil and floor")
    return values.number(int(result) if precision <= 0 else float(result))


def _first(budget: Budget, value: Any) -> Any:
    return next(iter(_items("first", value, budget)), Missing("the list is empty"))


def _last(budget: Budget, value: Any) -> Any:
    return next(reversed(_items("last", value, budget)), Missing("the list is empty"))


def _join(budget: Budget, value: Any, separator: Any = "", attribute: Any = None) -> str:
    between = _text("join", separator, budget)
    found = _attributes(budget, _items("join", value, budget), attribute)
    texts = [values.text_of(item, budget) for item in found]
    budget.allow(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _attributes(budget: Budget, items: list[Any], name: Any, default: Any = _ABSENT) -> list[Any]:
    if name is None:
        return items
    return [present(follow(budget, item, name, default)) for item in items]


def follow(budget: Budget, item: Any, name: Any, default: Any = _ABSENT) -> Any:
    """Follow dotted keys (a text) or an index into one item."""
    keys = name.split(".") if isinstance(name, str) else [_whole("attribute", name)]
    budget.charge(len(keys))
    for key in keys:
        item = values.attribute(
            item,
            int(key)
            if isinstance(item, list) and str(key).isdecimal() and len(str(key)) < 9
            else key,
        )
    return default if isinstance(item, Missing) and default is not _ABSENT else item


def present(value: Any) -> Any:
    """Pass a value on; raises Refused for one that is missing."""
    if isinstance(value, Missing):
        raise Refused(value.reason)
    return value


def _sortable(budget: Budget, name: str, value: Any, attribute: Any) -> list[tuple[Any, Any]]:
    items = _items(name, value, budget)
    keys = _attributes(budget, items, attribute)
    budget.weigh(keys)
    for key in keys:
        values.ordered(keys[0], key)
    return list(zip(keys, items, strict=True))


def _sort(
    budget: Budget,
    value: Any,
    reverse: Any = False,
    case_sensitive: Any = False,
    attribute: Any = None,
) -> list[Any]:
    pairs = _sortable(budget, "sort", value, attribute)
    if not case_sensitive:
        pairs = [(key.lower() if isinstance(key, str) else key, item) for key, item in pairs]
    pairs.sort(key=lambda pair: pair[0], reverse=bool(reverse))
    return [item for _, item in pairs]


def _least(budget: Budget, value: Any, attribute: Any = None) -> Any:
    pairs = _sortable(budget, "min", value, attribute)
    return min(pairs, key=lambda pair: pair[0])[1] if pairs else Missing("the list is empty")


def _most(budget: Budget, value: Any, attribute: Any = None) -> Any:
    pairs = _sortable(budget, "max", value, attribute)
    return max(pairs, key=lambda pair: pair[0])[1] if pairs else Missing("the list is empty")


def _unique(budget: Budget, value: Any) -> list[Any]:
    items = _items("unique", value, budget)
    budget.weigh(items)
    seen: set[str] = set()
    found = []
    for item in items:
        key = json.dumps(values.detached(item, budget), sort_keys=True)
        if key not in seen:
            seen.add(key)
            found.append(item)
    return found


def _sum(budget: Budget, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    total = start
    for item in _attributes(budget, _items("sum", value, budget), attribute):
        if not (is_number(item) and is_number(total)):
            raise Refused(f"`sum` adds numbers, not {kind(item)}")
        total = values.add(total, item, budget)
    return total


def _list(budget: Budget, value: Any) -> list[Any]:
    return list(_items("list", value, budget))


def _reverse(budget: Budget, value: Any) -> Any:
    found = _items("reverse", value, budget)[::-1]
    return "".join(found) if isinstance(value, str) else found


def _object(name: str, value: Any, budget: Budget) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"`{name}` takes an object, not {kind(value)}")
    budget.charge(3 * len(value))
    return value


def _pairs(budget: Budget, value: Any) -> list[Any]:
    return [[key, item] for key, item in _object("items", value, budget).items()]


def _dictsort(budget: Budget, value: Any, reverse: Any = False) -> list[Any]:
    found = _object("dictsort", value, budget)
    return [[key, found[key]] for key in sorted(found, reverse=bool(reverse))]


def _keys(budget: Budget, value: Any) -> list[Any]:
    return list(_object("keys", value, budget))


def _values(budget: Budget, value: Any) -> list[Any]:
    return list(_object("values", value, budget).values())


def _tojson(budget: Budget, value: Any) -> str:
    budget.weigh(value)
    return json.dumps(values.detached(value, budget), ensure_ascii=False, separators=(",", ":"))


def _fromjson(budget: Budget, value: Any) -> Any:
    text = _text("fromjson", value, budget)
    budget.allow(len(text))
    try:
        return values.detached(json.loads(text), budget)
    except ValueError as error:
        raise Refused(f"the text is not JSON: {error}") from error


def _b64encode(budget: Budget, value: Any) -> str:
    text = _text("b64encode", value, budget)
    budget.allow(6 * len(text))
    return base64.b64encode(text.encode()).decode()


def _b64decode(budget: Budget, value: Any) -> str:
    try:
        return base64.b64decode(_text("b64decode", value, budget), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Refused("the text is not base64 of a UTF-8 text") from error


def _sha256(budget: Budget, value: Any) -> str:
    return hashlib.sha256(_text("sha256", value, budget).encode()).hexdigest()


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "abs": _abs, "b64decode": _b64decode, "b64encode": _b64encode, "capitalize": _capitalize,
    "count": _length, "d": _default, "default": _default, "dictsort": _dictsort, "first": _first,
    "float": _float, "fromjson": _fromjson, "int": _int, "items": _pairs, "join": _join,
    "keys": _keys, "last": _last, "length": _length, "list": _list, "lower": _lower, "max": _most,
    "min": _least, "replace": _replace, "reverse": _reverse, "round": _round, "sha256": _sha256,
    "sort": _sort, "split": _split, "string": _string, "sum": _sum, "tojson": _tojson,
    "trim": _trim, "unique": _unique, "upper": _upper, "values": _values,
}  # fmt: skip
PICKERS: Final = frozenset({"map", "select", "reject", "selectattr", "rejectattr"})
ACCEPT_MISSING: Final = frozenset({"default", "d"})


def _compared(check: Callable[[Any, Any, Budget], bool]) -> Callable[[Budget, Any, Any], bool]:
    return lambda budget, value, other: check(value, other, budget)


def _equal(budget: Budget, value: Any, other: Any) -> bool:
    return values.equal(value, other, budget)


def _divisible(budget: Budget, value: Any, by: Any) -> bool:
    return bool(values.remainder(value, by, budget) == 0)


_LESS: Final = _compared(values.less)
_LESS_OR_EQUAL: Final = _compared(values.less_or_equal)
_GREATER: Final = _compared(values.greater)
_GREATER_OR_EQUAL: Final = _compared(values.greater_or_equal)

TESTS: Final[dict[str, Callable[..., bool]]] = {
    "defined": lambda budget, value: not isinstance(value, Missing),
    "undefined": lambda budget, value: isinstance(value, Missing),
    "none": lambda budget, value: value is None,
    "null": lambda budget, value: value is None,
    "boolean": lambda budget, value: isinstance(value, bool),
    "true": lambda budget, value: value is True,
    "false": lambda budget, value: value is False,
    "number": lambda budget, value: is_number(value),
    "integer": lambda budget, value: type(value) is int,
    "float": lambda budget, value: isinstance(value, float),
    "string": lambda budget, value: isinstance(value, str),
    "mapping": lambda budget, value: isinstance(value, dict),
    "sequence": lambda budget, value: isinstance(value, list | str),
    "iterable": lambda budget, value: isinstance(value, list | str | dict),
    "even": lambda budget, value: _divisible(budget, value, 2),
    "odd": lambda budget, value: not _divisible(budget, value, 2),
    "divisibleby": _divisible,
    "in": lambda budget, value, container: values.contains(value, container, budget),
    "eq": _equal, "equalto": _equal, "==": _equal,
    "ne": lambda budget, value, other: not _equal(budget, value, other),
    "!=": lambda budget, value, other: not _equal(budget, value, other),
    "lt": _LESS, "lessthan": _LESS, "<": _LESS, "le": _LESS_OR_EQUAL, "<=": _LESS_OR_EQUAL,
    "gt": _GREATER, "greaterthan": _GREATER, ">": _GREATER,
    "ge": _GREATER_OR_EQUAL, ">=": _GREATER_OR_EQUAL,
}  # fmt: skip
TEST_MISSING: Final = frozenset({"defined", "undefined"})


def numbers_from(budget: Budget, start: Any, stop: Any = None, step: Any = 1) -> list[int]:
    """Make the list of whole numbers of Python's `range`, at most 10,000 of them."""
    if stop is None:
        start, stop = 0, start
    if _whole("range", step) == 0:
        raise Refused("the step of `range` is not 0")
    found = range(_whole("range", start), _whole("range", stop), step)
    if found and (found[-1] - found[0]) // step >= values.MAX_RANGE:
        raise Refused(f"`range` makes at most {values.MAX_RANGE:,} numbers")
    budget.allow(len(found))
    return list(found)


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {"range": numbers_from}
