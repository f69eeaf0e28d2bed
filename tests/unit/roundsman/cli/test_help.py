"""Help answers at once, and every command has an example."""

import subprocess
import sys

import pytest

from tests.kit.cli_help import commands, help_of

HEAVY = ("httpx", "rich", "pydantic", "yaml", "jinja2")


def test_help_of_the_root_imports_nothing_heavy():
    code = (
        "import sys\nfrom roundsman.cli.app import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print('HEAVY:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "HEAVY: []" in done.stdout


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_a_help_with_an_example(words):
    text = help_of(words)
    assert "Example:" in text
    assert "\n    roundsman " in text


@pytest.mark.parametrize("words", [w for w in commands() if len(w) == 2], ids=" ".join)
def test_every_verb_takes_the_shared_options(words):
    text = help_of(words)
    for option in ("--output", "--url", "--token", "--server"):
        assert option in text


def test_the_nouns_and_verbs_are_these():
    assert [" ".join(words) for words in commands()] == [
        "cloud",
        "gateway",
        "sim",
        "demo",
        "jobs create",
        "jobs save",
        "jobs duplicate",
        "jobs list",
        "jobs get",
        "jobs run",
        "jobs preview",
        "jobs pause",
        "jobs resume",
        "jobs delete",
        "jobs references",
        "runs list",
        "runs get",
        "runs tasks",
        "runs log",
        "runs results",
        "runs triggers",
        "runs extend",
        "runs link",
        "runs watch",
        "runs wait",
        "runs cancel",
        "runs postpone",
        "runs pause",
        "runs resume",
        "runs change",
        "runs retry",
        "runs report",
        "tasks get",
        "tasks acknowledge",
        "tasks acknowledgment-token",
        "devices list",
        "devices get",
        "devices free",
        "devices move",
        "devices certificates",
        "devices state",
        "devices edit",
        "devices import",
        "devices export",
        "devices act",
        "gateways list",
        "gateways get",
        "gateways orphans",
        "gateways create",
        "gateways replace",
        "gateways retire",
        "gateways stop",
        "gateways start",
        "holds list",
        "holds set",
        "holds lift",
        "emergency stop",
        "emergency release",
        "groups create",
        "groups list",
        "groups get",
        "groups members",
        "groups edit",
        "groups add",
        "groups remove",
        "groups delete",
        "users create",
        "users list",
        "users get",
        "users edit",
        "users delete",
        "users import",
        "users export",
        "tables create",
        "tables list",
        "tables get",
        "tables delete",
        "tables rows",
        "tables add",
        "tables set",
        "tables import",
        "tables export",
        "tables delete-rows",
        "secrets set",
        "secrets list",
        "secrets delete",
        "ca show",
        "recovery show",
        "recovery release",
        "audit list",
        "artifacts push",
        "artifacts list",
        "profiles deploy",
        "profiles withdraw",
        "profiles list",
        "doctor",
    ]
