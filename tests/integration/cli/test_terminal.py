"""On a terminal: tables, bars, and Ctrl-C that stops the watching only."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from contract.lifecycle import RunStatus, TaskStatus
from tests.kit.fake_api import RUN_ID, Asked, FakeApi, Raw, a_run, a_task, events
from tests.kit.waiting import wait_until


class Terminal:
    """`roundsman ...` on a pty of 80 by 24."""

    def __init__(self, api: FakeApi, words: tuple[str, ...], env: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self.text = ""
        given = {"ROUNDSMAN_URL": api.url, "TERM": "xterm-256color", "COLUMNS": "100", **env}
        inherited = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        code = "from roundsman.cli.app import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**inherited, **given},
        )
        os.close(theirs)

    def read(self) -> str:
        with suppress(BlockingIOError, OSError):
            while chunk := os.read(self._ours, 65536):
                self.text += chunk.decode(errors="replace")
        return self.text

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.read(), 20, lambda: f"{text!r} in {self.text!r}")

    def wait(self) -> int:
        wait_until(lambda: self.read() and self.process.poll() is not None, 20, lambda: self.text)
        self.read()
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=10)
        os.close(self._ours)


@contextmanager
def on_terminal(api: FakeApi, *words: str, **env: str) -> Iterator[Terminal]:
    terminal = Terminal(api, words, env)
    try:
        yield terminal
    finally:
        terminal.close()


def test_a_list_is_a_table_with_titles_and_colour(api: FakeApi):
    api.on("GET /runs", [a_run(RunStatus.FAILED)])
    with on_terminal(api, "runs", "list", COLUMNS="160") as terminal:
        assert terminal.wait() == 0
    assert "STATUS" in terminal.text
    assert RUN_ID in terminal.text
    assert "\x1b[31mfailed" in terminal.text


def test_no_color_is_obeyed(api: FakeApi):
    api.on("GET /runs", [a_run(RunStatus.FAILED)])
    with on_terminal(api, "runs", "list", NO_COLOR="1") as terminal:
        assert terminal.wait() == 0
    assert "\x1b[3" not in terminal.text


def test_bars_are_drawn_for_the_run_and_each_device(api: FakeApi):
    ended = a_run(RunStatus.SUCCEEDED, progress=100)
    api.on("GET /events", events(ended))
    api.on(f"GET /runs/{RUN_ID}", a_run(), ended)
    api.on(f"GET /runs/{RUN_ID}/tasks", [a_task(n, TaskStatus.SUCCEEDED) for n in range(3)])
    with on_terminal(api, "runs", "watch", RUN_ID) as terminal:
        assert terminal.wait() == 0
    assert "━" in terminal.text
    for device in ("pump-0", "pump-1", "pump-2"):
        assert device in terminal.text


def test_ctrl_c_stops_the_watching_and_says_that_the_run_goes_on(api: FakeApi):
    def silent(asked: Asked) -> Raw:
        return Raw(b": nothing yet\n\n", "text/event-stream")

    api.on("GET /events", silent)
    api.on(f"GET /runs/{RUN_ID}", a_run())
    api.on(f"GET /runs/{RUN_ID}/tasks", [a_task(0)])
    with on_terminal(api, "runs", "watch", RUN_ID) as terminal:
        terminal.wait_for("pump-0")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert "the run goes on" in terminal.text
    assert f"roundsman runs cancel {RUN_ID}" in terminal.text
    assert all(asked.method == "GET" for asked in api.asked)
