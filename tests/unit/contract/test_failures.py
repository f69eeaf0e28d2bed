"""Each way to fail says what it means and what to do by hand, and no program uses another one."""

import re
from pathlib import Path

import pytest

from contract.failures import FAILURES
from contract.waiting import WAITS

pytestmark = pytest.mark.row("C9")
REPOSITORY = Path(__file__).resolve().parents[3]
# Where a program says how something failed: the code is the first text.
SAYS = re.compile(
    r"\b(?:Failure|Denied|Hopeless|Unanswered|StepRefused|StepUnanswered|_Stop|_failure|_step_failed"
    r"|_try_failed)\(\s*(?:code=)?\"([a-z_]+)\""
)


def codes_in(package: str) -> set[str]:
    return {
        code
        for file in sorted((REPOSITORY / package).rglob("*.py"))
        for code in SAYS.findall(file.read_text())
    }


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_every_failure_says_what_to_do_by_hand(code: str):
    kind = FAILURES[code]
    assert kind.sentence.endswith(".")
    assert len(kind.help.split()) >= 4
    assert kind.help.endswith(".")
    assert kind.help != kind.sentence


@pytest.mark.parametrize("code", sorted(WAITS))
def test_every_wait_says_what_ends_it(code: str):
    assert WAITS[code].sentence.endswith(".")
    assert WAITS[code].ends.endswith(".")


@pytest.mark.parametrize("package", ["gateway", "cloud"])
def test_programs_fail_in_known_ways_only(package: str):
    found = codes_in(package)
    assert len(found) > 5
    assert found <= FAILURES.keys()
