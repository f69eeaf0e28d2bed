"""Waiting for a condition with a deadline: what a test does instead of sleeping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_LOOK_AGAIN_AFTER_S = 0.02


class WaitedTooLong(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(
    predicate: Callable[[], T], deadline_s: float = 20.0, message: str | Callable[[], str] = ""
) -> T:
    """Return the first truthy value of `predicate`.

    `message` says what was hoped for; a callable is asked at the end, so it can show the state.
    Raises WaitedTooLong after `deadline_s` seconds. Exceptions of `predicate` pass through.
    """
    until = time.monotonic() + deadline_s
    while True:
        late = time.monotonic() > until  # asked before looking: the last look is always a full one
        value = predicate()
        if value:
            return value
        if late:
            raise _too_long(deadline_s, message, value)
        time.sleep(_LOOK_AGAIN_AFTER_S)


async def wait_until_async(
    predicate: Callable[[], T] | Callable[[], Awaitable[T]],
    deadline_s: float = 20.0,
    message: str | Callable[[], str] = "",
) -> T:
    """As `wait_until`, on the running loop's clock; `predicate` may be a coroutine function."""
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline_s
    while True:
        late = loop.time() > until
        found = predicate()
        value: T = await found if isinstance(found, Awaitable) else found
        if value:
            return value
        if late:
            raise _too_long(deadline_s, message, value)
        await asyncio.sleep(_LOOK_AGAIN_AFTER_S)


def _too_long(deadline_s: float, message: str | Callable[[], str], last: object) -> WaitedTooLong:
    text = message() if callable(message) else message
    return WaitedTooLong(f"not within {deadline_s:g} s: {text or 'condition'} (last: {last!r})")
