"""Starts our programs as copies of processes that have imported them: see `tests/kit/mother.py`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.kit.mother import PROGRAMS as PROGRAMS  # which can be started so

IS_POSSIBLE: Final = sys.platform == "linux"
_LOOK_AGAIN_AFTER_S: Final = 0.005


class Copy:
    """A program that runs, with those methods of `subprocess.Popen` that the kit uses."""

    def __init__(self, mother: "_Mother", pid: int) -> None:
        self.pid = pid
        self._mother = mother
        self._ended: int | None = None

    def poll(self) -> int | None:
        if self._ended is None:
            self._ended = self._mother.ask({"poll": self.pid})["ended"]
        return self._ended

    def wait(self, timeout: float) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        until = time.monotonic() + timeout
        while (ended := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_LOOK_AGAIN_AFTER_S)
        return ended

    def send_signal(self, number: signal.Signals) -> None:
        # One that has ended keeps its number until the mother is asked for it.
        if self.poll() is None:
            os.kill(self.pid, number)


class _Mother:
    def __init__(
        self, program: str, folder: Path, before: Sequence[str], env: Mapping[str, str]
    ) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tests.kit.mother", program, str(theirs.fileno())]
            self._process = subprocess.Popen(
                [*before, *command],
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env=env,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        self._lines = ours.makefile("rw", encoding="utf-8")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._lines.write(json.dumps(request) + "\n")
            self._lines.flush()
            answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
        self._process.wait(timeout=20)


class WarmStarts:
    """The mothers of one test run, each made when it is needed first.

    `folder` is where they and their copies work; the words `before` stand before their commands.
    """

    def __init__(self, folder: Path, before: Sequence[str] = ()) -> None:
        self._folder, self._before = folder, before
        self._env = _environment()
        self._mothers: dict[str, _Mother] = {}
        self._lock = threading.Lock()

    def start(
        self, program: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]
    ) -> Copy | None:
        """None where the environment is another: it may mean something to what is imported.

        The command line reads what is in `env` when it runs.
        """
        if _environment() != self._env or (env and program != "roundsman"):
            return None
        with self._lock:
            if program not in self._mothers:
                made = _Mother(program, self._folder, self._before, self._env)
                self._mothers[program] = made
            mother = self._mothers[program]
        asked = {"arguments": list(arguments), "log": str(log), "env": dict(env)}
        return Copy(mother, mother.ask(asked)["pid"])

    def close(self) -> None:
        for mother in self._mothers.values():
            mother.close()
        self._mothers.clear()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {**kept, "PYTHONUNBUFFERED": "1"}
