"""Runs a program that the settings name: no shell, bounded in time and output, ended as a group."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.errors import ReplyGarbled, StepInvalid

MAX_LINE: Final = 64 * 1024
MAX_OUTPUT: Final = 1 << 20
MAX_COMPLAINT: Final = 2_000
STDOUT: Final = 1
LAST_WORDS_S: Final = 1.0
GONE_WITHIN_S: Final = 5.0
# The gateway's own settings, which may hold secrets, and what tests arm it with.
NOT_HANDED_ON: Final = "ROUNDSMAN_"


@dataclass(frozen=True)
class Ended:
    """How a program ended: `code` is its exit code, minus a signal's number; its last words."""

    code: int
    complaint: str


async def run_program(
    command: Sequence[str],
    on_line: Callable[[bytes], None],
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run it to its end; `on_line` takes each line of its output, without the newline.

    `environment` is this process's if not given, without our own settings. Raises StepInvalid
    when it cannot be started, and ReplyGarbled when it says too much or takes too long: then it
    and all that it started is killed, as it is when this is cancelled.
    """
    given = os.environ if environment is None else environment
    inherited = {name: v for name, v in given.items() if not name.startswith(NOT_HANDED_ON)}
    name = os.path.basename(command[0])
    loop = asyncio.get_running_loop()
    try:
        transport, said = await loop.subprocess_exec(
            lambda: _Said(on_line, loop.create_future(), loop.create_future()),
            *command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=inherited,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise StepInvalid(f"{name} cannot be started: {error}", "verb_unsupported") from error
    pid = transport.get_pid()
    try:
        async with asyncio.timeout(timeout_s):
            await said.ended
    except TimeoutError:
        raise ReplyGarbled(f"{name} did not end within {timeout_s:.0f} s") from None
    finally:
        # Also after a good end: what it may have left in the background is of no use.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_WITHIN_S):
                await asyncio.shield(said.gone)
        transport.close()
    if said.is_too_much:
        raise ReplyGarbled(f"{name} says too much")
    said.end_line()
    code = transport.get_returncode()
    return Ended(-1 if code is None else code, " ".join(said.tail.decode(errors="replace").split()))


class _Said(asyncio.SubprocessProtocol):
    """What it says: whole lines are handed on, and of its complaints the last is kept."""

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        ended: asyncio.Future[None],
        gone: asyncio.Future[None],
    ) -> None:
        self.ended = ended
        self.gone = gone
        self.tail = bytearray()
        self.is_too_much = False
        self._on_line = on_line
        self._rest = b""
        self._left = MAX_OUTPUT

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if self.ended.done():
            return
        self._left -= len(data)
        if fd != STDOUT:
            self.tail.extend(data)
            del self.tail[:-MAX_COMPLAINT]
        else:
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                self._on_line(line)
        if self._left < 0 or len(self._rest) > MAX_LINE:
            self.is_too_much = True
            self._end()

    def end_line(self) -> None:
        """The last line has no newline."""
        if self._rest:
            self._on_line(self._rest)

    def process_exited(self) -> None:
        # Its children may hold the pipes open, so what is in them by now is all there is.
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and both pipes are closed."""
        self._end()
        if not self.gone.done():
            self.gone.set_result(None)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
