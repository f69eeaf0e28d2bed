"""Every command that the pages on planned operations name is one that the command line knows."""

import re
from pathlib import Path

import pytest

from tests.kit.processes import REPOSITORY, Programs

PAGES = ("retire-a-gateway", "replace-a-gateway", "wipe-a-gateway", "move-devices")
_COMMAND = re.compile(r"roundsman ((?:gateways|devices|recovery) [a-z]+)")


@pytest.mark.row("E12")
@pytest.mark.parametrize("page", [*PAGES, "restore-the-cloud"])
def test_pages_name_commands_that_exist(page: str, programs: Programs, tmp_path: Path):
    text = (REPOSITORY / "docs" / "how-to" / f"{page}.md").read_text()
    named = sorted(set(_COMMAND.findall(text)))
    assert named
    for words in named:
        program = programs.roundsman(*words.split(), "--help", name=f"{page}-{words}")
        assert program.wait(60) == 0, program.tail()
        for option in re.findall(rf"roundsman {words}[^\n]*?(--[a-z-]+)", text):
            assert option in program.output(), f"{words} has no {option}"
