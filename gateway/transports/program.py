"""Runs a program that the settings name: no shell, bounded in time and output, ended as a group."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.errors import ReplyGarbled, StepInvalid

MAX_LINE: Final = 64 * 1024
MAX_OUTPUT: Final = 1 << 20
MAX_COMPLAINT: Final = 2_000
CHUNK: Final = 16 * 1024
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
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=inherited,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise StepInvalid(f"{name} cannot be started: {error}", "verb_unsupported") from error
    try:
        async with asyncio.timeout(timeout_s):
            complaint = await _followed(process, name, on_line)
            code = await process.wait()
    except TimeoutError:
        raise ReplyGarbled(f"{name} did not end within {timeout_s:.0f} s") from None
    finally:
        # Also after a good end: what it may have left in the background is of no use.
        _kill_group(process)
        if process.returncode is None:
            await asyncio.shield(process.wait())
    return Ended(code, complaint)


async def _followed(process: Process, name: str, on_line: Callable[[bytes], None]) -> str:
    """Read both outputs to their ends; the last of what it says on stderr."""
    assert process.stdout is not None and process.stderr is not None
    tail = bytearray()

    async def complaints(stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(CHUNK):
            tail.extend(chunk)
            del tail[:-MAX_COMPLAINT]

    async def lines(stream: asyncio.StreamReader) -> None:
        rest, total = b"", 0
        while chunk := await stream.read(CHUNK):
            total += len(chunk)
            *whole, rest = (rest + chunk).split(b"\n")
            if total > MAX_OUTPUT or len(rest) > MAX_LINE:
                raise ReplyGarbled(f"{name} says too much")
            for line in whole:
                on_line(line)
        if rest:
            on_line(rest)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(lines(process.stdout), name="stdout")
            group.create_task(complaints(process.stderr), name="stderr")
    except* ReplyGarbled as found:
        raise ReplyGarbled(f"{name} says too much") from found
    return " ".join(tail.decode(errors="replace").split())


def _kill_group(process: Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
