"""Real programs as subprocesses: logs kept in files, waited for with a deadline, surely ended."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.kit.waiting import wait_until
from tests.kit.warm_starts import IS_POSSIBLE, PROGRAMS, Copy, WarmStarts

REPOSITORY = Path(__file__).resolve().parents[2]
_TAIL_LINES = 60
Warm = Callable[[Path, Mapping[str, str]], Copy | None]


class ProgramEnded(AssertionError):
    """A program ended while a test waited for something it should do."""


def _dying_with_us() -> list[str]:
    """Words before a command, so that nothing outlives a test run that was killed.

    The signal comes when the thread that started it ends, so only the main one may ask for it.
    """
    tool = shutil.which("setpriv")
    if tool is None or threading.current_thread() is not threading.main_thread():
        return []
    return [tool, "--pdeathsig", "KILL", "--"]


class Program:
    """One program in a process group of its own. Its output goes to `log`, all starts in a row.

    `warm` starts it quicker, where it can.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        warm: Warm | None = None,
    ) -> None:
        self.name = name
        self.command = [str(word) for word in command]
        self.log = log
        self.env = dict(env or {})  # read at each start
        self._cwd = cwd
        self._warm = warm
        self._process: subprocess.Popen[bytes] | Copy | None = None
        self._read_from = 0  # where the log of the current start begins

    def start(self) -> Self:
        """Start it, again if need be. Raises AssertionError when it still runs."""
        assert not self.is_running, f"{self.name} already runs"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as out:
            self._read_from = out.tell()
            self._process = self._warm(self.log, self.env) if self._warm is not None else None
            if self._process is not None:
                return self
            self._process = subprocess.Popen(
                [*_dying_with_us(), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.env},
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return None if self._process is None else self._process.poll()

    def output(self) -> str:
        """All it has printed since its last start."""
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as file:
            file.seek(self._read_from)
            return file.read().decode(errors="replace")

    def tail(self, lines: int = _TAIL_LINES) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def wait_for_line(self, pattern: str, deadline_s: float = 20.0) -> re.Match[str]:
        """The first match of `pattern` in its output since the last start.

        Raises ProgramEnded when it ends before, WaitedTooLong at the deadline.
        """

        def look() -> re.Match[str] | None:
            running = self.is_running
            found = re.search(pattern, self.output(), re.MULTILINE)
            if found is None and not running:
                raise ProgramEnded(self._said(f"ended before it printed {pattern!r}"))
            return found

        found = wait_until(look, deadline_s, lambda: self._said(f"never printed {pattern!r}"))
        assert found is not None
        return found

    def wait_for_http(self, url: str, deadline_s: float = 20.0, status: int = 200) -> bytes:
        """The body of the first answer from `url` with that status."""

        def ask() -> tuple[bytes] | None:
            if not self.is_running:
                raise ProgramEnded(self._said(f"ended before it answered {url}"))
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    return (answer.read(),) if answer.status == status else None
            except urllib.error.HTTPError as error:
                with error:
                    return (error.read(),) if error.code == status else None
            except (OSError, TimeoutError):
                return None

        answer = wait_until(ask, deadline_s, lambda: self._said(f"no {status} from {url}"))
        assert answer is not None
        return answer[0]

    def wait(self, deadline_s: float = 20.0) -> int:
        """Its exit code, once it has ended by itself."""
        wait_until(lambda: not self.is_running, deadline_s, lambda: self._said("did not end"))
        code = self.returncode
        assert code is not None
        return code

    def terminate(self, deadline_s: float = 20.0) -> int:
        """SIGTERM to the program alone, as an init system would; its exit code."""
        if self.is_running:
            self._signal(signal.SIGTERM)
        return self.wait(deadline_s)

    def interrupt(self, deadline_s: float = 20.0) -> int:
        """SIGINT to its whole group, as Ctrl-C in a terminal would; its exit code."""
        if self.is_running:
            os.killpg(self.pid, signal.SIGINT)
        return self.wait(deadline_s)

    def kill_9(self) -> None:
        """SIGKILL to the program alone; its children live on."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(timeout=20)

    def stop(self) -> None:
        """SIGSTOP: it keeps its sockets and does nothing."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        self._signal(signal.SIGCONT)

    def memory_bytes(self) -> int:
        """Resident memory of the program alone."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def close(self) -> None:
        """End it and everything it started, whatever state they are in. May be called twice."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(timeout=20)

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} was never started"
        self._process.send_signal(number)

    def _said(self, what: str) -> str:
        state = "running" if self.is_running else f"exit code {self.returncode}"
        return f"{self.name} {what} ({state}); its log ends:\n{self.tail()}"


class Programs:
    """All programs of one test; the fixture `programs` ends them and shows their logs.

    With `warm_starts` those of ours are copies of processes that have imported them.
    """

    def __init__(self, folder: Path, warm_starts: WarmStarts | None = None) -> None:
        self.folder = folder
        self._warm_starts = warm_starts
        self._programs: list[Program] = []

    def start(
        self,
        name: str,
        *command: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        warm: Warm | None = None,
    ) -> Program:
        """Start any command, logging to `<folder>/<name>.log`."""
        log = self.folder / f"{name}.log"
        program = Program(name, command, log, env=env, cwd=cwd, warm=warm)
        self._programs.append(program)
        return program.start()

    def python(
        self,
        module: str,
        *arguments: str | Path,
        name: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Program:
        """Start `python -m module`, as in `programs.python("cloud", "--config", path)`."""
        command = [sys.executable, "-m", module, *arguments]
        warm = self._warm(module, arguments)
        return self.start(name or module, *command, env=env, cwd=REPOSITORY, warm=warm)

    def roundsman(
        self, *arguments: str | Path, name: str = "", env: Mapping[str, str] | None = None
    ) -> Program:
        """Start the console script."""
        script = Path(sys.executable).with_name("roundsman")
        warm = self._warm("roundsman", arguments)
        name = name or f"roundsman-{arguments[0]}"
        return self.start(name, script, *arguments, env=env, warm=warm)

    def _warm(self, program: str, arguments: Sequence[str | Path]) -> Warm | None:
        starts, words = self._warm_starts, [str(word) for word in arguments]
        if starts is None or program not in PROGRAMS:
            return None
        return lambda log, env: starts.start(program, words, log, env)

    def tails(self) -> Iterator[tuple[str, str]]:
        for program in self._programs:
            yield program.name, program.tail()

    def close(self) -> None:
        for program in reversed(self._programs):
            program.close()


@contextmanager
def warm_starts() -> Iterator[WarmStarts | None]:
    """What starts our programs quicker within the block; None where the system cannot."""
    starts = WarmStarts(REPOSITORY, _dying_with_us()) if IS_POSSIBLE else None
    try:
        yield starts
    finally:
        if starts is not None:
            starts.close()


@contextmanager
def programs_in(folder: Path, warm_starts: WarmStarts | None = None) -> Iterator[Programs]:
    """Programs that log to `folder` and do not outlive the block."""
    programs = Programs(folder, warm_starts)
    try:
        yield programs
    finally:
        programs.close()
