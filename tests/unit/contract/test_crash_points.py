"""Crash points: the words of ROUNDSMAN_CRASH_AT, when a plan ends a process, and what they cost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.crash_points import CrashPlan, CrashRule, parse_rules
from tests.kit.processes import REPOSITORY

KNOWN = ["journal.before_commit", "device.after_ask"]


@pytest.mark.row("E1")
def test_rules_name_a_place_what_it_is_about_and_when():
    text = "journal.before_commit@save:3; device.after_ask:0.25;"
    assert parse_rules(text, KNOWN) == (
        CrashRule("journal.before_commit", "save", nth=3),
        CrashRule("device.after_ask", None, chance=0.25),
    )
    assert parse_rules("", KNOWN) == ()


@pytest.mark.parametrize(
    "text", ["nowhere:1", "device.after_ask", "device.after_ask:0", "device.after_ask:2.5", "x:y:z"]
)
def test_what_is_no_rule_is_refused_by_name(text):
    with pytest.raises(ValueError, match=re.escape(text.split(":")[0])):
        parse_rules(text, KNOWN)


def test_a_rule_with_a_count_ends_it_that_time_and_only_about_what_it_names():
    plan = CrashPlan(parse_rules("device.after_ask@pump-2:2", KNOWN))
    asked = ["pump-1", "pump-2", "pump-1", "pump-2", "pump-2"]
    assert [plan.ends_here("device.after_ask", one) for one in asked] == [
        False, False, False, True, False,
    ]  # fmt: skip


def test_a_rule_by_chance_is_alike_for_the_same_seed():
    def ends(seed):
        plan = CrashPlan(parse_rules("device.after_ask:0.1", KNOWN), seed)
        return [plan.ends_here("device.after_ask", "") for _ in range(1000)]

    assert ends("a") == ends("a") != ends("b")
    assert 50 < sum(ends("a")) < 200


@pytest.mark.parametrize("program", ["gateway", "cloud"])
def test_every_place_named_in_the_code_is_listed_and_the_other_way_round(program):
    used: set[str] = set()
    for path in (REPOSITORY / program).rglob("*.py"):
        used |= set(re.findall(r'reach\(\s*"([a-z_.]+)"', path.read_text()))
    listed = subprocess.run(
        [sys.executable, "-m", f"{program}.crash_points"],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    ).stdout.splitlines()  # fmt: skip
    assert {line.split()[0] for line in listed} == used


@pytest.mark.parametrize("program", ["gateway", "cloud"])
def test_an_armed_place_ends_the_process_without_a_word_and_an_unarmed_one_does_nothing(
    program, tmp_path: Path
):
    place = {"gateway": "journal.after_commit", "cloud": "database.after_commit"}[program]
    code = f"import {program}.crash_points as c; c.reach('{place}', 'x'); print(c.IS_ARMED)"

    def run(**env):
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=REPOSITORY
        )

    assert (run().returncode, run().stdout) == (0, "False\n")
    log = tmp_path / "places"
    ended = run(ROUNDSMAN_CRASH_AT=f"{place}@x:1", ROUNDSMAN_CRASH_LOG=str(log))
    assert (ended.returncode, ended.stdout) == (-9, "")
    assert log.read_text().splitlines() == [f"{program} {place}", f"{program} ! {place} x"]
