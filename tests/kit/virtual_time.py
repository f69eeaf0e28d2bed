"""An asyncio loop whose clock jumps to the next timer. Sockets work; waiting threads do not."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:  # no timers: only I/O can wake us
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.now += max(timeout, 0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its `time()` starts at 0.0 and moves only when every task waits for a timer."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a fresh loop; an hour of timeouts takes milliseconds."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def virtual_now(start: datetime) -> datetime:
    """The wall clock that belongs to the running loop: `start` plus what it has jumped over."""
    return start + timedelta(seconds=asyncio.get_running_loop().time())
