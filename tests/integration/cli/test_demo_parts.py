"""The demo's folder and its children: nothing of others is deleted, nothing of ours outlives it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from roundsman.cli.demo_site import new_site
from roundsman.cli.failures import Failure
from tests.kit.waiting import wait_until

CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {0!r}]); {0}"
SLEEP = "import time; time.sleep(600)"


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(Failure, match="no demo made it"), new_site(tmp_path, None):
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_the_demos_own_folder_is_made_anew(tmp_path: Path):
    with new_site(tmp_path / "demo", None) as site:
        (site.folder / "old").mkdir()
        (site.folder / "old" / "file").touch()
    with new_site(tmp_path / "demo", None) as site:
        assert not (site.folder / "old").exists()
        assert (site.folder / "job.yaml").exists()
        assert len({site.http_port, site.broker_port, *site.local_brokers.values()}) == 4


def test_two_demos_do_not_share_a_folder(tmp_path: Path):
    with (
        new_site(tmp_path, None),
        pytest.raises(Failure, match="Another demo runs"),
        new_site(tmp_path, None),
    ):
        pass


def test_both_images_are_real_and_signed(tmp_path: Path):
    from contract.device.mcuboot import parse_header

    with new_site(tmp_path, None) as site:
        site.build_images()
        header = parse_header(site.image.read_bytes())
    assert str(header.version).startswith("2.4.1")


def a_demo(
    folder: Path, body: str, *, stays: bool = False, before: str = ""
) -> subprocess.Popen[str]:
    """A process that starts a child, which starts another, as the cloud does its broker."""
    again = "[print(news, flush=True) for news in programs.start_again()]; " if stays else ""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from roundsman.cli.demo_programs import Programs\n"
        f"{before}"
        f"with Programs(Path({str(folder)!r})) as programs:\n"
        f"    programs.start('cloud', [sys.executable, '-c', {body!r}], {{}})\n"
        f"    {again or 'pass'}\n"
        "    print('started', flush=True)\n"
        f"    while True: {again}time.sleep(0.05)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def family(demo: subprocess.Popen[str], size: int) -> list[psutil.Process]:
    children = psutil.Process(demo.pid).children
    wait_until(lambda: len(children(recursive=True)) == size)
    return children(recursive=True)


def close(demo: subprocess.Popen[str]) -> str:
    with demo:
        try:
            _, err = demo.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            demo.kill()  # what fails here fails nowhere else
            raise
    return err


def test_ctrl_c_ends_children_and_what_they_leave_behind(tmp_path: Path):
    demo = a_demo(tmp_path, CHILD.format(SLEEP))
    processes = family(demo, 2)
    demo.send_signal(signal.SIGINT)
    close(demo)
    wait_until(lambda: not any(each.is_running() for each in processes))


def test_children_of_a_demo_that_is_killed_end_too(tmp_path: Path):
    demo = a_demo(tmp_path, SLEEP)
    (child,) = family(demo, 1)
    demo.kill()
    close(demo)
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_program_that_ends_is_named_with_the_tail_of_its_log(tmp_path: Path):
    demo = a_demo(tmp_path, "import sys; sys.exit('the disk is full')")
    err = close(demo)
    assert demo.returncode == 1
    assert "The program cloud has ended (exit code 1); its log ends:\nthe disk is full" in err


def test_a_program_that_ends_before_it_is_known_is_named_too(tmp_path: Path):
    late = (
        "class Late(Programs):\n"
        "    def _started(self, *words):\n"
        "        found = super()._started(*words)\n"
        "        while found.ending is None: time.sleep(0.01)\n"
        "        return found\n"
        "Programs = Late\n"
    )
    demo = a_demo(tmp_path, "import sys; sys.exit('the disk is full')", before=late)
    assert "The program cloud has ended (exit code 1)" in close(demo)


def test_a_demo_that_stays_starts_again_what_was_killed(tmp_path: Path):
    demo = a_demo(tmp_path, SLEEP, stays=True)
    assert demo.stdout is not None
    assert demo.stdout.readline() == "started\n"  # before that it would give up
    (child,) = family(demo, 1)
    child.kill()
    wait_until(lambda: child not in psutil.Process(demo.pid).children())
    (second,) = family(demo, 1)
    assert second.pid != child.pid
    demo.send_signal(signal.SIGTERM)
    said, _ = demo.communicate(timeout=20)
    assert "cloud has ended (signal 9) and is started again" in said


def test_the_demo_needs_no_terminal_and_says_which_port_is_taken(tmp_path: Path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code = "from roundsman.cli.app import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "demo", "--port", port, "--dir", str(tmp_path / "d")],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
            timeout=60,
        )
    assert done.returncode == 1
    assert f"Port {port} is taken\nTry: Choose another: --port 9000\n" in done.stderr
