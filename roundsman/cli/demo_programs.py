"""The demo's programs as children that never outlive it, whatever ends it."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from roundsman.cli.failures import Failure

TAIL_LINES: Final = 20
STOP_WITHIN_S: Final = 6.0
_SET_PARENT_DEATH_SIGNAL: Final = 1  # prctl(2)
_SET_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True)
class Program:
    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ending(self) -> str | None:
        """How it ended; None while it runs. It is left to be waited for.

        Asked also by a signal's handler, in the middle of the same question: Popen.poll would then
        find its own lock taken, and say that the program runs.
        """
        if (code := self.process.returncode) is None:
            ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return None
            code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return f"signal {-code}" if code < 0 else f"exit code {code}"


class Programs:
    """Starts programs, notices when one ends, and ends them in the opposite order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Program] = []
        self._starts_again = False
        self._pid = os.getpid()
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> "Programs":
        # What a killed child leaves behind (its broker) becomes ours, and ends with us.
        self._libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGCHLD, self._on_child)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C does not leave half of it
        self._stop()

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a program in the demo's folder; its output goes to `logs/{name}.log`.

        Raises Failure where it has ended at once, before anybody knew it.
        """
        log = self._folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        self._running.append(self._started(name, command, env, log))
        self.check()

    def start_again(self) -> Iterator[str]:
        """From now on whatever ends is started again: says what, each time it is asked."""
        self._starts_again = True
        for number, program in enumerate(self._running):
            if program.ending is not None:
                yield f"{program.name} has ended ({program.ending}) and is started again"
                program.process.wait()
                self._running[number] = self._started(
                    program.name, program.command, program.env, program.log
                )

    def _started(
        self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path
    ) -> Program:
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
                start_new_session=True,  # Ctrl-C reaches the demo alone, which ends them in order
                preexec_fn=self._die_with_parent,
            )
        return Program(name, command, env, process, log)

    def check(self) -> None:
        """Raise Failure when a program has ended: which one, and how its log ends."""
        for program in self._running:
            if program.ending is not None:
                raise Failure(
                    f"The program {program.name} has ended ({program.ending}); its log ends:\n"
                    f"{tail(program.log)}",
                    f"See {program.log}",
                )

    def logs(self) -> str:
        """How every log ends, for an error that is nobody's in particular."""
        return "\n".join(f"--- {each.log}\n{tail(each.log, 5)}" for each in self._running)

    def _on_child(self, number: int, frame: FrameType | None) -> None:
        if not self._starts_again:
            self.check()

    def _die_with_parent(self) -> None:
        self._libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != self._pid:  # it died before we asked to be told
            os.kill(os.getpid(), signal.SIGKILL)

    def _stop(self) -> None:
        for program in reversed(self._running):
            program.process.terminate()
        until = time.monotonic() + STOP_WITHIN_S
        for program in reversed(self._running):
            try:
                program.process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
        for pid in _children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return "(no log)"


def _children() -> list[int]:
    with suppress(OSError):
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return [int(word) for word in text.split()]
    return []


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
