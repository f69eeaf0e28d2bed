"""What a failed story shows: how the logs of its programs end."""

import subprocess
import sys

from tests.kit.processes import REPOSITORY

STORY = """
import pytest

@pytest.mark.row("C9")
def test_that_fails(programs):
    program = programs.start("gateway", "echo", "link is down")
    program.wait()
    assert not "a story"
"""


def test_a_failed_story_shows_the_logs_of_its_programs(tmp_path):
    (tmp_path / "test_story.py").write_text(STORY)
    (tmp_path / "conftest.py").write_text((REPOSITORY / "tests" / "conftest.py").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", REPOSITORY / "pyproject.toml", "-q", tmp_path,
         "--rootdir", tmp_path, "-p", "no:cacheprovider"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "log of gateway" in done.stdout
    assert "link is down" in done.stdout
