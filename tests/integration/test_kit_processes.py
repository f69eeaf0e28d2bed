"""The kit starts real programs, sees what they do, and leaves none behind."""

import signal
import sys

import psutil
import pytest

from tests.kit.ports import free_port
from tests.kit.processes import ProgramEnded, Programs, programs_in
from tests.kit.waiting import WaitedTooLong, wait_until
from tests.kit.warm_starts import IS_POSSIBLE

SERVER = "import sys, http.server as h; s = h.HTTPServer(('127.0.0.1', int(sys.argv[1])),"
SERVER += " h.SimpleHTTPRequestHandler); print('listens on', sys.argv[1]); s.serve_forever()"
PARENT = "import subprocess, sys; p = subprocess.Popen(['sleep', '600'], start_new_session=True);"
PARENT += " print('child', p.pid); p.wait()"


def test_a_program_is_ready_when_it_says_so_or_answers(programs: Programs, tmp_path):
    port = str(free_port())
    server = programs.start("server", sys.executable, "-c", SERVER, port, cwd=tmp_path)
    assert server.wait_for_line(r"listens on (\d+)").group(1) == port
    assert b"logs" in server.wait_for_http(f"http://127.0.0.1:{port}/")
    assert server.memory_bytes() > 1_000_000
    assert server.terminate() == -signal.SIGTERM


def test_waiting_for_a_program_that_ended_fails_at_once_with_its_log(programs: Programs):
    program = programs.start("short", sys.executable, "-c", "print('no config'); exit(3)")
    with pytest.raises(ProgramEnded, match=r"(?s)short ended .*exit code 3.*no config"):
        program.wait_for_line("ready", deadline_s=60)
    assert program.returncode == 3


def test_a_program_that_never_gets_ready_fails_at_the_deadline_with_its_log(programs: Programs):
    wait = "import signal; print('hm'); signal.pause()"
    program = programs.start("stuck", sys.executable, "-c", wait)
    program.wait_for_line("hm")
    with pytest.raises(WaitedTooLong, match=r"(?s)stuck never printed 'ready' \(running\).*hm"):
        program.wait_for_line("ready", deadline_s=0)


def test_a_stopped_program_is_frozen_until_it_may_go_on(programs: Programs):
    program = programs.start("sleeper", "sleep", "600")
    program.stop()
    status = psutil.Process(program.pid).status
    wait_until(lambda: status() == psutil.STATUS_STOPPED, message="frozen")
    program.cont()
    wait_until(lambda: status() == psutil.STATUS_SLEEPING, message="going on")
    program.kill_9()
    assert program.returncode == -signal.SIGKILL


def test_a_second_start_reads_only_its_own_output(programs: Programs):
    program = programs.start("echo", "echo", "once more")
    assert program.wait() == 0
    assert program.start().wait() == 0
    assert program.output() == "once more\n"
    assert program.tail() == "once more\nonce more"


def test_nothing_outlives_its_test_even_in_a_session_of_its_own(tmp_path):
    with programs_in(tmp_path) as programs:
        parent = programs.start("parent", sys.executable, "-c", PARENT)
        child = int(parent.wait_for_line(r"child (\d+)").group(1))
    wait_until(lambda: not psutil.pid_exists(child) or is_dead(child), message="child gone")
    assert not parent.is_running


def is_dead(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.skipif(not IS_POSSIBLE, reason="programs can be copied on Linux only")
def test_a_warm_program_is_a_process_of_its_own_and_ends_as_any_other(programs: Programs, tmp_path):
    scenario = tmp_path / "nobody.json"
    scenario.write_text('{"devices": [{"personality": "smp", "ids": ["pump-1"]}]}')
    first = programs.python("firmware_sim", scenario, "--dir", tmp_path / "a", name="first")
    second = programs.python("firmware_sim", scenario, "--dir", tmp_path / "b", name="second")
    for program in (first, second):
        program.wait_for_line("^pump-1 smp ")
    assert first.pid != second.pid
    mother = psutil.Process(first.pid).parent()
    assert "tests.kit.mother" in mother.cmdline()
    assert first.terminate() == 0
    second.kill_9()
    assert second.returncode == -signal.SIGKILL
    second.start().wait_for_line("^pump-1 smp ")
    second.close()
    assert not psutil.pid_exists(second.pid)
    help_text = programs.python("gateway", "--help", name="help")
    assert help_text.wait() == 0
    assert "usage: roundsman gateway" in help_text.output()
    wrong = programs.python("gateway", tmp_path / "none.yaml", name="wrong")
    assert wrong.wait() == 2
    assert "none.yaml" in wrong.output()


def test_a_program_with_an_environment_of_its_own_imports_everything_under_it(programs: Programs):
    program = programs.python("gateway", "--help", env={"ROUNDSMAN_CRASH_AT": "nowhere:1"})
    assert program.wait() == 1
    assert "nowhere" in program.output()  # read at import, and not a place
