"""The oracle of the campaign finds what it is for: each broken promise, and none that was kept."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.campaign.evidence import Books, Evidence
from tests.campaign.oracle import judge
from tests.campaign.story import Story, make_story
from tests.kit.rig_jobs import ask, command_job

RUN = "run-1"
TAG = f"{RUN}-0/1/p"


def evidence(status="succeeded", code=None, pulses=1, **changes: Any) -> Evidence:
    """One task of one pulse, whole and true; `changes` spoil it."""
    failure = {"code": code} if code else None
    step = {"id": "p", "uses": "device.command", "status": status, "failure": failure}
    snapshot = {"status": status, "revision": 5, "steps": [step]}
    attempt = {"run": RUN, "ordinal": 0, "attempt": 1, "status": status, "revision": 5,
               "gateway": "north", "failure_code": code, "late": None, "late_revision": None,
               "snapshot": json.dumps(snapshot)}  # fmt: skip
    journaled = {"task": f"{RUN}-0", "attempt": 1, "status": status, "revision": 5,
                 "refused_code": None, "forgotten": 0}  # fmt: skip
    books = Books(
        tasks=[{"run": RUN, "ordinal": 0, "device": "meter", "status": status}],
        attempts=[attempt],
        counts={RUN: Counter({status: 1})},
        held=[],
        refused=[],
        journals={"north": [journaled]},
    )
    job = command_job("commands", [ask("pulse", "p", tag="x")])
    made = Evidence(
        story=Story(1, (job,), (), "2.0.0"),
        books=books,
        experiences=[{"what": "pulse", "device": "meter", "tag": TAG}] * pulses,
        truths={},
        receipts=[{"task": f"{RUN}-0", "attempt": 1, "revision": 5}],
        deaths=Counter(),
        strange=[],
        late=0,
        doubled=0,
    )
    return replace(made, **changes)


@pytest.mark.row("E1")
def test_a_true_story_breaks_no_promise():
    assert judge(evidence()) == []
    assert judge(evidence("failed", "device_refused", pulses=0)) == []


@pytest.mark.parametrize("pulses", [0, 1])
def test_what_nobody_can_know_is_excused_where_the_process_died(pulses):
    died = evidence("failed", "interrupted", pulses, deaths=Counter(north=1))
    assert judge(died) == []
    assert "never died" in judge(replace(died, deaths=Counter()))[0]


def spoiled(**changes: Any) -> Evidence:
    whole = evidence()
    return replace(whole, books=replace(whole.books, **changes))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (evidence(pulses=2), "happened 2 times"),
        (evidence(pulses=0), "succeeded, and happened 0 times"),
        (evidence("failed", "device_refused"), "failed with device_refused, and happened"),
        (evidence("failed", "crashed_gateway", deaths=Counter(north=2)), "blames 2 crashes"),
        (evidence(strange=["cloud ended: 1"]), "cloud ended: 1"),
        (evidence(receipts=[{"task": f"{RUN}-0", "attempt": 1, "revision": 6}]), "was receipted"),
        (evidence(receipts=[{"task": f"{RUN}-0", "attempt": 2, "revision": 1}]), "was receipted"),
        (spoiled(counts={RUN: Counter(succeeded=2)}), "a recount says"),
        (spoiled(held=[{"id": "meter", "held_by": "x"}]), "still held"),
        (spoiled(attempts=[]), "unknown to the cloud"),
        (spoiled(tasks=[{"run": RUN, "ordinal": 0, "device": "m", "status": "running"}]),
         "has not ended"),
    ],
)  # fmt: skip
def test_each_broken_promise_is_named(bad, said):
    assert any(said in problem for problem in judge(bad)), judge(bad)


def test_a_seed_always_tells_the_same_story():
    assert make_story(7) == make_story(7) != make_story(8)
    kinds = {fault.kind for seed in range(200) for fault in make_story(seed).faults}
    assert len(kinds) == 9
