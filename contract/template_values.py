"""The values of the template dialect: what is missing, what things weigh, and their operators.

Everything here is bounded by a budget, so no template and no data can take long or fill memory.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

MAX_WEIGHT: Final = 1_000_000
MAX_WORK: Final = 4_000_000
MAX_RANGE: Final = 10_000
MAX_BITS: Final = 1_024
MAX_VALUE_DEPTH: Final = 64


class Refused(Exception):
    """An operation that the dialect does not perform; the text says why."""


class Malformed(Exception):
    """The text is no template; `offset` is where, in characters from its start."""

    def __init__(self, reason: str, offset: int) -> None:
        self.reason = reason
        self.offset = offset
        super().__init__(reason)


class Missing:
    """Stands for a name or a key that is not there; only `default` and `is defined` accept it."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Budget:
    """How much work one rendering may still do, in items and letters touched."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_WORK

    def charge(self, work: int) -> None:
        self.left -= work
        if self.left < 0:
            raise Refused("the template does too much work")

    def weigh(self, value: Any) -> int:
        """Count the items and letters of a value, and charge for them."""
        total = 0
        waiting = [value]
        while waiting:
            item = waiting.pop()
            total += 1
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, list):
                total += len(item)
                waiting.extend(item)
            elif isinstance(item, dict):
                total += sum(map(len, item))
                waiting.extend(item.values())
            if total + len(waiting) > MAX_WEIGHT:
                raise Refused(f"a value weighs more than {MAX_WEIGHT:,} items and letters")
        self.charge(total)
        return total

    def allow(self, weight: int) -> None:
        """Refuse a value that would weigh too much, before it is made."""
        if weight > MAX_WEIGHT:
            raise Refused(f"a value would weigh more than {MAX_WEIGHT:,} items and letters")
        self.charge(max(weight, 0))


Scope: TypeAlias = Mapping[str, Any]
Evaluate: TypeAlias = Callable[[Scope, Budget], Any]


def attribute(value: Any, key: Any) -> Any:
    """Read a key of an object or an index of a list; never an attribute of a Python value."""
    if isinstance(value, Missing):
        return value
    if isinstance(value, dict):
        if isinstance(key, str) and key in value:
            return value[key]
        return Missing(f"there is no key `{str(key)[:60]}`{_among(value)}")
    if isinstance(value, list | str) and type(key) is int:
        if -len(value) <= key < len(value):
            return value[key]
        return Missing(f"there is no index {key} in {kind(value)} of length {len(value)}")
    return Missing(f"{kind(value)} has no `{str(key)[:60]}`")


def _among(value: dict[str, Any]) -> str:
    return f" (keys: {', '.join(str(key)[:40] for key in list(value)[:12])})" if value else ""


def kind(value: Any) -> str:
    """Name the kind of a value in the words of JSON."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
    return "a value that is not JSON"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def text_of(value: Any, budget: Budget) -> str:
    """Write a value as text: a text as it is, anything else as compact JSON."""
    if isinstance(value, str):
        budget.allow(len(value))
        return str(value)
    budget.weigh(value)
    return json.dumps(detached(value, budget), ensure_ascii=False, separators=(",", ":"))


def detached(value: Any, budget: Budget, depth: int = 0) -> Any:
    """Copy a result to plain JSON values that share nothing with the scope."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _sendable(str(value), budget)
    if isinstance(value, int):
        return number(int(value))
    if isinstance(value, float):
        return number(float(value))
    if depth >= MAX_VALUE_DEPTH:
        raise Refused(f"a value is nested deeper than {MAX_VALUE_DEPTH} levels")
    if isinstance(value, list):
        budget.charge(len(value))
        return [detached(item, budget, depth + 1) for item in value]
    if isinstance(value, dict):
        budget.charge(len(value))
        return {
            _sendable(str(key), budget): detached(item, budget, depth + 1)
            for key, item in value.items()
        }
    raise Refused("the result is not a JSON value")


def _sendable(text: str, budget: Budget) -> str:
    budget.charge(1)
    if not text.isascii():
        text.encode()  # a lone surrogate is a ValueError here, and an accident anywhere later
    return text


def number(value: Any) -> Any:
    """Pass a number on if it is finite and of a sane size."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("the number is not finite")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise Refused("the number is too large")
    return value


def _numbers(name: str, left: Any, right: Any) -> None:
    if not (is_number(left) and is_number(right)):
        raise Refused(f"`{name}` does not take {kind(left)} and {kind(right)}")
    number(left)
    number(right)


def add(left: Any, right: Any, budget: Budget) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        budget.allow(len(left) + len(right))
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        budget.allow(len(left) + len(right))
        return left + right
    _numbers("+", left, right)
    return number(left + right)


def multiply(left: Any, right: Any, budget: Budget) -> Any:
    if type(left) is int and isinstance(right, str | list):
        left, right = right, left
    if isinstance(left, str | list) and type(right) is int:
        times = max(number(right), 0)
        budget.allow(budget.weigh(left) * times)
        return left * times
    _numbers("*", left, right)
    return number(left * right)


def power(left: Any, right: Any, budget: Budget) -> Any:
    _numbers("**", left, right)
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        if left not in (-1, 0, 1) and left.bit_length() * right > 2 * MAX_BITS:
            raise Refused("the number is too large")
        if left in (-1, 0, 1):
            right = 2 - right % 2
    elif abs(right) > MAX_BITS:
        raise Refused("the exponent is too large")
    result = left**right
    if isinstance(result, complex):
        raise Refused("the result is not a real number")
    return number(result)


def _plain(name: str, compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Budget], Any]:
    def operate(left: Any, right: Any, budget: Budget) -> Any:
        _numbers(name, left, right)
        return number(compute(left, right))

    return operate


subtract: Final = _plain("-", lambda left, right: left - right)
divide: Final = _plain("/", lambda left, right: left / right)
divide_whole: Final = _plain("//", lambda left, right: left // right)
remainder: Final = _plain("%", lambda left, right: left % right)


def contains(item: Any, container: Any, budget: Budget) -> bool:
    """Say whether a list holds an item, an object a key, or a text a part."""
    if isinstance(container, str):
        if not isinstance(item, str):
            raise Refused(f"a text cannot hold {kind(item)}")
        budget.charge(len(container))
        return item in container
    if isinstance(container, dict):
        return isinstance(item, str) and item in container
    if isinstance(container, list):
        budget.weigh(container)
        budget.weigh(item)
        return item in container
    raise Refused(f"`in` does not look into {kind(container)}")


def equal(left: Any, right: Any, budget: Budget) -> bool:
    if isinstance(left, list | dict) and isinstance(right, list | dict):
        budget.weigh(left)
    return bool(left == right)


def ordered(left: Any, right: Any) -> None:
    """Refuse to order what has no common order."""
    if is_number(left) and is_number(right):
        return
    if isinstance(left, str) and isinstance(right, str):
        return
    raise Refused(f"{kind(left)} and {kind(right)} have no order")


def less(left: Any, right: Any, budget: Budget) -> bool:
    ordered(left, right)
    return bool(left < right)


def less_or_equal(left: Any, right: Any, budget: Budget) -> bool:
    ordered(left, right)
    return bool(left <= right)


def greater(left: Any, right: Any, budget: Budget) -> bool:
    return less(right, left, budget)


def greater_or_equal(left: Any, right: Any, budget: Budget) -> bool:
    return less_or_equal(right, left, budget)
